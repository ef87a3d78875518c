"""The shop's processes as nodes of role SERVICE: as the description has them, or which pods they are at the moment.

A node's group is its service, or what else it is: `cache`, `tls-cache`, `brokers`, `mail`, `load-balancer`.  PostgreSQL
is none of them on any platform: `store` is its group where it is asked for by itself.  Nothing here talks to anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..cluster.description import Cluster, Node, Pod, Role
from ..cluster.shop import Instance, Shop

CACHE, BROKERS, MAIL, LOAD_BALANCER = "cache", "brokers", "mail", "load-balancer"
CACHE_TLS, STORE = "tls-cache", "store"
Object = Mapping[str, Any]
"""An object of Kubernetes, as its API shows it."""


def described(cluster: Cluster) -> list[Node]:
    """Every process of the shop that the description names; none where there is no shop."""
    shop = cluster.shop
    if shop is None:
        return []
    groups = {one.name: CACHE for one in shop.caches} | {one.name: BROKERS for one in shop.kafka}
    alone = ((shop.cache_tls, CACHE_TLS), (shop.mail, MAIL), (shop.load_balancer, LOAD_BALANCER))
    groups |= {one.name: group for one, group in alone if one}
    groups |= {instance.name: service.name for service in shop.services for instance in service.instances}
    return [Node(one.name, Role.SERVICE, groups[one.name], one.host, one.port) for one in shop.processes]


def workloads(shop: Shop) -> dict[str, Instance]:
    """What pods of helm/shop there are, by the name that their Service and their Deployment share.

    Brokers are none of these: each has a name of its own.
    """
    parts = [Instance(service.name, service.host, service.port) for service in shop.services]
    return {service_of(part): part for part in (*parts, *([shop.cache] if shop.cache else []))}


def workload_of(broker: Instance) -> str:
    """The StatefulSet of a broker in a pod: its address is POD.STATEFULSET.NAMESPACE.svc.DOMAIN."""
    return broker.host.split(".")[1]


def service_of(server: Instance) -> str:
    """The Service of a part that has one address, and its workload of the same name: SERVICE.NAMESPACE.svc.DOMAIN."""
    return server.host.partition(".")[0]


def store_nodes(cluster: Cluster) -> tuple[Node, ...]:
    """The servers of the shop's store, where that is PostgreSQL and started with the shop; else none."""
    shop = cluster.shop
    if shop is None or shop.backends.store != "postgres" or not shop.backends.postgres_is_ours:
        return ()
    return tuple(Node(one.name, Role.SERVICE, STORE, one.host, one.port, _pod(one)) for one in shop.postgres_servers)


def _pod(server: Instance) -> Pod | None:
    return Pod(server.pod, service_of(server), server.host.split(".")[1]) if server.pod else None


def of_pods(shop: Shop, objects: Iterable[Object]) -> list[Node]:
    """The pods behind the shop's Services among `objects` (Services and pods of a namespace), without those that leave.

    They are numbered from the oldest: `payment-1`.  A container that is started again keeps its pod and its number; a
    pod that takes the place of another one is the last.  A broker is always the pod of its number.
    """
    known = workloads(shop)
    selectors: dict[str, Object] = {}
    pods: list[Object] = []
    for one in objects:
        if one["kind"] == "Pod" and _stays(one):
            pods.append(one)
        elif one["kind"] == "Service" and one["metadata"]["name"] in known:
            selectors[one["metadata"]["name"]] = one["spec"]["selector"]
    pods.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    there = {pod["metadata"]["name"]: pod for pod in pods}
    brokers = [_broker(one, there[one.pod]) for one in shop.kafka if one.pod in there]
    return brokers + [
        Node(
            f"{part.name}-{number}",
            Role.SERVICE,
            part.name,
            pod["status"].get("podIP") or part.host,
            part.port,
            Pod(pod["metadata"]["name"], workload, pod["metadata"]["namespace"]),
        )
        for workload, part in known.items()
        if workload in selectors
        for number, pod in enumerate((pod for pod in pods if _selected(pod, selectors[workload])), start=1)
    ]


def _broker(broker: Instance, pod: Object) -> Node:
    place = Pod(pod["metadata"]["name"], workload_of(broker), pod["metadata"]["namespace"])
    return Node(broker.name, Role.SERVICE, BROKERS, pod["status"].get("podIP") or broker.host, broker.port, place)


def short_of(shop: Shop, objects: Iterable[Object]) -> list[str]:
    """What of the shop is not as it is declared, among `objects` (Deployments and StatefulSets of a namespace)."""
    known = {workload: part.name for workload, part in workloads(shop).items()}
    known |= {workload_of(broker): BROKERS for broker in shop.kafka}
    if shop.postgres and shop.postgres.pod:
        known[service_of(shop.postgres)] = STORE
    found = {one["metadata"]["name"]: one for one in objects if one["metadata"]["name"] in known}
    return [name for workload, name in known.items() if workload not in found or not is_whole(found[workload])]


def is_whole(workload: Object) -> bool:
    """Whether every pod of a Deployment or StatefulSet is the newest and ready, and none of an older one is left."""
    status, wanted = workload["status"], workload["spec"]["replicas"]
    counts = [status.get(key) or 0 for key in ("readyReplicas", "updatedReplicas", "replicas")]
    return bool(status.get("observedGeneration") == workload["metadata"]["generation"] and counts == [wanted] * 3)


def _stays(pod: Object) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") in {"Pending", "Running"}


def _selected(pod: Object, selector: Object) -> bool:
    labels: Object = pod["metadata"].get("labels", {})
    return selector.items() <= labels.items()
