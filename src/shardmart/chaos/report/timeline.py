"""An experiment's measurements on one time axis: operations, latency, outages, faults, elections.

Read from the folder of a finished experiment: the journals themselves, the heartbeats and the events.  Time is in
seconds since the experiment began.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from shardmart.ledger.journal import JournalError, Run, read_all
from shardmart.ledger.metrics import percentile

from ..observation.heartbeats import Beat, beats

BUCKETS = 240
MINIMUM_BUCKET_SECONDS = 0.5
GAP_SECONDS = 1.0
"""A shard without an acknowledged heartbeat for this long is drawn as not writable."""


@dataclass(frozen=True)
class Window:
    """A fault from `start` to `end`, in seconds of the experiment."""

    name: str
    words: str
    start: float
    end: float
    targets: tuple[str, ...]
    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Election:
    """A new primary at `at` seconds."""

    at: float
    set_name: str
    primary: str


@dataclass
class Timeline:
    """Everything a picture of the experiment needs.  Rates are per second, latencies in milliseconds."""

    width: float
    duration: float
    times: list[float] = field(default_factory=list)
    ok: list[float] = field(default_factory=list)
    failed: list[float] = field(default_factory=list)
    unknown: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p95: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    faults: list[Window] = field(default_factory=list)
    elections: list[Election] = field(default_factory=list)
    gaps: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def build(folder: Path, started: float, ended: float, events: Iterable[dict[str, Any]]) -> Timeline:
    """The timeline of the experiment in `folder`, which ran from `started` to `ended` (wall clock)."""
    duration = max(1.0, ended - started)
    width = max(MINIMUM_BUCKET_SECONDS, duration / BUCKETS)
    timeline = Timeline(width, duration)
    _operations(timeline, folder / "ledger", started)
    _faults(timeline, list(events), started, ended)
    timeline.gaps = _gaps(beats(folder), started, ended)
    return timeline


def _operations(timeline: Timeline, ledger: Path, started: float) -> None:
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    latencies: defaultdict[int, array[float]] = defaultdict(lambda: array("f"))
    try:
        run = Run.read(ledger)
    except JournalError:  # the workload never began
        return
    for workload in run.workloads:
        for operation in read_all(ledger, workload):
            if operation.end is None:
                continue
            bucket = int((run.wall(operation.end) - started) / timeline.width)
            counts[bucket][operation.outcome] += 1
            if operation.outcome == "ok":
                latencies[bucket].append((operation.end - operation.start) / 1e6)
    for bucket in range(int(timeline.duration / timeline.width)):
        count = counts[bucket]
        timeline.times.append((bucket + 0.5) * timeline.width)
        timeline.ok.append(count["ok"] / timeline.width)
        timeline.failed.append(count["failed"] / timeline.width)
        timeline.unknown.append(count["unknown"] / timeline.width)
        ordered = sorted(latencies[bucket])
        for series, share in ((timeline.p50, 0.5), (timeline.p95, 0.95), (timeline.p99, 0.99)):
            series.append(percentile(ordered, share) if ordered else float("nan"))


def _faults(timeline: Timeline, events: list[dict[str, Any]], started: float, ended: float) -> None:
    ends = {event["id"]: event for event in events if event["event"] == "fault-ended"}
    for event in events:
        if event["event"] == "fault-started":
            end = ends.get(event["id"], {"at": ended, "reason": "still active"})
            timeline.faults.append(
                Window(
                    name=event["name"],
                    words=event["words"],
                    start=event["at"] - started,
                    end=end["at"] - started,
                    targets=tuple(event["targets"]),
                    reason=end["reason"],
                    evidence=end.get("evidence", {}),
                )
            )
        elif event["event"] == "election":
            timeline.elections.append(Election(event["at"] - started, event["set"], event["primary"]))


def _gaps(found: Iterable[Beat], started: float, ended: float) -> dict[str, list[tuple[float, float]]]:
    acknowledged: defaultdict[str, list[float]] = defaultdict(list)
    first: dict[str, float] = {}
    for beat in found:
        if beat.answered > ended:  # while the workload was being stopped
            continue
        first.setdefault(beat.shard, beat.sent)
        if beat.ok:
            acknowledged[beat.shard].append(beat.answered)
    gaps = {}
    for shard, begin in first.items():
        points = [begin, *acknowledged[shard], ended]
        gaps[shard] = [(a - started, b - started) for a, b in pairwise(points) if b - a > GAP_SECONDS]
    return gaps
