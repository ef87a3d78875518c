"""The shop's processes as targets of faults: what each word of a selector means among them."""

from __future__ import annotations

from collections.abc import Sequence

from shardmart.cluster.description import Cluster, Node, Role
from shardmart.cluster.shop import Instance

from ..errors import ChaosError

SHOP, CACHE, LOAD_BALANCER, SERVICE = "shop", "cache", "load-balancer", "service"


def nodes(cluster: Cluster) -> tuple[Node, ...]:
    """Every process of the shop; none where there is no shop."""
    if cluster.shop is None:
        return ()
    return tuple(_node(cluster, one) for one in cluster.shop.processes)


def select(cluster: Cluster, word: str) -> Sequence[Node] | None:
    """The processes that a word of a selector means; None for a word that is none of the shop's.

    Raises ChaosError for a service or part that the shop has not.
    """
    kind, _, name = word.partition(":")
    if kind not in (SHOP, CACHE, LOAD_BALANCER, SERVICE) or (kind == SERVICE) != bool(name):
        return None
    shop = cluster.shop
    if shop is None:
        raise ChaosError(f"selector {word!r}: this cluster has no shop")
    if kind == SHOP:
        return nodes(cluster)
    if kind == SERVICE:
        if (service := shop.service(name)) is None:
            raise ChaosError(f"no service {name!r}; there are {', '.join(one.name for one in shop.services)}")
        return [_node(cluster, one) for one in service.instances]
    part = shop.cache if kind == CACHE else shop.load_balancer
    if part is None:
        raise ChaosError(f"this shop has no {kind}")
    return [_node(cluster, part)]


def _node(cluster: Cluster, one: Instance) -> Node:
    assert cluster.shop
    service = cluster.shop.service_of(one.name)
    return Node(one.name, Role.SERVICE, service.name if service else SHOP, one.host, one.port)
