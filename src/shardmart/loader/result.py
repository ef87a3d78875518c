"""What a load came to: per collection, per shard, in words, as tables and as JSON.

Filled by loader.run, shown by loader.cli.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table

from .batches import Tally
from .survey import Placement


@dataclass
class CollectionResult:
    """One collection: what was written, what reading it back showed, and how long that took (seconds)."""

    wanted: int
    tally: Tally = field(default_factory=Tally)
    write_seconds: float = 0.0
    verify_seconds: float = 0.0
    placement: Placement | None = None

    @property
    def rate(self) -> float:
        """Documents written (or only generated) per second, 0 when none was."""
        documents = self.tally.written or (self.tally.compared if not self.tally.present else 0)
        return documents / self.write_seconds if self.write_seconds else 0.0


@dataclass
class Result:
    """The whole load."""

    seed: int
    mode: str
    """load, check or dry-run"""
    verified: bool
    """Whether documents were read back and compared."""
    workers: int = 1
    collections: dict[str, CollectionResult] = field(default_factory=dict)
    other_seeds: tuple[int, ...] = ()
    deleted: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def written(self) -> int:
        """Documents written by this run."""
        return sum(result.tally.written for result in self.collections.values())

    @property
    def faults(self) -> list[str]:
        """What verification found wrong, a line per kind and collection."""
        lines = []
        for name, result in self.collections.items():
            tally = result.tally
            for count, what in (
                (tally.missing, "missing"),
                (tally.different, "not as generated"),
                (tally.doubled, "on two shards"),
            ):
                if count:
                    lines.append(f"{name}: {count:,} {what}")
        return lines

    @property
    def samples(self) -> list[str]:
        """A few of the documents that are wrong."""
        return [sample for result in self.collections.values() for sample in result.tally.samples]

    def as_document(self) -> dict[str, Any]:
        """The result for machines (`--json`)."""
        return {
            "mode": self.mode,
            "seed": self.seed,
            "written": self.written,
            "deleted": self.deleted,
            "verified": self.verified and not self.interrupted and not self.faults,
            "interrupted": self.interrupted,
            "faults": self.faults,
            "samples": self.samples,
            "other_seeds": list(self.other_seeds),
            "workers": self.workers,
            "seconds": round(self.seconds, 3),
            "collections": {name: _collection_document(result) for name, result in self.collections.items()},
        }

    def render(self, console: Console) -> None:
        """Print the result for people."""
        console.print(Group(*self._tables()))

    def _tables(self) -> list[RenderableType]:
        table = _table(_TITLES[self.mode].format(seed=self.seed), "collection")
        rows = [self._cells(result) for result in self.collections.values()]
        for column in rows[0]:
            table.add_column(column, justify="right", overflow="fold")
        for name, cells in zip(self.collections, rows, strict=True):
            table.add_row(name, *cells.values())
        return [table, *(self._placement_table() if any(r.placement for r in self.collections.values()) else ())]

    def _cells(self, result: CollectionResult) -> dict[str, str]:
        """The columns of one collection that mean something in this mode."""
        tally = result.tally
        cells = {"documents": f"{result.wanted:,}"}
        if self.mode == "load":
            cells |= {"written": f"{tally.written:,}", "there": f"{tally.present:,}"}
        if self._any_changed:
            cells["changed"] = f"{tally.changed:,}"
        if tally.compared:
            cells["MB"] = f"{tally.bytes / 1e6:,.{2 if tally.bytes < 100e6 else 0}f}"
        if self.mode != "check":
            cells["write s" if self.mode == "load" else "seconds"] = f"{result.write_seconds:.1f}"
            cells["per s"] = f"{result.rate:,.0f}" if result.rate else "-"
        if self.verified:
            cells["verify s"] = f"{result.verify_seconds:.1f}"
        if self.mode == "dry-run":
            cells["checksum"] = f"{tally.checksum:032x}"[:12]
        return cells

    @property
    def _any_changed(self) -> bool:
        return any(result.tally.changed for result in self.collections.values())

    def _placement_table(self) -> list[RenderableType]:
        """A row per collection and shard: any number of shards fits on any terminal."""
        table = _table("Documents per shard, and as zones and shard key predict", "collection", "shard")
        for column in ("documents", "predicted", "off by"):
            table.add_column(column, justify="right", overflow="fold")
        for name, result in self.collections.items():
            if placement := result.placement:
                for shard, found in sorted(placement.found.items()):
                    table.add_row(name, shard, f"{found:,}", *_against(found, (placement.predicted or {}).get(shard)))
        return [table]


def _against(found: int, predicted: float | None) -> tuple[str, str]:
    """The prediction, and how far `found` is off it."""
    if predicted is None:
        return "?", "?"
    return f"{predicted:,.0f}", f"{abs(found - predicted) / predicted:.1%}" if predicted else "-"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


_TITLES = {
    "load": "Data set of seed {seed}",
    "check": "Data set of seed {seed}, nothing written",
    "dry-run": "Data set of seed {seed}, generated only",
}


def _collection_document(result: CollectionResult) -> dict[str, Any]:
    tally = result.tally
    placement = result.placement
    return {
        "documents": result.wanted,
        "written": tally.written,
        "present": tally.present,
        "compared": tally.compared,
        "changed": tally.changed,
        "missing": tally.missing,
        "different": tally.different,
        "doubled": tally.doubled,
        "bytes": tally.bytes,
        "checksum": f"{tally.checksum:032x}",
        "write_seconds": round(result.write_seconds, 3),
        "verify_seconds": round(result.verify_seconds, 3),
        "per_second": round(result.rate, 1),
        "shards": None if placement is None else {"found": placement.found, "predicted": placement.predicted},
    }
