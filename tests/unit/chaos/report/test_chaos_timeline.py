"""The time axis of an experiment: operations, latencies, faults, gaps."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from shardmart.chaos.observation.heartbeats import Beat
from shardmart.chaos.report import timeline
from shardmart.chaos.report.timeline import GAP_SECONDS, Window, build
from shardmart.ledger.journal import Run, journal_path

STARTED = 1000.0
SECOND = 1_000_000_000


def journal(folder: Path, *operations: tuple[float, float, str]) -> None:
    """A run whose clock began at STARTED: operations begin and end in seconds of it, with their outcome."""
    ledger = folder / "ledger"
    Run("r", ("orders",), "ledger", 1, 0, "majority", STARTED, 0).write(ledger)
    with journal_path(ledger, "orders", 0).open("w") as file:
        for number, (begin, end, outcome) in enumerate(operations):
            for event, at in (("invoke", begin), (outcome, end)):
                line = {"n": number, "e": event, "t": int(at * SECOND), "f": "place", "v": {}, "r": 1}
                file.write(json.dumps(line) + "\n")


def test_operations_fall_into_the_buckets_they_end_in(tmp_path: Path) -> None:
    journal(tmp_path, (0.0, 0.4, "ok"), (0.0, 0.6, "ok"), (0.1, 0.7, "failed"), (0.2, 1.2, "unknown"))
    line = build(tmp_path, STARTED, STARTED + 2, [])
    assert (line.width, line.duration) == (0.5, 2.0)
    assert line.times == [0.25, 0.75, 1.25, 1.75]
    assert line.ok == [2.0, 2.0, 0.0, 0.0]  # one in half a second is two a second
    assert line.failed == [0.0, 2.0, 0.0, 0.0]
    assert line.unknown == [0.0, 0.0, 2.0, 0.0]


def test_axis_begins_with_the_experiment_and_not_with_the_ledger(tmp_path: Path) -> None:
    journal(tmp_path, (0.0, 0.1, "ok"))
    line = build(tmp_path, STARTED - 1, STARTED + 1, [])
    assert line.ok == [0.0, 0.0, 2.0, 0.0]


def test_latency_is_of_acknowledged_operations_only(tmp_path: Path) -> None:
    journal(tmp_path, *((0.0, 0.001 * n, "ok") for n in range(1, 101)), (0.0, 0.45, "failed"))
    line = build(tmp_path, STARTED, STARTED + 1, [])
    assert (line.p50[0], line.p95[0], line.p99[0]) == pytest.approx((50, 95, 99), abs=1e-3)
    assert math.isnan(line.p50[1])


def test_latency_is_from_the_beginning_of_an_operation(tmp_path: Path) -> None:
    journal(tmp_path, (0.125, 0.25, "ok"))
    assert build(tmp_path, STARTED, STARTED + 1, []).p50[0] == pytest.approx(125)


def test_long_experiment_has_as_many_buckets_as_a_picture_can_show(tmp_path: Path) -> None:
    journal(tmp_path)
    assert len(build(tmp_path, 0.0, 1200.0, []).times) == timeline.BUCKETS


def test_experiment_without_a_ledger_has_no_operations(tmp_path: Path) -> None:
    assert build(tmp_path, STARTED, STARTED + 2, []).times == []


def fault_events(**ended: Any) -> list[dict[str, Any]]:
    began = {"at": 1002.0, "event": "fault-started", "id": "f", "name": "kill", "targets": ["a"], "words": "kill on a"}
    return [began, *([{"at": 1006.0, "event": "fault-ended", "id": "f"} | ended] if ended else [])]


def test_fault_is_shown_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    line = build(tmp_path, STARTED, STARTED + 10, fault_events(reason="deadline", evidence={"killed": 1}))
    assert line.faults == [Window("kill", "kill on a", 2.0, 6.0, ("a",), "deadline", {"killed": 1})]


def test_fault_without_an_end_goes_on_to_the_end(tmp_path: Path) -> None:
    line = build(tmp_path, STARTED, STARTED + 10, fault_events())
    assert [(w.start, w.end, w.reason) for w in line.faults] == [(2.0, 10.0, "still active")]


def gaps(*beats: tuple[float, bool]) -> list[tuple[float, float]]:
    found = [Beat("s1", STARTED + at - 0.01, STARTED + at, ok) for at, ok in beats]
    made = timeline._gaps(found, STARTED, STARTED + 10)["s1"]
    return [(round(start, 3), round(end, 3)) for start, end in made]


def test_gap_is_between_two_acknowledged_heartbeats() -> None:
    assert gaps((1, True), (2, False), (4, True), (9.5, True)) == [(1.0, 4.0), (4.0, 9.5)]


def test_second_without_writes_is_no_gap_yet() -> None:
    assert gaps((8.5, True), (8.5 + GAP_SECONDS, True)) == []
    assert gaps((8.5, True), (8.6 + GAP_SECONDS, True)) == [(8.5, 9.6)]


def test_shard_that_acknowledged_nothing_yet_has_a_gap_from_its_first_heartbeat_on() -> None:
    assert gaps((1, False), (5, True), (9.9, True)) == [(0.99, 5.0), (5.0, 9.9)]


def test_shard_that_never_came_back_has_a_gap_to_the_end() -> None:
    assert gaps((1, True), (3, True), (4, False), (9.9, False)) == [(1.0, 3.0), (3.0, 10.0)]


def test_heartbeat_answered_after_the_end_is_not_drawn() -> None:
    assert gaps((8, True), (12, False), (12.5, True)) == [(8.0, 10.0)]


def test_heartbeat_answered_at_the_end_counts() -> None:
    assert gaps((9.5, True), (10, True)) == []
