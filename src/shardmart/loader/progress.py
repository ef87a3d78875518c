"""Progress for people: a bar on a terminal, a plain line every five seconds elsewhere.

It writes to standard error only, so that standard output holds the result alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console

LINE_SECONDS = 5.0
NOTICE_SECONDS = 2.0
"""Workers that wait for the same election all say so; one line this often is enough."""

RATE_WINDOW_SECONDS = 10.0


class Reporter(Protocol):
    """What the load tells people while it runs."""

    def begin(self, phase: str, total: int) -> None:
        """A phase of `total` documents starts."""

    def advance(self, documents: int) -> None:
        """More of them are done."""

    def shards(self, counts: Mapping[str, int]) -> None:
        """Documents per shard now, of the collection being written."""

    def notice(self, line: str) -> None:
        """Something people should know."""

    def tick(self) -> None:
        """Called some times a second."""

    def end(self) -> None:
        """Nothing more is coming."""


class Rate:
    """Documents per second over the last seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def update(self, done: int) -> float:
        """Note that `done` are done now, and give the rate."""
        now = time.monotonic()
        self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > RATE_WINDOW_SECONDS:
            self._points.popleft()
        since, before = self._points[0]
        elapsed = now - since
        return (done - before) / elapsed if elapsed > 0 else 0.0


class LineReporter:
    """Plain lines, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase, self._total, self._done = "", 0, 0
        self._rate = Rate()
        self._counts: Mapping[str, int] = {}
        self._next_line = time.monotonic() + LINE_SECONDS
        self._next_notice = 0.0

    def begin(self, phase: str, total: int) -> None:
        self._phase, self._total, self._done = phase, total, 0
        self._rate, self._counts = Rate(), {}

    def advance(self, documents: int) -> None:
        self._done += documents

    def shards(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def notice(self, line: str) -> None:
        if time.monotonic() >= self._next_notice:
            self._next_notice = time.monotonic() + NOTICE_SECONDS
            self._console.print(line, highlight=False, markup=False)

    def tick(self) -> None:
        if time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + LINE_SECONDS
        rate = self._rate.update(self._done)
        left = f", {_duration((self._total - self._done) / rate)} left" if rate else ""
        share = 100 * self._done / self._total if self._total else 100
        done = f"{self._done:,} of {self._total:,} ({share:.0f} %)"
        line = f"{self._phase}: {done}, {rate:,.0f}/s{left}{listed(self._counts)}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def end(self) -> None:
        """Lines need no end."""


def reporter(console: Console) -> Reporter:
    """The reporter that fits `console`."""
    if not console.is_terminal:
        return LineReporter(console)
    from .bar import BarReporter

    return BarReporter(console)


def listed(counts: Mapping[str, int]) -> str:
    return "; " + ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) if counts else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
