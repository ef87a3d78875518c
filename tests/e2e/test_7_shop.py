"""The shop on the session's kind cluster, its policies enforced: orders go through while every service is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.experiments import assert_no_order_was_lost, summary_of_last_run
from tests.support.kind_site import POLICIES, ROOT, KindSite, Made
from tests.support.shop_in_pods import a_shop, must_confirm_an_order, ours, release_of
from tests.support.strangers import CONNECT, reaches

BUYER = ROOT / "tests" / "support" / "buyer.py"
needs_enforcement = pytest.mark.skipif(not POLICIES.exists(), reason="nothing here enforces network policies")


@pytest.fixture(scope="module")
def shop(made: Made) -> Iterator[KindSite]:
    """The session's cluster with services in its topology; they are gone again afterwards."""
    with a_shop(made.site, {"carts": "mongodb"}, removed_by="playbooks/shop.yml") as site:
        yield site
    assert [claim["metadata"]["name"] for claim in site.get("pvc", ours(site))] == [
        f"data-{release_of(site)}-provider-0"
    ]


@pytest.mark.timeout(1200)
def test_an_order_is_confirmed_and_its_customer_is_told(shop: KindSite) -> None:
    must_confirm_an_order(shop)


@pytest.mark.timeout(1200)
def test_second_run_changes_nothing(shop: KindSite) -> None:
    again = shop.play("playbooks/shop.yml")
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output


@needs_enforcement
@pytest.mark.timeout(1200)
def test_provider_and_cache_answer_those_that_need_them_and_no_other(shop: KindSite) -> None:
    domain = f"{shop.name}.svc.cluster.local"
    places = {"order": 3001, "provider": 3010, "cache": 6379}
    addresses = [f"{release_of(shop)}-{name}.{domain}:{port}" for name, port in places.items()]
    assert reaches(shop, shop.name, *addresses) == [True, False, False], "a pod of the namespace, with no label of ours"

    def from_service(name: str) -> list[str]:
        deployment = f"deployment/{release_of(shop)}-{name}"
        return shop.kubectl("exec", deployment, "--", "python", "-c", CONNECT, *addresses).split()

    assert from_service("order")[1:] == ["no", "no"]
    assert from_service("payment") == ["no", "yes", "no"]
    assert from_service("inventory") == ["no", "no", "yes"]


def buyer(shop: KindSite) -> dict[str, Any]:
    """A pod that orders until it is told to stop: that of `helm test`, with another program."""
    hooks = yaml.safe_load_all(shop.run("helm", "get", "hooks", release_of(shop), "--namespace", shop.name))
    pod: dict[str, Any] = next(one for one in hooks if one and one["kind"] == "Pod")
    pod["metadata"] = {"name": "buyer", "namespace": shop.name, "labels": pod["metadata"]["labels"]}
    (container,) = pod["spec"]["containers"]
    del container["args"]
    container["command"] = ["python", "-c", BUYER.read_text()]
    return pod


@pytest.mark.timeout(1200)
def test_every_service_is_replaced_under_orders_without_a_failed_request(shop: KindSite) -> None:
    def names() -> set[str]:
        pods = shop.get(
            "pods", f"{ours(shop)},app.kubernetes.io/component in (catalogue,order,inventory,payment,notification)"
        )
        return {pod["metadata"]["name"] for pod in pods}

    def placed() -> int:
        lines = shop.kubectl("logs", "buyer").split()
        return int(lines[-1]) if lines else 0

    before = names()
    assert len(before) == 10
    shop.run("kubectl", "apply", "-f", "-", text=json.dumps(buyer(shop)))
    try:
        shop.wait("orders", lambda: placed() > 3)
        begun = placed()
        deployments = [
            f"deployment/{release_of(shop)}-{name}"
            for name in ("catalogue", "order", "inventory", "payment", "notification")
        ]
        shop.kubectl("rollout", "restart", *deployments)
        for deployment in deployments:
            shop.kubectl("rollout", "status", deployment, "--timeout=600s")
        shop.wait("the last old pod to be gone", lambda: not before & names())
        ended = placed()
        shop.wait("orders after it", lambda: placed() > ended + 3)
        shop.kubectl("exec", "buyer", "--", "touch", "/tmp/stop")
        shop.kubectl("wait", "pod/buyer", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s")
        told = json.loads(shop.kubectl("logs", "buyer").splitlines()[-1])
    finally:
        shop.kubectl("delete", "pod", "buyer", "--ignore-not-found", "--grace-period=1")
    print(f"\n{ended - begun} orders were placed while ten pods were replaced; {told}")
    assert ended > begun
    assert told["failed"] == []
    assert set(told["states"]) == {"confirmed"}


EXPERIMENTS = (
    "kill-service", "kill-all-instances", "kill-cache", "provider-down", "provider-slow", "shop-kill-primary",
    "shop-rolling-update", "latency-store", "partition-service",
)  # fmt: skip


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_order_is_lost_by(shop: KindSite, experiment: str) -> None:
    shop.run("shardmart", "chaos", "run", f"chaos/{experiment}.json")
    assert_no_order_was_lost(summary_of_last_run(shop.state))
