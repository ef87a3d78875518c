"""The shop's processes as targets of faults: what each word of a selector means among them, on any platform."""

from __future__ import annotations

from collections.abc import Sequence

from shardmart.cluster.description import Cluster, Node
from shardmart.platforms.platform import Platform
from shardmart.platforms.shop_nodes import BROKERS, CACHE, LOAD_BALANCER

from ..errors import ChaosError

SHOP, SERVICE = "shop", "service"
NO_CACHE_CLUSTER = "the cache of this shop is no cluster: start it with inventories/topologies/shop-redis-cluster.yml"
NO_BROKERS = "the events of this shop are in MongoDB: start it with inventories/topologies/shop-kafka.yml"
NOT_AS_PODS = "as pods the shop has one cache server: this is for processes of one machine"


def no_shop(cluster: Cluster) -> str | None:
    """That a cluster has no shop, and what starts one; None where it has."""
    starts = "site.yml with inventories/topologies/shop.yml" if cluster.kubernetes else "`make shop`"
    return None if cluster.shop else f"this cluster has no shop: {starts} starts one"


def select(platform: Platform, word: str) -> Sequence[Node] | None:
    """The processes that a word of a selector means now; None for a word that is none of the shop's.

    Raises ChaosError for a service or part that the shop has not, or that has no process.
    """
    kind, _, name = word.partition(":")
    if kind not in (SHOP, CACHE, BROKERS, LOAD_BALANCER, SERVICE) or (kind == SERVICE) != bool(name):
        return None
    shop = platform.cluster.shop
    if shop is None:
        raise ChaosError(f"selector {word!r}: this cluster has no shop")
    if kind == SERVICE and shop.service(name) is None:
        raise ChaosError(f"no service {name!r}; there are {', '.join(one.name for one in shop.services)}")
    nodes = platform.shop_nodes()
    found = nodes if kind == SHOP else [node for node in nodes if node.group == (name or kind)]
    if not found:
        raise ChaosError(NO_BROKERS if kind == BROKERS else f"this shop has no {name or kind}")
    return found


def lacking(cluster: Cluster, selector: str) -> str | None:
    """Why there are none of the brokers or nodes of the cache that a selector names; None where it names none."""
    words = [word.strip() for word in selector.split(",")]
    nodes_of_cache = [one.name for one in cluster.shop.cache_nodes] if cluster.shop else []
    if any(word.startswith("cache-") and word not in (*nodes_of_cache, "cache-1") for word in words):
        return NOT_AS_PODS if cluster.kubernetes else NO_CACHE_CLUSTER
    wanted = [word for word in words if word == BROKERS or word.startswith("kafka-")]
    names = [one.name for one in cluster.shop.kafka] if cluster.shop else []
    if wanted and not names:
        return NO_BROKERS
    absent = [word for word in wanted if word not in (BROKERS, *names)]
    return f"this shop has {len(names)} broker{'s' * (len(names) > 1)} and no {absent[0]}" if absent else None
