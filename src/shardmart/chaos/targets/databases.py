"""PostgreSQL servers of this machine as targets: their processes, and which of them has the shop's store."""

from __future__ import annotations

import psutil

from shardmart.cluster.description import Cluster, Node, Role
from shardmart.platforms import postgres
from shardmart.platforms.state import State

STORE = "store"
ADMINISTRATOR = "postgres"


def family(server: postgres.Server) -> list[psutil.Process]:
    """The server's processes, the one that starts the others first; empty when it is down."""
    found = server.running()
    try:
        return [found, *found.children(recursive=True)] if found else []
    except psutil.Error:
        return []


def stores(cluster: Cluster) -> tuple[Node, ...]:
    """The server of the shop's store, where that is PostgreSQL and started with the shop; else none."""
    shop = cluster.shop
    if shop is None or shop.postgres is None or shop.backends.store != "postgres" or not shop.backends.postgres_is_ours:
        return ()
    return (Node(shop.postgres.name, Role.SERVICE, STORE, shop.postgres.host, shop.postgres.port),)


def store_process(state: State, server: Node) -> postgres.Server:
    """The server of the shop's store as a process of this machine, running or not."""
    password = state.folder / "secrets" / f"{server.name}.password"
    return postgres.Server(server.name, server.port, ADMINISTRATOR, password, postgres.Host(state.folder), peers=False)
