"""The shop's store and its merged catalogue on PostgreSQL, on the session's kind cluster with its policies enforced."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.experiments import assert_no_order_was_lost, summary_of_last_run
from tests.support.kind_site import POLICIES, KindSite, Made
from tests.support.shop_in_pods import a_shop, must_confirm_an_order, ours, release_of
from tests.support.strangers import CONNECT, reaches

# Run by `make e2e ARGS=--full` only, until it has been seen to pass often.
pytestmark = [pytest.mark.full, pytest.mark.timeout(1500)]
needs_enforcement = pytest.mark.skipif(not POLICIES.exists(), reason="nothing here enforces network policies")
ON_POSTGRES = {"carts": "mongodb", "store": "postgres", "catalogue": "postgres"}
PRODUCTS = 20
ASK = """
import json, urllib.request
with urllib.request.urlopen("http://127.0.0.1:3000/api/products?limit=100") as answer:
    print(json.dumps([answer.headers.get("Catalogue-Missing"), json.load(answer)]))
"""
"""Of `python -c` in the catalogue's pod: what is missing, and the products."""
ORDERS = (
    "PGPASSWORD=$(cat /etc/postgres/secrets/shop-postgres.password) psql -h 127.0.0.1 -U postgres -At shop"
    " -c 'SELECT status, count(*) FROM orders GROUP BY status'"
)
"""Of `sh -c` in PostgreSQL's pod, as its administrator, whose password it and two Jobs have alone."""


def postgres(site: KindSite) -> str:
    return f"{ours(site)},app.kubernetes.io/component=postgres"


def volume(site: KindSite) -> str:
    (claim,) = site.get("pvc", postgres(site))
    return str(claim["spec"]["volumeName"])


def products(site: KindSite) -> list[dict[str, Any]]:
    """The merged catalogue; AssertionError while a source is away."""
    missing, found = json.loads(
        site.kubectl("exec", f"deployment/{release_of(site)}-catalogue", "--", "python", "-c", ASK)
    )
    assert missing is None, missing
    return list(found)


@pytest.fixture(scope="module")
def shop(made: Made) -> Iterator[KindSite]:
    """The session's cluster with a shop on PostgreSQL; it is gone again afterwards, its volume too."""
    with a_shop(made.site, ON_POSTGRES) as site:
        yield site
    site.kubectl("delete", "pvc,secret", ours(site))


def test_an_order_is_confirmed_by_way_of_postgresql(shop: KindSite) -> None:
    must_confirm_an_order(shop)
    status = json.loads(shop.run("shardmart", "status", "--json", accept=(0, 1)))
    assert status["problems"] == []
    told = shop.kubectl("exec", f"{release_of(shop)}-postgres-1", "--", "sh", "-c", ORDERS)
    assert told.splitlines() == ["confirmed|1"]


def test_every_product_has_its_three_parts_once(shop: KindSite) -> None:
    found = products(shop)
    assert len({product["id"] for product in found}) == len(found) == PRODUCTS
    for product in found:
        assert product["name"], product
        assert float(product["price"]) > 0, product
        assert product["metadata"]["description"], product
        assert int(product["stock"]) > 0, product


def test_second_run_changes_nothing(shop: KindSite) -> None:
    again = shop.play("site.yml")
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output
    planned = shop.play("site.yml", "--check")
    assert planned.code == 0, planned.output
    assert set(planned.changed.values()) == {0}, planned.output


def test_no_password_is_an_argument_or_in_the_log(shop: KindSite) -> None:
    pod = f"{release_of(shop)}-postgres-1"
    secret = json.loads(shop.kubectl("get", "secret", f"{release_of(shop)}-postgres", "-o", "json"))
    passwords = [base64.b64decode(value).decode() for value in secret["data"].values()]
    assert len(set(passwords)) == 7
    shown = shop.kubectl("exec", pod, "--", "cat", "/proc/1/cmdline", "/proc/1/environ") + shop.kubectl("logs", pod)
    shown += shop.run("helm", "get", "all", release_of(shop), "--namespace", shop.name)
    assert [password for password in passwords if password in shown] == []


@needs_enforcement
def test_it_answers_those_that_need_it_and_no_other(shop: KindSite) -> None:
    address = f"{release_of(shop)}-postgres.{shop.name}.svc.cluster.local:5432"
    assert reaches(shop, shop.name, address) == [False], "a pod of the namespace, with no label of ours"

    def from_(workload: str, *addresses: str) -> list[str]:
        return shop.kubectl("exec", workload, "--", "python3", "-c", CONNECT, *addresses).split()

    router = f"{shop.name}-mongos.{shop.name}.svc.cluster.local:27017"
    for service in ("order", "catalogue"):
        assert from_(f"deployment/{release_of(shop)}-{service}", address, router) == ["yes", "yes"], service
    for service in ("inventory", "payment", "notification"):
        assert from_(f"deployment/{release_of(shop)}-{service}", address, router) == ["yes", "no"], service
    assert from_(f"deployment/{release_of(shop)}-console", address) == ["no"]
    assert from_(f"pod/{release_of(shop)}-provider-0", address) == ["no"]
    assert from_(f"deployment/{shop.name}-toolbox", address) == ["yes"], "the ledger reads the store"


def test_a_store_that_would_change_is_refused_by_its_key(shop: KindSite) -> None:
    shop.write(backends=ON_POSTGRES | {"store": "mongodb"})
    try:
        for playbook in ("site.yml", "playbooks/shop.yml"):
            refused = shop.play(playbook)
            assert refused.code != 0
            assert "backends.store: the shop's orders are in postgres, the topology says mongodb" in refused.output
        release, namespace = release_of(shop), f"--namespace={shop.name}"
        upgrade = ("helm", "upgrade", release, "helm/shop", namespace, "--reuse-values", "--set=postgres.store=false")
        said = shop.run("sh", "-c", f"{' '.join(upgrade)} 2>&1", accept=(1,))
        assert "postgres.store: the orders of this shop are in PostgreSQL, these values say MongoDB" in said
    finally:
        shop.write(backends=ON_POSTGRES)


def test_a_pod_that_is_deleted_comes_back_with_its_data(shop: KindSite) -> None:
    pod = f"{release_of(shop)}-postgres-1"
    before, uid = volume(shop), shop.get("pods", postgres(shop))[0]["metadata"]["uid"]
    shop.kubectl("delete", "pod", pod)
    shop.kubectl("rollout", "status", f"statefulset/{release_of(shop)}-postgres", "--timeout=300s")
    assert shop.get("pods", postgres(shop))[0]["metadata"]["uid"] != uid
    assert volume(shop) == before
    shop.wait("the merged catalogue to be whole again", lambda: len(products(shop)) == PRODUCTS)
    must_confirm_an_order(shop)


def test_a_cache_whose_pod_is_deleted_keeps_the_stock(shop: KindSite) -> None:
    before = {product["id"]: product["stock"] for product in products(shop)}
    shop.kubectl("delete", "pod", f"{release_of(shop)}-cache-0")
    shop.kubectl("rollout", "status", f"statefulset/{release_of(shop)}-cache", "--timeout=300s")
    assert shop.wait("the stock to be there", lambda: {one["id"]: one["stock"] for one in products(shop)}) == before


@pytest.mark.parametrize("experiment", ["kill-store-primary", "partition-store"])
def test_no_order_is_lost_by(shop: KindSite, experiment: str) -> None:
    shop.run("shardmart", "chaos", "run", f"chaos/{experiment}.json")
    assert_no_order_was_lost(summary_of_last_run(shop.state))
