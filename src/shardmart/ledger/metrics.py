"""What a running workload looks like from outside: one line a second with counts and latency percentiles.

`metrics.jsonl` beside the journals is for the living, while the workload runs; afterwards the journals say all of it.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of an ordered sequence; 0.0 when it is empty."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


@dataclass(frozen=True)
class Window:
    """The operations that ended in one second.  Latencies of acknowledged operations, in milliseconds."""

    at: float
    ok: int
    failed: int
    unknown: int
    writes_ok: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Recorder:
    """Counts ended operations; `close_window` turns what came since the last call into a Window."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: Counter[str] = Counter()
        self._writes = 0
        self._latencies: list[float] = []
        self.total: Counter[str] = Counter()

    def count(self, outcome: str, latency_ms: float, *, write: bool) -> None:
        """One operation ended."""
        with self._lock:
            self._outcomes[outcome] += 1
            if outcome == "ok":
                self._latencies.append(latency_ms)
                self._writes += write

    def close_window(self) -> Window:
        """The window since the last call."""
        with self._lock:
            outcomes, self._outcomes = self._outcomes, Counter()
            latencies, self._latencies = self._latencies, []
            writes, self._writes = self._writes, 0
        self.total.update(outcomes)
        latencies.sort()
        return Window(
            at=time.time(),
            ok=outcomes["ok"],
            failed=outcomes["failed"],
            unknown=outcomes["unknown"],
            writes_ok=writes,
            p50_ms=round(percentile(latencies, 0.50), 3),
            p95_ms=round(percentile(latencies, 0.95), 3),
            p99_ms=round(percentile(latencies, 0.99), 3),
            max_ms=round(latencies[-1] if latencies else 0.0, 3),
        )


def read_windows(folder: Path, since: float = 0.0) -> list[Window]:
    """The windows a run has written so far that ended after `since` (wall-clock seconds)."""
    try:
        lines = (folder / METRICS_FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    windows = []
    for line in lines:
        try:
            document: dict[str, Any] = json.loads(line)
        except ValueError:  # The last line may be half written: the workload is running.
            continue
        if document["at"] > since:
            windows.append(Window(**document))
    return windows
