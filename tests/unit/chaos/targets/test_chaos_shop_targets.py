"""Words that select the shop's processes, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pod_cluster import pod_targets, shop_pod, shop_pods

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.targets.shop import NO_BROKERS, NO_CACHE_CLUSTER, NOT_AS_PODS, lacking, select
from shardmart.cluster.description import Role
from shardmart.cluster.shop import Instance, Service, Shop
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.kubernetes import KubernetesPlatform, pod_of
from shardmart.platforms.state import State

__all__ = ["pod_targets", "shop_pods"]  # the fixtures

PAYMENT = Service("payment", "127.0.0.1", 3003, tuple(Instance(f"payment-{n}", "127.0.0.1", 33030 + n) for n in (1, 2)))
SHOP = Shop((PAYMENT,), cache=Instance("cache-1", "127.0.0.1", 6390))


@pytest.fixture
def shop_targets(targets: Targets) -> Targets:
    """The same cluster with a shop on it, without a load balancer."""
    folder = targets.state.folder
    (folder / "cluster.json").write_text(replace(targets.cluster, shop=SHOP).dumps())
    return Targets(State(folder))


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("service:payment", ["payment-1", "payment-2"]),
        ("payment-2", ["payment-2"]),
        ("cache", ["cache-1"]),
        ("shop", ["cache-1", "payment-1", "payment-2"]),
        ("cache,service:payment", ["cache-1", "payment-1", "payment-2"]),
    ],
)
def test_a_word_means_processes_of_the_shop(shop_targets: Targets, word: str, names: list[str]) -> None:
    assert [node.name for node in shop_targets.resolve(word)] == names


def test_all_are_the_servers_of_the_cluster_and_a_network_fault_knows_the_shop_too(shop_targets: Targets) -> None:
    assert not [node for node in shop_targets.resolve("all") if node.role is Role.SERVICE]
    assert {"payment-1", "cache-1", "mongos1"} <= {node.name for node in shop_targets.everybody}


def test_a_process_of_the_shop_is_known_by_its_own_pid_file(shop_targets: Targets) -> None:
    platform, state = shop_targets.platform, shop_targets.state
    assert platform.pid_file(shop_targets.server("payment-1")) == ShopFiles(state.folder).pid("payment-1")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("service:nonsense", "no service 'nonsense'; there are payment"),
        ("load-balancer", "this shop has no load-balancer"),
        ("nobody", "no server 'nobody'; there are .*payment-2"),
    ],
)
def test_a_word_that_means_nothing_is_refused(shop_targets: Targets, word: str, message: str) -> None:
    with pytest.raises(ChaosError, match=message):
        shop_targets.resolve(word)


def test_one_node_of_the_cache_is_refused_where_the_cache_is_one_server(shop_targets: Targets) -> None:
    assert lacking(shop_targets.cluster, "cache-2") == NO_CACHE_CLUSTER
    assert lacking(shop_targets.cluster, "cache") is None
    nodes = tuple(Instance(f"cache-{n}", "127.0.0.1", 6400 + n) for n in (1, 2, 3))
    clustered = replace(shop_targets.cluster, shop=replace(SHOP, cache=None, cache_nodes=nodes))
    assert lacking(clustered, "cache-2") is None
    (shop_targets.state.folder / "cluster.json").write_text(clustered.dumps())
    found = select(Targets(shop_targets.state).platform, "cache")
    assert [node.name for node in found or ()] == ["cache-1", "cache-2", "cache-3"]


@pytest.mark.parametrize(
    ("word", "pods"),
    [
        ("service:order", ["lab-shop-order-old", "lab-shop-order-new"]),
        ("order-2", ["lab-shop-order-new"]),
        ("cache", ["lab-shop-cache-a"]),
    ],
)
def test_the_same_words_mean_pods(shop_pods: Targets, word: str, pods: list[str]) -> None:
    assert [pod_of(node).name for node in shop_pods.resolve(word)] == pods


def test_a_part_that_has_no_pod_is_refused(shop_pods: Targets) -> None:
    with pytest.raises(ChaosError, match="this shop has no payment"):
        shop_pods.resolve("service:payment")


def test_members_are_found_without_asking_for_the_pods_of_the_shop(
    shop_pods: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KubernetesPlatform, "_objects", lambda self, kinds: pytest.fail(f"asked for {kinds}"))
    assert shop_pods.server("shard1-1").name == "shard1-1"


def test_a_pod_of_the_cluster_does_not_ask_for_those_of_the_shop(
    shop_pods: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KubernetesPlatform, "_objects", lambda self, kinds: pytest.fail(f"asked for {kinds}"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    inside = Targets(shop_pods.state)
    assert {node.name for node in inside.everybody} == {node.name for node in inside.cluster.nodes}
    assert inside.platform.shop_is_short_of() == []


def test_what_pods_of_the_shop_have_not_is_refused(shop_pods: Targets) -> None:
    assert lacking(shop_pods.cluster, "cache-2") == NOT_AS_PODS
    assert lacking(shop_pods.cluster, "brokers") == lacking(shop_pods.cluster, "kafka-2") == NO_BROKERS
    assert lacking(shop_pods.cluster, "cache") is None


def test_brokers_in_pods_are_targets_where_events_are_on_them(
    shop_pods: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [(f"kafka-{n}", f"lab-shop-kafka-{n}") for n in (1, 2, 3)]
    brokers = tuple(Instance(name, f"{pod}.lab-shop-kafka.shop.svc.cluster.local", 9092, pod) for name, pod in there)
    assert shop_pods.cluster.shop
    described = replace(shop_pods.cluster, shop=replace(shop_pods.cluster.shop, kafka=brokers))
    (shop_pods.state.folder / "cluster.json").write_text(described.dumps())
    objects = [shop_pod("kafka", str(n), "2026-11-29T12:00:00Z", f"10.0.2.{n}") for n in (1, 2, 3)]
    monkeypatch.setattr(KubernetesPlatform, "_objects", lambda self, kinds: objects)
    targets = Targets(shop_pods.state)
    assert lacking(targets.cluster, "brokers") is lacking(targets.cluster, "kafka-2") is None
    assert lacking(targets.cluster, "kafka-4") == "this shop has 3 brokers and no kafka-4"
    assert [pod_of(node).name for node in targets.resolve("kafka-2")] == ["lab-shop-kafka-2"]
    assert [pod_of(node).name for node in targets.resolve("brokers")] == [pod for _, pod in there]


def test_without_a_shop_its_words_are_refused(targets: Targets, tmp_path: Path) -> None:
    with pytest.raises(ChaosError, match="this cluster has no shop"):
        targets.resolve("service:payment")
