"""Functions that are called in the toolbox: the agent runs here as it would there, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.observation.answers import longest_silence
from shardmart.chaos.targets import beside, customers
from shardmart.chaos.targets.selectors import Targets
from shardmart.platforms.state import State


@pytest.fixture
def far(tmp_path: Path) -> Targets:
    """Servers that cannot be reached from here, and a toolbox that mounts an empty state folder."""

    def run(command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        there = os.environ | {"SHARDMART_STATE": str(tmp_path)}
        return subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, env=there)

    platform = SimpleNamespace(direct=False, python=sys.executable, run=run)
    return cast("Targets", SimpleNamespace(platform=platform, state=State(tmp_path / "here")))


def described(state: State, word: str) -> list[Any]:
    """What the agent was given."""
    return [str(state.folder), word]


def test_the_answer_is_that_of_the_function(far: Targets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(described, "__module__", "test_chaos_beside")
    assert beside.call(far, described, seconds=1, word='"; ls') == [str(tmp_path), '"; ls']


def test_where_there_is_a_way_it_is_called_here(targets: Targets) -> None:
    assert beside.call(targets, described, seconds=1, word="x") == [str(targets.state.folder), "x"]


def test_what_it_raises_is_one_line_here(far: Targets) -> None:
    with pytest.raises(ChaosError, match=r"^no cluster in .*: run `make up`"):
        beside.call(far, customers.serves, seconds=1, wait_s=0)
    with pytest.raises(ChaosError, match=r"^/nowhere holds no journal"):
        beside.call(far, longest_silence, seconds=1, ledger="/nowhere", workload="shop", since=0)
