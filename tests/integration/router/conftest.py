"""Sharded clusters for the router's tests: with the development router, and with mongos where there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from shardmart.platforms import embedded
from tests.support.clusters import EmbeddedCluster, small_topology

MONGOS = shutil.which("mongos")
ROUTERS = [
    "development router",
    pytest.param("mongos", marks=pytest.mark.skipif(not MONGOS, reason="no mongos on PATH")),
]


def use_router(cluster: EmbeddedCluster, kind: str) -> None:
    """Make every router of a cluster a mongos, or the development router."""
    config_db = cluster.description.config_servers.connection_string
    for router in cluster.description.routers:
        mongos = MONGOS if kind == "mongos" else None
        process = embedded.router_process(router, config_db, cluster.folder, mongos)
        cluster.processes[process.name] = process


def running(folder: Path, kind: str, **sizes: int) -> Iterator[EmbeddedCluster]:
    """A bootstrapped cluster behind a router of `kind`, destroyed afterwards."""
    cluster = EmbeddedCluster(folder, small_topology(**sizes))
    cluster.write_secrets()
    use_router(cluster, kind)
    try:
        cluster.start()
        cluster.bootstrap()
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture(scope="session", params=ROUTERS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """One config server, two shards of one member."""
    yield from running(tmp_path_factory.mktemp("router") / "state", request.param)


@pytest.fixture(scope="session", params=ROUTERS)
def replicated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """Three config servers, two shards of three members: it survives the death of any one."""
    folder = tmp_path_factory.mktemp("replicated") / "state"
    yield from running(folder, request.param, config=3, members=3)


@pytest.fixture
def client(cluster: EmbeddedCluster) -> Iterator[MongoClient[dict[str, Any]]]:
    """The administrator, through the router of `cluster`."""
    with cluster.client() as connected:
        yield connected


@pytest.fixture
def database(client: MongoClient[dict[str, Any]], request: pytest.FixtureRequest) -> Iterator[Any]:
    """A database of the test's own."""
    name = request.node.name.partition("[")[0][-40:].strip("_")
    client.drop_database(name)
    yield client[name]
    client.drop_database(name)
