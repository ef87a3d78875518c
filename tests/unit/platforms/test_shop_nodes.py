"""Claims of the shop's processes as nodes: their groups, which pods they are, and what is missing of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shardmart.cluster.description import Cluster, ReplicaSet, Role
from shardmart.cluster.shop import Backends, Instance, Service, Shop
from shardmart.platforms.shop_nodes import is_whole, of_pods, short_of, store_nodes

DOMAIN = "shopping.svc.cluster.local"


def part(name: str, port: int) -> Instance:
    return Instance(name, f"lab-shop-{name}.{DOMAIN}", port)


ORDER, CACHE = part("order", 3001), part("cache", 6379)
SHOP = Shop((Service(ORDER.name, ORDER.host, ORDER.port, (ORDER,)),), cache=CACHE)


def service(component: str, release: str = "lab-shop") -> dict[str, Any]:
    selector = {"instance": release, "component": component}
    return {"kind": "Service", "metadata": {"name": f"{release}-{component}"}, "spec": {"selector": selector}}


def pod(name: str, component: str, created: int, release: str = "lab-shop", **status: Any) -> dict[str, Any]:
    labels = {"instance": release, "component": component, "pod-template-hash": "7"}
    about = {"name": name, "namespace": "shopping", "creationTimestamp": f"2026-11-29T12:00:{created:02}Z"}
    shown = {"phase": "Running", "podIP": f"10.0.0.{created}"} | status
    return {"kind": "Pod", "metadata": about | {"labels": labels}, "status": shown}


def leaving(one: dict[str, Any]) -> dict[str, Any]:
    return one | {"metadata": one["metadata"] | {"deletionTimestamp": "2026-11-29T12:00:59Z"}}


def test_pods_are_numbered_from_the_oldest_and_have_addresses_of_their_own() -> None:
    found = of_pods(SHOP, [pod("b", "order", 2), service("order"), pod("a", "order", 9), service("cache")])
    assert [(node.name, node.group, node.address) for node in found] == [
        ("order-1", "order", "10.0.0.2:3001"),
        ("order-2", "order", "10.0.0.9:3001"),
    ]
    assert found[0].pod
    assert (found[0].pod.name, found[0].pod.workload, found[0].pod.namespace) == ("b", "lab-shop-order", "shopping")


@pytest.mark.parametrize(
    "other",
    [
        leaving(pod("x", "order", 1)),
        pod("x", "order", 1, phase="Succeeded"),
        pod("x", "order", 1, phase="Failed"),
        pod("x", "order", 1, release="other-shop"),
        pod("x", "test", 1),
    ],
    ids=["it leaves", "it has ended", "it failed", "another release's", "a test's"],
)
def test_other_pods_are_not_the_shops(other: dict[str, Any]) -> None:
    mine = pod("mine", "order", 2)
    found = of_pods(SHOP, [service("order"), service("order", "other-shop"), other, mine])
    assert [node.pod.name for node in found if node.pod] == ["mine"]


def test_a_pod_without_an_address_is_there() -> None:
    (found,) = of_pods(SHOP, [service("cache"), pod("c", "cache", 3, phase="Pending", podIP=None)])
    assert (found.name, found.host) == ("cache-1", CACHE.host)


def broker(n: int) -> Instance:
    pod = f"lab-shop-kafka-{n}"
    return Instance(f"kafka-{n}", f"{pod}.lab-shop-kafka.{DOMAIN}", 9092, pod)


def test_a_broker_is_the_pod_of_its_number_whichever_is_older() -> None:
    shop = replace(SHOP, kafka=(broker(1), broker(2)))
    objects = [pod("lab-shop-kafka-1", "kafka", 9), pod("lab-shop-kafka-2", "kafka", 2), pod("a", "order", 1)]
    found = of_pods(shop, [service("order"), service("kafka"), *objects])
    assert [(node.name, node.group, node.address) for node in found] == [
        ("kafka-1", "brokers", "10.0.0.9:9092"),
        ("kafka-2", "brokers", "10.0.0.2:9092"),
        ("order-1", "order", "10.0.0.1:3001"),
    ]
    assert found[1].pod
    assert (found[1].pod.name, found[1].pod.workload) == ("lab-shop-kafka-2", "lab-shop-kafka")
    assert [node.name for node in of_pods(shop, objects[1:2])] == ["kafka-2"]


def workload(name: str, **status: Any) -> dict[str, Any]:
    shown = {"observedGeneration": 2, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2} | status
    return {"metadata": {"name": name, "generation": 2}, "spec": {"replicas": 2}, "status": shown}


@pytest.mark.parametrize(
    "status", [{"readyReplicas": 1}, {"readyReplicas": None}, {"updatedReplicas": 1}, {"replicas": 3},
               {"observedGeneration": 1}]
)  # fmt: skip
def test_a_workload_is_whole_when_its_pods_are_the_newest_and_ready(status: dict[str, Any]) -> None:
    assert is_whole(workload("lab-shop-order"))
    assert not is_whole(workload("lab-shop-order", **status))


def test_the_shop_is_short_of_what_is_missing_or_not_ready() -> None:
    ours = [workload("lab-shop-order"), workload("lab-shop-cache"), workload("somebody-else", readyReplicas=0)]
    assert short_of(SHOP, ours) == []
    assert short_of(SHOP, [workload("lab-shop-order", readyReplicas=1)]) == ["order", "cache"]
    with_brokers = replace(SHOP, kafka=(broker(1), broker(2)))
    assert short_of(with_brokers, [*ours, workload("lab-shop-kafka")]) == []
    assert short_of(with_brokers, [*ours, workload("lab-shop-kafka", readyReplicas=1)]) == ["brokers"]


def on_postgres(**backends: Any) -> Shop:
    server = replace(part("postgres", 5432), name="shop-postgres", pod="lab-shop-postgres-1")
    return replace(SHOP, postgres=server, backends=Backends(store="postgres", **backends))


def test_a_shop_is_short_of_its_store_while_postgresql_is_not_ready() -> None:
    ours = [workload("lab-shop-order"), workload("lab-shop-cache")]
    assert short_of(on_postgres(), [*ours, workload("lab-shop-postgres")]) == []
    assert short_of(on_postgres(), [*ours, workload("lab-shop-postgres", readyReplicas=0)]) == ["store"]
    given = replace(on_postgres(), postgres=Instance("shop-postgres", "db.example.net", 5432))
    assert short_of(given, ours) == [], "a server that is there is nobody's workload"


def test_the_store_is_a_node_where_it_is_ours() -> None:
    def found(shop: Shop) -> list[Any]:
        cluster = Cluster("lab", "kubernetes", ReplicaSet("config", Role.CONFIG, ()), (), (), shop=shop)
        return [(node.name, node.group, node.pod) for node in store_nodes(cluster)]

    ((name, group, pod_),) = found(on_postgres())
    assert (name, group) == ("shop-postgres", "store")
    assert (pod_.name, pod_.workload, pod_.namespace) == ("lab-shop-postgres-1", "lab-shop-postgres", "shopping")
    assert found(on_postgres(postgres_is_ours=False)) == []
    assert found(SHOP) == []
