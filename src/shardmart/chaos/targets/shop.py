"""The shop's processes as targets of faults: what each word of a selector means among them."""

from __future__ import annotations

from collections.abc import Sequence

from shardmart.cluster.description import Cluster, Node, Role
from shardmart.cluster.shop import Instance

from ..errors import ChaosError

SHOP, CACHE, BROKERS, LOAD_BALANCER, SERVICE = "shop", "cache", "brokers", "load-balancer", "service"
NO_CACHE_CLUSTER = "the cache of this shop is no cluster: start it with inventories/topologies/shop-redis-cluster.yml"
NO_BROKERS = "the events of this shop are in MongoDB: start it with inventories/topologies/shop-kafka.yml"


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
    if kind not in (SHOP, CACHE, BROKERS, LOAD_BALANCER, SERVICE) or (kind == SERVICE) != bool(name):
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
    if kind == BROKERS:
        if not shop.kafka:
            raise ChaosError(NO_BROKERS)
        return [_node(cluster, one) for one in shop.kafka]
    parts = shop.caches if kind == CACHE else tuple(one for one in (shop.load_balancer,) if one)
    if not parts:
        raise ChaosError(f"this shop has no {kind}")
    return [_node(cluster, one) for one in parts]


def lacking(cluster: Cluster, selector: str) -> str | None:
    """Why there are none of the brokers or nodes of the cache that a selector names; None where it names none."""
    words = [word.strip() for word in selector.split(",")]
    nodes_of_cache = [one.name for one in cluster.shop.cache_nodes] if cluster.shop else []
    if any(word.startswith("cache-") and word not in (*nodes_of_cache, "cache-1") for word in words):
        return NO_CACHE_CLUSTER
    wanted = [word for word in words if word == BROKERS or word.startswith("kafka-")]
    names = [one.name for one in cluster.shop.kafka] if cluster.shop else []
    if wanted and not names:
        return NO_BROKERS
    absent = [word for word in wanted if word not in (BROKERS, *names)]
    return f"this shop has {len(names)} broker{'s' * (len(names) > 1)} and no {absent[0]}" if absent else None


def _node(cluster: Cluster, one: Instance) -> Node:
    assert cluster.shop
    service = cluster.shop.service_of(one.name)
    return Node(one.name, Role.SERVICE, service.name if service else SHOP, one.host, one.port)
