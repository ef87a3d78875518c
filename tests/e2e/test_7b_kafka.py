"""The shop's events on three brokers of Kafka, on the session's kind cluster with its policies enforced."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.experiments import assert_no_order_was_lost, summary_of_last_run
from tests.support.kind_site import POLICIES, KindSite, Made
from tests.support.shop_in_pods import a_shop, must_confirm_an_order, ours, release_of
from tests.support.strangers import CONNECT, reaches

# Run by `make e2e ARGS=--full` only, until it has been seen to pass often.
pytestmark = [pytest.mark.full, pytest.mark.timeout(1500)]
needs_enforcement = pytest.mark.skipif(not POLICIES.exists(), reason="nothing here enforces network policies")
ON_KAFKA = {"carts": "mongodb", "event_log": "kafka", "kafka_brokers": 3}
ON_MONGODB = {"carts": "mongodb"}
POSITIONS = """
from pathlib import Path
from pymongo import MongoClient
from shardmart.platforms.state import State, uri_of
state = State(Path("/state"))
password = (Path("/state") / "secrets" / "admin.password").read_text().strip()
with MongoClient(uri_of(state.description(), "admin", password, state.authority)) as client:
    lanes = client.ecommerce.lanes.find({"kind": "lane", "service": {"$ne": "relay"}})
    print(*{"kafka" if ":" in lane["position"] else "mongodb" for lane in lanes if lane["position"]})
"""
"""Which logs the positions of the services' lanes are of."""


def brokers(site: KindSite) -> str:
    return f"{ours(site)},app.kubernetes.io/component=kafka"


def volumes(site: KindSite) -> dict[str, str]:
    """The volume behind each broker's claim."""
    return {one["metadata"]["name"]: one["spec"]["volumeName"] for one in site.get("pvc", brokers(site))}


def must_follow(site: KindSite, log: str) -> None:
    site.wait(f"every lane to follow {log}", lambda: site.toolbox("python3", "-", text=POSITIONS).split() == [log])


@pytest.fixture(scope="module")
def shop(made: Made) -> Iterator[KindSite]:
    """The session's cluster with a shop on Kafka; it is gone again afterwards, the brokers' volumes too."""
    with a_shop(made.site, ON_KAFKA) as site:
        yield site
    site.kubectl("delete", "pvc,secret", ours(site))


def test_an_order_is_confirmed_by_way_of_three_brokers(shop: KindSite) -> None:
    must_confirm_an_order(shop)
    must_follow(shop, "kafka")
    pods = shop.get("pods", brokers(shop))
    assert [pod["metadata"]["name"] for pod in pods] == [f"{release_of(shop)}-kafka-{n}" for n in (1, 2, 3)]
    status = json.loads(shop.run("shardmart", "status", "--json", accept=(0, 1)))
    assert status["problems"] == []


def test_second_run_changes_nothing(shop: KindSite) -> None:
    again = shop.play("site.yml")
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output


def test_no_password_is_an_argument_or_in_the_log(shop: KindSite) -> None:
    pod = f"{release_of(shop)}-kafka-1"
    # Each ends without a new line.
    secrets = ("sh", "-c", "for file in /etc/kafka/secrets/*.password; do cat $file; echo; done")
    passwords = shop.kubectl("exec", pod, "--", *secrets).split()
    assert len(set(passwords)) == 5
    shown = shop.kubectl("exec", pod, "--", "cat", "/proc/1/cmdline", "/proc/1/environ") + shop.kubectl("logs", pod)
    shown += shop.run("helm", "get", "all", release_of(shop), "--namespace", shop.name)
    assert [password for password in passwords if password in shown] == []


@needs_enforcement
def test_brokers_answer_those_that_need_them_and_no_other(shop: KindSite) -> None:
    host = f"{release_of(shop)}-kafka-2.{release_of(shop)}-kafka.{shop.name}.svc.cluster.local"
    addresses = [f"{host}:9092", f"{host}:9102"]
    assert reaches(shop, shop.name, *addresses) == [False, False], "a pod of the namespace, with no label of ours"

    def from_(workload: str) -> list[str]:
        return shop.kubectl("exec", workload, "--", "python3", "-c", CONNECT, *addresses).split()

    for service in ("order", "inventory", "payment", "notification"):
        assert from_(f"deployment/{release_of(shop)}-{service}") == ["yes", "no"]
    for service in ("catalogue", "console"):
        assert from_(f"deployment/{release_of(shop)}-{service}") == ["no", "no"]
    assert from_(f"deployment/{shop.name}-toolbox") == ["yes", "no"], (
        "shardmart status asks whether it takes connections"
    )
    assert from_(f"pod/{release_of(shop)}-kafka-1") == ["yes", "yes"]
    order = f"{release_of(shop)}-order.{shop.name}.svc.cluster.local:3001"
    router = f"{shop.name}-mongos.{shop.name}.svc.cluster.local:27017"
    reached = shop.kubectl("exec", f"pod/{release_of(shop)}-kafka-1", "--", "python3", "-c", CONNECT, order, router)
    assert reached.split() == ["no", "no"]


def test_a_broker_whose_pod_is_deleted_comes_back_with_its_data(shop: KindSite) -> None:
    pod = f"{release_of(shop)}-kafka-1"

    def identity() -> str:
        return shop.kubectl("exec", pod, "--", "cat", "/data/log/meta.properties")

    before, uid = identity(), shop.get("pods", brokers(shop))[0]["metadata"]["uid"]
    shop.kubectl("delete", "pod", pod)
    shop.kubectl("rollout", "status", f"statefulset/{release_of(shop)}-kafka", "--timeout=300s")
    assert shop.get("pods", brokers(shop))[0]["metadata"]["uid"] != uid
    assert identity() == before
    must_confirm_an_order(shop)


@pytest.mark.parametrize("experiment", ["kill-broker", "kill-all-brokers"])
def test_no_order_is_lost_by(shop: KindSite, experiment: str) -> None:
    shop.run("shardmart", "chaos", "run", f"chaos/{experiment}.json")
    assert_no_order_was_lost(summary_of_last_run(shop.state))


def test_a_running_shop_moves_to_mongodbs_log_and_back_by_its_topology(shop: KindSite) -> None:
    before = volumes(shop)
    assert len(before) == 3
    shop.write(backends=ON_MONGODB)
    planned = shop.play("playbooks/shop.yml", "--check")
    assert planned.code == 0, planned.output
    assert planned.changed["controller"] > 0
    assert len(shop.get("pods", brokers(shop))) == 3, "check mode changes nothing"
    moved = shop.play("site.yml")
    assert moved.code == 0, moved.output
    shop.wait("the brokers' pods to be gone", lambda: not shop.get("pods", brokers(shop)))
    must_confirm_an_order(shop)
    must_follow(shop, "mongodb")
    assert volumes(shop) == before, "their data stay"

    shop.write(backends=ON_KAFKA)
    back = shop.play("site.yml")
    assert back.code == 0, back.output
    must_confirm_an_order(shop)
    must_follow(shop, "kafka")
    assert volumes(shop) == before
