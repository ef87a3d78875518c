"""Clusters for the loader's tests, kept for the session and emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from loader_shop import Shop

from tests.support.clusters import embedded_cluster


@pytest.fixture(scope="session")
def one_member_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with embedded_cluster(tmp_path_factory.mktemp("shop")) as cluster:
        yield Shop(cluster)


@pytest.fixture
def shop(one_member_shop: Shop) -> Shop:
    """A cluster of sets of one member, empty."""
    one_member_shop.clear()
    return one_member_shop


@pytest.fixture(scope="session")
def three_member_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with embedded_cluster(tmp_path_factory.mktemp("replicated"), members=3) as cluster:
        yield Shop(cluster)


@pytest.fixture
def replicated_shop(three_member_cluster: Shop) -> Shop:
    """A cluster of shards of three members, all running, empty."""
    three_member_cluster.cluster.start()
    three_member_cluster.clear()
    return three_member_cluster
