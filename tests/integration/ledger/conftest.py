"""A sharded cluster whose shards have three members, elections fast."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clusters import EmbeddedCluster, embedded_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """One config server, two shards of three members, one router."""
    with embedded_cluster(tmp_path_factory.mktemp("cluster") / "state", members=3) as running:
        yield running
