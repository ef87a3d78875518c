"""Progress as a bar with documents per second, time left and documents per shard.

Imported on terminals only: rich is slow to load.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from .progress import NOTICE_SECONDS, Rate, listed


class _Bar(Progress):
    """A bar, and below it the documents per shard: beside it they would push everything else out of 80 columns."""

    shards = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.shards:
            yield Text(self.shards, style="dim", overflow="ellipsis", no_wrap=True)


class BarReporter:
    """A bar that redraws itself, for terminals."""

    def __init__(self, console: Console) -> None:
        self._progress = _Bar(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[rate]:>10,.0f}/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._done = 0
        self._rate = Rate()
        self._next_notice = 0.0
        self._progress.start()

    def begin(self, phase: str, total: int) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(phase, total=total, rate=0.0)
        self._progress.shards = ""
        self._done, self._rate = 0, Rate()

    def advance(self, documents: int) -> None:
        self._done += documents
        if self._task is not None:
            self._progress.update(self._task, advance=documents, rate=self._rate.update(self._done))

    def shards(self, counts: Mapping[str, int]) -> None:
        self._progress.shards = listed(counts).removeprefix("; ")

    def notice(self, line: str) -> None:
        if time.monotonic() >= self._next_notice:
            self._next_notice = time.monotonic() + NOTICE_SECONDS
            self._progress.console.print(line, highlight=False, markup=False)

    def tick(self) -> None:
        """The bar redraws itself."""

    def end(self) -> None:
        self._progress.stop()
