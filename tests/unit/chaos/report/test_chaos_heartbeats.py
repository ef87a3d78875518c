"""Time without writes, from heartbeats."""

from __future__ import annotations

import json
from pathlib import Path

from shardmart.chaos.observation.heartbeats import FILE, Beat, beats, outages
from shardmart.chaos.report.timeline import build


def write(folder: Path, *beats: tuple[str, float, bool]) -> None:
    lines = [json.dumps({"shard": s, "sent": at - 0.01, "answered": at, "ok": ok}) for s, at, ok in beats]
    (folder / FILE).write_text("\n".join(lines) + "\n" + '{"shard": "s1", "se')  # the last line is being written


def test_outage_is_from_the_last_answer_before_to_the_first_after(tmp_path: Path) -> None:
    write(tmp_path, ("s1", 1, True), ("s1", 2, True), ("s1", 4, False), ("s1", 9, True), ("s1", 9.5, True))
    found = outages(tmp_path, since=2.5)["s1"]
    assert (found.since, found.seconds) == (2, 7)


def test_outage_that_goes_on_counts_to_the_end(tmp_path: Path) -> None:
    write(tmp_path, ("s1", 1, True), ("s1", 5, False), ("s1", 11, False))
    assert outages(tmp_path)["s1"].seconds == 10


def test_shards_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, ("s1", 1, True), ("s2", 1, True), ("s2", 2, True), ("s1", 8, True), ("s2", 8, True))
    found = outages(tmp_path, since=1)
    assert (found["s1"].seconds, found["s2"].seconds) == (7, 6)


def test_timeline_shows_gaps_and_faults(tmp_path: Path) -> None:
    write(tmp_path, ("s1", 101, True), ("s1", 107, True), ("s1", 108, True), ("s1", 109, True))
    events = [
        {"at": 102.0, "event": "fault-started", "id": "f", "name": "kill", "targets": ["a"], "words": "kill on a"},
        {"at": 103.0, "event": "election", "set": "s1", "primary": "b", "before": "a"},
        {"at": 106.0, "event": "fault-ended", "id": "f", "name": "kill", "targets": ["a"], "reason": "deadline"},
    ]
    line = build(tmp_path, 100.0, 110.0, events)
    assert line.gaps == {"s1": [(1.0, 7.0)]}
    assert [(w.start, w.end, w.reason) for w in line.faults] == [(2.0, 6.0, "deadline")]
    assert [(e.at, e.primary) for e in line.elections] == [(3.0, "b")]


def test_heartbeats_after_the_end_are_not_drawn(tmp_path: Path) -> None:
    write(tmp_path, ("s1", 101, True), ("s1", 109, True), ("s1", 115, True), ("s1", 130, True))
    assert build(tmp_path, 100.0, 110.0, []).gaps == {"s1": [(1.0, 9.0)]}


def test_heartbeat_is_read_as_it_was_written(tmp_path: Path) -> None:
    sent = [Beat("s1", 1.5, 1.75, ok=True), Beat("s2", 2.0, 4.0, ok=False)]
    (tmp_path / FILE).write_text("".join(beat.line() for beat in sent))
    assert beats(tmp_path) == sent
