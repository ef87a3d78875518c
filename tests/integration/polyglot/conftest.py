"""A cluster with products, and PostgreSQL and Valkey beside it, kept for the module."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import pytest

from shardmart.loader.cli import main
from tests.support.clusters import EmbeddedCluster, embedded_cluster
from tests.support.polyglot import Polyglot, polyglot


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    with embedded_cluster(tmp_path_factory.mktemp("cluster") / "state", shop=True) as running:
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["--json", "--state", str(running.folder), "--products", "1200", "--no-verify"]) == 0
        yield running


@pytest.fixture(scope="module")
def sources(cluster: EmbeddedCluster) -> Iterator[Polyglot]:
    with polyglot(cluster) as running:
        yield running
