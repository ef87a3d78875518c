"""Many runs in one table: what was proved, how long nothing was acknowledged, what was lost."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..observation import answers, heartbeats
from .runs import SUMMARY, events_of, measured, read_summary


@dataclass(frozen=True)
class Row:
    """One experiment over its runs."""

    title: str
    runs: int
    passed: int
    proof: str
    median_s: float | None
    worst_s: float | None
    acknowledged: int
    lost: int
    doubled: int
    anomalies: int


def summarize(runs: Path, since: float = 0.0) -> list[Row]:
    """One row for each experiment among the finished runs in a folder that began after `since` (wall clock)."""
    by_title: defaultdict[str, list[Path]] = defaultdict(list)
    for file in sorted(runs.glob(f"*/{SUMMARY}")):
        summary = json.loads(file.read_text())
        if summary["started"] >= since:
            by_title[summary["title"]].append(file.parent)
    return [_row(title, folders) for title, folders in by_title.items()]


def _row(title: str, folders: list[Path]) -> Row:
    summaries = [read_summary(folder) for folder in folders]
    verdicts = [s["verdict"] or {} for s in summaries]
    gaps = []
    for folder, summary in zip(folders, summaries, strict=True):
        if (gap := _without_acknowledgement(folder, summary)) is not None:
            gaps.append(gap)
    proofs = [[m for m in s["measured"] if m["name"].startswith("proof")] for s in summaries]
    return Row(
        title=title,
        runs=len(summaries),
        passed=sum(s["status"] == "passed" for s in summaries),
        proof=measured(proofs[-1]) or "-",
        median_s=statistics.median(gaps) if gaps else None,
        worst_s=max(gaps) if gaps else None,
        acknowledged=sum(v.get("acknowledged", 0) for v in verdicts),
        lost=sum(v.get("lost", 0) for v in verdicts),
        doubled=sum(v.get("doubled", 0) for v in verdicts),
        anomalies=sum(sum(v.get("counts", {}).values()) for v in verdicts),
    )


def _without_acknowledgement(folder: Path, summary: dict[str, Any]) -> float | None:
    """The longest time, seconds: of a shard by its heartbeats, of a client where there are none; None: not measured."""
    faults = [event["at"] for event in events_of(folder, summary) if event["event"] == "fault-started"]
    since = min(faults, default=summary["started"])
    if heartbeats.beats(folder):
        found = heartbeats.outages(folder, since, summary["ended"]) if faults else {}
        return max((outage.seconds for outage in found.values()), default=None)
    return answers.longest_without(folder / "ledger", since, summary["ended"])


def markdown(rows: list[Row]) -> str:
    """The table for people and for documents."""
    lines = [
        "| experiment | runs passed | proof of fault (last run) | nothing acknowledged for, median (s) | worst (s)"
        " | acknowledged | lost | doubled |",
        "|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        median = "-" if row.median_s is None else f"{row.median_s:.2f}"
        worst = "-" if row.worst_s is None else f"{row.worst_s:.2f}"
        lines.append(
            f"| {row.title} | {row.passed}/{row.runs} | {row.proof} | {median} | {worst} "
            f"| {row.acknowledged:,} | {row.lost} | {row.doubled} |"
        )
    return "\n".join(lines)
