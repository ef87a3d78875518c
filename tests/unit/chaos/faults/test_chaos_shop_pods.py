"""Faults on the shop's pods: a pod that is replaced, an update of one Deployment after the other."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pod_cluster import pod_targets, shop_pods

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.faults import kinds, pods, store_pods
from shardmart.chaos.faults import shop_pods as faults
from shardmart.chaos.faults.postgres import NO_STORE
from shardmart.chaos.faults.shop import ProviderRules
from shardmart.chaos.targets.kubernetes import KubernetesApi, Pod
from shardmart.chaos.targets.selectors import Targets
from shardmart.cluster import description
from shardmart.cluster.shop import Backends, Instance
from shardmart.platforms.kubernetes import pod_of

__all__ = ["pod_targets", "shop_pods"]  # the fixtures


class Shown:
    """The API, with the pods that there are by name, and the Deployments that are not whole."""

    chaos_namespace = "shop-chaos"
    release = SimpleNamespace(namespace="shop")

    def __init__(self) -> None:
        self.there: dict[str, Pod] = {}
        self.short: set[str] = set()
        self.linger = False  # whether old pods stay for a while when their Deployment is restarted
        self.deleted: list[str] = []
        self.restarted: list[str] = []
        empty = SimpleNamespace(items=[])
        self.core = SimpleNamespace(list_namespaced_pod=lambda namespace, label_selector: empty)

    def show(self, name: str, container: str = "c", waiting: str = "") -> None:
        self.there[name] = Pod(name, name, "u", "n1", "10.0.1.1", container, bool(container), waiting, 137)

    def pod(self, server: Any) -> Pod | None:
        return self.there.get(pod_of(server).name)

    def pods(self, servers: Any) -> list[Pod]:
        return [Pod(server.name, pod_of(server).name, "u", "n1", "", "c", True, "", None) for server in servers]

    def serves_without(self, server: Any) -> bool:
        return server.group not in self.short

    def delete(self, name: str, namespace: str, grace_seconds: int) -> None:
        self.deleted.append(name)
        del self.there[name]

    def restart(self, deployment: str) -> None:
        self.restarted.append(deployment)
        for name in [name for name in self.there if name.startswith(deployment) and not self.linger]:
            del self.there[name]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    made = Shown()
    for module in (pods, faults):
        monkeypatch.setattr(module, "KubernetesApi", lambda of: made)
    return made


def kill_of(targets: Targets, *names: str) -> pods.PodKill:
    return pods.PodKill(targets, [targets.server(name) for name in names], 1, {"id": "k", "via": "SIGKILL"})


def test_the_kinds_that_break_a_shop_are_there_as_pods(shop_pods: Targets) -> None:
    assert kinds.kind_of(shop_pods, "rolling") is faults.PodRollingRestart
    assert kinds.kind_of(shop_pods, "provider") is ProviderRules


def test_a_pod_in_back_off_is_replaced_and_its_deployment_awaited(
    shop_pods: Targets, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "RESTART_SECONDS", 0.3)
    kill = kill_of(shop_pods, "order-1")
    kill.prepare()
    shown.show("lab-shop-order-old", container="", waiting="CrashLoopBackOff")
    shown.short = {"order"}
    with pytest.raises(ChaosError, match=r"waited 0.3 s for order-1 to run again"):
        kill.end()
    assert shown.deleted == ["lab-shop-order-old"]
    shown.short = set()
    kill.end()
    assert kill.evidence() == {"exit_codes": {}, "replaced": []}


def test_who_was_hit_is_known_by_its_pod_though_another_bears_the_name_by_now(shop_pods: Targets, shown: Shown) -> None:
    first = kill_of(shop_pods, "order-1")
    first.prepare()
    another = replace(shop_pods.server("order-2"), name="order-1")
    later = pods.PodKill(shop_pods, [another], 1, first.parameters)
    shown.show("lab-shop-order-old")
    shown.show("lab-shop-order-new", container="another")
    assert not later.is_gone()
    del shown.there["lab-shop-order-old"]
    assert later.is_gone()


def rolling(targets: Targets, *names: str) -> faults.PodRollingRestart:
    return faults.PodRollingRestart(targets, [targets.server(name) for name in names], 0.4)


def test_each_deployment_is_restarted_once_and_every_target_named(shop_pods: Targets, shown: Shown) -> None:
    fault = rolling(shop_pods, "order-1", "order-2", "cache-1")
    for name in ("lab-shop-order-old", "lab-shop-order-new", "lab-shop-cache-a"):
        shown.show(name)
    fault.prepare()
    fault.hold(threading.Event(), time.monotonic() + 60)
    assert shown.restarted == ["lab-shop-order", "lab-shop-cache"]
    assert fault.evidence() == {"restarted": ["order-1", "order-2", "cache-1"]}


def test_brokers_are_refused_because_their_pods_keep_their_names(shop_pods: Targets) -> None:
    place = description.Pod("lab-shop-kafka-1", "lab-shop-kafka", "shopping")
    broker = description.Node("kafka-1", description.Role.SERVICE, "brokers", "10.0.0.7", 9092, place)
    with pytest.raises(ChaosError, match=r"^kafka-1: a broker's new pod has the old one's name"):
        faults.PodRollingRestart(shop_pods, [broker], 0.4).prepare()


def test_the_next_deployment_waits_for_the_one_before(shop_pods: Targets, shown: Shown) -> None:
    fault = rolling(shop_pods, "order-1", "cache-1")
    shown.short = {"order"}
    with pytest.raises(ChaosError, match=r"waited 0.4 s for the last old pod of lab-shop-order to be replaced"):
        fault.hold(threading.Event(), time.monotonic() + 0.4)
    assert shown.restarted == ["lab-shop-order"]
    assert fault.evidence() == {"restarted": []}


def test_only_a_service_is_replaced_by_another_pod(shop_pods: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(shop_pods.platform), "api", lambda self: None)
    monkeypatch.setattr(type(shop_pods.platform), "shop_is_short_of", lambda self: ["cache"])
    api = KubernetesApi(shop_pods)
    asked = ("order-1", "cache-1", "shard1-1")
    assert [api.serves_without(shop_pods.server(name)) for name in asked] == [True, False, False]


def test_an_old_pod_that_is_still_there_holds_up_the_next_deployment(shop_pods: Targets, shown: Shown) -> None:
    fault = rolling(shop_pods, "order-1", "cache-1")
    fault.prepare()
    shown.show("lab-shop-order-old")
    shown.linger = True
    with pytest.raises(ChaosError, match=r"waited 0.4 s for the last old pod of lab-shop-order to be replaced"):
        fault.hold(threading.Event(), time.monotonic() + 0.4)
    assert shown.restarted == ["lab-shop-order"]


@pytest.fixture
def with_store(shop_pods: Targets) -> Targets:
    """The same shop with its store on PostgreSQL."""
    server = Instance("shop-postgres", "lab-shop-postgres.shop.svc.cluster.local", 5432, "lab-shop-postgres-1")
    assert shop_pods.cluster.shop
    shop = replace(shop_pods.cluster.shop, postgres=server, backends=Backends(store="postgres"))
    (shop_pods.state.folder / "cluster.json").write_text(replace(shop_pods.cluster, shop=shop).dumps())
    return Targets(shop_pods.state)


@pytest.mark.parametrize(("kind", "injected"), [("store-kill", "kill"), ("store-pause", "pause")])
def test_a_fault_on_the_store_s_pod_is_that_of_any_pod(
    with_store: Targets, shown: Shown, kind: str, injected: str
) -> None:
    (server,) = with_store.resolve("primary:store")
    assert pod_of(server).name == "lab-shop-postgres-1"
    fault = kinds.kind_of(with_store, kind)(with_store, [server], 1, {"id": "k"})
    assert isinstance(fault, store_pods.OnStorePod)
    orders, _ = fault._orders(shown.pods([server]))
    assert orders["kind"] == injected
    assert kinds.requirement(with_store, kind) is None


def test_without_a_store_of_its_own_there_is_none_to_break(shop_pods: Targets) -> None:
    assert {kinds.requirement(shop_pods, kind) for kind in ("store-kill", "store-pause", "store-network")} == {NO_STORE}


def test_the_store_cut_off_reaches_no_address(with_store: Targets, shown: Shown) -> None:
    (server,) = with_store.resolve("store")
    everybody = ["outside", *(one.name for one in with_store.servers)]
    harmless = {"delay_ms": 0, "jitter_ms": 0, "direction": "both", "seed": 0}
    given = {"id": "k", "loss": 1.0, "peers": everybody} | harmless
    fault = kinds.kind_of(with_store, "store-network")(with_store, [server], 1, given)
    assert isinstance(fault, store_pods.CutStorePod)
    orders, each = fault._orders(shown.pods([server]))
    assert orders == {"kind": "network"}
    assert each["shop-postgres"]["fault"]["peer_addresses"] == (), "none named is everybody"
