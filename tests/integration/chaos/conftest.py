"""A state folder whose "members" are echo servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from echo_cluster import EchoCluster

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.faults import kinds
from shardmart.chaos.faults.disk import device_of


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EchoCluster]:
    """Five echo servers."""
    monkeypatch.setenv("SHARDMART_STATE", str(tmp_path / "state"))
    made = EchoCluster(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def a_disk_to_slow(cluster: EchoCluster) -> None:
    """A data folder on a device that can be limited here; skips the test, and says why, where there is none."""
    if lacking := kinds.requirement(cluster.targets, "slowdisk"):
        pytest.skip(lacking)
    (cluster.state.folder / "data").mkdir()
    try:
        device_of(cluster.state.folder / "data")
    except ChaosError as error:
        pytest.skip(str(error))


@pytest.fixture
def await_true() -> Callable[[Callable[[], bool], float, str], None]:
    """Wait for a condition, and say what was awaited when it does not come."""

    def wait(condition: Callable[[], bool], seconds: float, words: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds:g} s for {words}"
            time.sleep(0.05)

    return wait
