"""Heartbeats of writes, read back from the folder of an experiment: how long each shard acknowledged none."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

FILE = "writability.jsonl"


@dataclass(frozen=True)
class Beat:
    """One heartbeat: when it was sent and answered (wall-clock seconds), and whether it was acknowledged."""

    shard: str
    sent: float
    answered: float
    ok: bool

    def line(self) -> str:
        """As `writability.jsonl` has it."""
        return json.dumps(asdict(self)) + "\n"


def beats(folder: Path) -> list[Beat]:
    """The heartbeats written so far."""
    try:
        lines = (folder / FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Beat(**json.loads(line)))
        except ValueError:  # the last line may be half written
            continue
    return found


@dataclass(frozen=True)
class Outage:
    """The longest time between two acknowledged heartbeats of a shard: from when, and how long, in seconds."""

    shard: str
    since: float
    seconds: float


def outages(folder: Path, since: float = 0.0, until: float | None = None) -> dict[str, Outage]:
    """The longest outage of every shard among the heartbeats answered after `since`."""
    acknowledged: dict[str, list[float]] = {}
    newest = 0.0
    for beat in beats(folder):
        newest = max(newest, beat.answered)
        times = acknowledged.setdefault(beat.shard, [])
        if beat.ok and (until is None or beat.answered <= until):
            times.append(beat.answered)
    worst = {}
    for shard, times in acknowledged.items():
        points = [t for t in times if t <= since][-1:] + [t for t in times if t > since]
        points.append(min(newest, until) if until else newest)  # still without writes at the end
        gaps = [(b - a, a) for a, b in pairwise(points)]
        length, start = max(gaps, default=(0.0, since))
        worst[shard] = Outage(shard, start, length)
    return worst


def is_writable(folder: Path, shard: str, within_s: float) -> bool:
    """Whether a heartbeat of the shard was acknowledged that was sent in the last `within_s` seconds."""
    recent = time.time() - within_s
    return any(beat.ok and beat.shard == shard and beat.sent >= recent for beat in beats(folder))
