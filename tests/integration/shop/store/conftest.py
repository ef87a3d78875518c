"""A small cluster with the shop's collections, kept for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clusters import EmbeddedCluster, embedded_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with embedded_cluster(tmp_path_factory.mktemp("cluster") / "state", shop=True) as running:
        yield running
