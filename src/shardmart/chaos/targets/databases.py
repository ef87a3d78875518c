"""PostgreSQL servers as targets: which have the shop's store, and on this machine their processes."""

from __future__ import annotations

import time

import psutil

from shardmart.cluster.description import Cluster, Node
from shardmart.cluster.observe import patroni as observe
from shardmart.cluster.protocol.connection import POLL_SECONDS
from shardmart.cluster.shop import Instance, Shop
from shardmart.platforms import patroni, postgres, shop_nodes
from shardmart.platforms.state import State

from ..errors import ChaosError

LEADER = f"primary:{shop_nodes.STORE}"
ADMINISTRATOR = "postgres"


def family(server: postgres.Server) -> list[psutil.Process]:
    """The server's processes, the one that starts the others first; empty when it is down."""
    found = server.running()
    try:
        return [found, *found.children(recursive=True)] if found else []
    except psutil.Error:
        return []


def leader(cluster: Cluster, wait_seconds: float) -> Node:
    """The server that takes writes, which Patroni says where there are several.  ChaosError when none does in time."""
    servers, end = {one.name: one for one in shop_nodes.store_nodes(cluster)}, time.monotonic() + wait_seconds
    if len(servers) == 1:
        return next(iter(servers.values()))
    while (found := observe.leader(_nodes(cluster.shop))) is None:
        if time.monotonic() > end:
            raise ChaosError(f"waited {wait_seconds:g} s for a node of the store to lead")
        time.sleep(POLL_SECONDS)
    return servers[found.name]


def whole(cluster: Cluster) -> bool:
    """Whether one node of the store leads and all others follow."""
    return observe.is_whole(observe.members(_nodes(cluster.shop)))


def under_patroni(cluster: Cluster, state: State) -> patroni.Store | None:
    """The store's nodes as processes of this machine; None where the store is one server."""
    return patroni.Store.of(cluster.shop, state.folder) if cluster.shop and cluster.shop.postgres_nodes else None


def store_process(state: State, server: Node) -> postgres.Server:
    """A server of the shop's store as a process of this machine, running or not."""
    password, shop = state.folder / "secrets" / "shop-postgres.password", state.description().shop
    return postgres.Server(
        *(server.name, server.port, ADMINISTRATOR, password, postgres.Host(state.folder)),
        peers=False,
        tls=shop is not None and shop.backends.tls,
    )


def _nodes(shop: Shop | None) -> tuple[Instance, ...]:
    if shop is None or not shop.postgres_nodes:
        raise ChaosError("the store of this shop is one server: start it with inventories/topologies/shop-patroni.yml")
    return shop.postgres_nodes
