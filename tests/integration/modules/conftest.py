"""Servers that the module tests share: a bare set of three mongods, and a whole small cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import EmbeddedCluster, embedded_cluster, small_topology


@pytest.fixture
def bare_set(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Three mongods of shard1ReplSet that listen and know nothing of each other."""
    description = small_topology(shards=1, members=3)
    cluster = EmbeddedCluster(tmp_path / "state", description)
    cluster.write_secrets()
    try:
        cluster.start("shard1-1", "shard1-2", "shard1-3")
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """One config server, two shards of one member, one router; bootstrapped. Each test leaves it as it was."""
    with embedded_cluster(tmp_path_factory.mktemp("cluster") / "state") as running:
        yield running
