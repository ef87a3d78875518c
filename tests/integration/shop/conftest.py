"""A cluster with a shop, kept for the module: two instances of each service that handles events."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import pytest

from shardmart.loader.cli import main
from tests.support.clusters import EmbeddedCluster, embedded_cluster
from tests.support.shops import CONSUMERS, STOCK, RunningShop, running_shop


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with embedded_cluster(tmp_path_factory.mktemp("cluster") / "state", shop=True) as running:
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["--json", "--state", str(running.folder), "--users", "30", "--no-verify"]) == 0
        with running.client() as client:
            client["ecommerce"]["products"].update_many({}, {"$set": {"stock": STOCK}})
        yield running


@pytest.fixture(scope="module")
def shop(cluster: EmbeddedCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    with running_shop(cluster, tmp_path_factory.mktemp("shop"), dict.fromkeys(CONSUMERS, 2)) as running:
        yield running


@pytest.fixture(scope="module")
def database(cluster: EmbeddedCluster) -> Iterator[Any]:
    with cluster.client() as client:
        yield client["ecommerce"]


@pytest.fixture(scope="module")
def customers(database: Any) -> list[str]:
    """Customers of all regions, as callers name them."""
    return [f"{user['region']}.{user['_id']}" for user in database["users"].find().sort("_id", 1)]


@pytest.fixture(scope="module")
def products(database: Any) -> list[str]:
    return [str(product["_id"]) for product in database["products"].find().sort("_id", 1)]


@pytest.fixture(autouse=True)
def _provider_without_rules(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that has a shop; one that has none must not start one."""
    shop = request.getfixturevalue("shop") if "shop" in request.fixturenames else None
    yield
    if shop is not None:
        shop.rules()
