"""A state folder whose "members" are echo servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from echo_cluster import EchoCluster


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EchoCluster]:
    """Five echo servers."""
    monkeypatch.setenv("SHARDMART_STATE", str(tmp_path / "state"))
    made = EchoCluster(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def await_true() -> Callable[[Callable[[], bool], float, str], None]:
    """Wait for a condition, and say what was awaited when it does not come."""

    def wait(condition: Callable[[], bool], seconds: float, words: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"waited {seconds:g} s for {words}"
            time.sleep(0.05)

    return wait
