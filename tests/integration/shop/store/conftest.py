"""A small cluster with the shop's collections, kept for a module; a PostgreSQL with its tables, and three
behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clusters import EmbeddedCluster, embedded_cluster
from tests.support.postgres_stores import RunningPostgres, running_postgres
from tests.support.shardingsphere.kit import ShardingSphereKit, sharded_kit
from tests.support.shardingsphere.proxy import RunningProxy, running_proxy


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with embedded_cluster(tmp_path_factory.mktemp("cluster") / "state", shop=True) as running:
        yield running


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPostgres]:
    with running_postgres(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(scope="session")
def sharding_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    with running_proxy(tmp_path_factory.mktemp("sharded")) as running:
        yield running


@pytest.fixture(scope="session")
def sharded(sharding_proxy: RunningProxy) -> Iterator[ShardingSphereKit]:
    with sharded_kit(sharding_proxy) as kit:
        yield kit
