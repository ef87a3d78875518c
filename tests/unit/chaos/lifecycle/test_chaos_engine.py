"""The engine's limits, and that a seed decides."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from shardmart.chaos.lifecycle import records
from shardmart.chaos.lifecycle.engine import FAULTS, Choice, Engine, Plan
from shardmart.chaos.lifecycle.records import Record
from shardmart.chaos.targets.selectors import Targets


def engine(of: Targets, **options: Any) -> Engine:
    return Engine(of, Plan(**{"faults": FAULTS} | options), lambda _: None)


def choices(of: Targets, seed: int) -> list[Choice | None]:
    made = engine(of, seed=seed)
    return [made.choose() for _ in range(30)]


def test_same_seed_same_choices(targets: Targets) -> None:
    assert choices(targets, 7) == choices(targets, 7)
    assert choices(targets, 7) != choices(targets, 8)


def test_every_fault_is_chosen_some_time(targets: Targets) -> None:
    made = engine(targets)
    assert {choice.fault for _ in range(300) if (choice := made.choose())} == set(FAULTS)


def test_a_set_is_left_alone_after_a_fault_on_it(targets: Targets) -> None:
    made = engine(targets, faults=("kill",), calm_s=60)
    made._touched = {"shard1ReplSet": time.monotonic(), "configReplSet": time.monotonic()}
    touched = {choice.servers[0].group for _ in range(50) if (choice := made.choose())}
    assert touched == {"shard2ReplSet"}
    made._touched["shard2ReplSet"] = time.monotonic()
    assert made.choose() is None


def test_one_fault_at_a_time(targets: Targets) -> None:
    records.write(targets.state, Record("x", "pause", "pause", ["shard1-1"], 60, status="active"))
    assert engine(targets).choose() is None


def test_partition_leaves_the_outside_in_touch(targets: Targets) -> None:
    choice = engine(targets, faults=("partition",)).choose()
    assert choice is not None
    assert "outside" not in choice.parameters["peers"]
    assert choice.parameters["loss"] == 1.0


def test_lengths_stay_in_their_range(targets: Targets) -> None:
    made = engine(targets, length_s=(3.0, 4.0))
    assert all(3 <= choice.length_s <= 4 for _ in range(100) if (choice := made.choose()))


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path) -> None:
    (tmp_path / "chaos").mkdir(exist_ok=True)
