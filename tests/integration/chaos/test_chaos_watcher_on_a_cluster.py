"""The watcher on a real cluster: it begins although the router is late, and tells what is acknowledged."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardmart.chaos.observation.watcher import TIMEOUT_MS, Beat, Watcher
from shardmart.chaos.targets.selectors import Targets
from tests.support.clusters import EmbeddedCluster, embedded_cluster

pytestmark = pytest.mark.integration


@pytest.fixture
def real_cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """Sets of one member and one router."""
    with embedded_cluster(tmp_path / "state", members=1) as running:
        yield running


def test_watcher_begins_although_the_router_is_later_than_a_heartbeat_may_be(real_cluster: EmbeddedCluster) -> None:
    heard: set[str] = set()
    every_shard = threading.Event()

    def hear(beat: Beat) -> None:
        if beat.ok:
            heard.add(beat.shard)
        if heard == {shard.name for shard in real_cluster.description.shards}:
            every_shard.set()

    watcher = Watcher(Targets(real_cluster.state), hear, lambda election: None)
    router = real_cluster.description.routers[0].name
    real_cluster.kill(router, signal.SIGSTOP)
    awake = threading.Timer(2 * TIMEOUT_MS / 1000, real_cluster.kill, (router, signal.SIGCONT))
    awake.start()
    try:
        watcher.start()
        assert awake.finished.is_set(), "the router answered while it was stopped"
        assert every_shard.wait(30), f"no acknowledged heartbeat but on {heard}"
    finally:
        awake.join()
        watcher.stop()
