"""A small cluster with the shop's collections, kept for a module, and a PostgreSQL with its tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clusters import EmbeddedCluster, embedded_cluster
from tests.support.postgres_stores import RunningPostgres, running_postgres


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with embedded_cluster(tmp_path_factory.mktemp("cluster") / "state", shop=True) as running:
        yield running


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPostgres]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running
