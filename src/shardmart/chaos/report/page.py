"""The report of an experiment: one self-contained HTML page and one PNG; and a summary over many runs.

`toolkit.controls` writes it after every run, `shardmart chaos report` again from the same folder.  It reads what the
experiment left (summary.json, journals, heartbeats, events) and never the cluster.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ..errors import ChaosError
from ..lifecycle import register
from ..observation import watcher
from . import plot, timeline

PACKAGES = ("shardmart", "chaostoolkit", "chaostoolkit-lib", "pymongo")
SUMMARY = "summary.json"
EVENTS = "events.json"


def write_report(folder: Path) -> Path:
    """Write report.html and report.png into an experiment's folder; returns the page."""
    summary = read_summary(folder)
    line = timeline.build(folder, summary["started"], summary["ended"], _events(folder, summary))
    figure = plot.draw(line, summary["title"], _subtitle(summary))
    plot.png(figure, folder / "report.png")
    page = (
        _environment()
        .get_template("report.html")
        .render(
            summary=summary,
            verdict=summary["verdict"] or {},
            line=line,
            outages=sorted(_outages(folder, summary, line), key=lambda outage: outage.shard),
            picture=plot.svg(figure),
            versions=versions(folder),
            when=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(summary["started"])),
            words=verdict_in_words(summary, line),
            folder=folder.name,
        )
    )
    plot.close(figure)
    path = folder / "report.html"
    path.write_text(page)
    return path


def _subtitle(summary: dict[str, Any]) -> str:
    verdict = summary["verdict"] or {}
    counts = verdict.get("counts", {})
    found = ", ".join(f"{kind} {count}" for kind, count in list(counts.items())[:3]) or "lost 0, doubled 0"
    return f"{summary['status']} · {verdict.get('acknowledged', 0):,} operations acknowledged, {found}"


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished experiment; ChaosError when the folder has none."""
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    except FileNotFoundError:
        raise ChaosError(f"{folder} holds no finished experiment ({SUMMARY} is missing)") from None
    return summary


def _events(folder: Path, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The experiment's events, kept beside it the first time: a report can be repeated without the state folder."""
    kept = folder / EVENTS
    if not kept.exists():
        # Runs lie in `runs/` beside the events of their own state folder.
        found = register.events_in(folder.resolve().parents[1] / register.EVENTS, summary["started"], summary["ended"])
        kept.write_text(json.dumps(found, indent=1))
    events: list[dict[str, Any]] = json.loads(kept.read_text())
    return events


def _outages(folder: Path, summary: dict[str, Any], line: timeline.Timeline) -> list[watcher.Outage]:
    if not line.faults:
        return []
    since = summary["started"] + min(window.start for window in line.faults)
    return list(watcher.outages(folder, since, summary["ended"]).values())


def verdict_in_words(summary: dict[str, Any], line: timeline.Timeline) -> list[str]:
    """What happened, in sentences."""
    verdict = summary["verdict"] or {}
    words = [
        f"{window.words} - from second {window.start:.1f} to {window.end:.1f}, ended by: {window.reason}."
        for window in line.faults
    ]
    proofs = [m for m in summary["measured"] if m["name"].startswith("proof")]
    if proofs:
        real = all(m["met"] for m in proofs)
        words.append(f"The fault was {'real' if real else 'NOT shown to be real'}: {_measured(proofs)}.")
    elif line.faults:
        words.append("No proof of the fault was asked for.")
    if line.elections:
        elected = ", ".join(f"{e.primary} ({e.set_name}, second {e.at:.1f})" for e in line.elections[:6])
        more = f" and {len(line.elections) - 6} more" if len(line.elections) > 6 else ""
        words.append(f"{len(line.elections)} election{'s' if len(line.elections) != 1 else ''}: {elected}{more}.")
    if verdict:
        lost, doubled = verdict.get("lost", "?"), verdict.get("doubled", "?")
        words.append(
            f"{verdict.get('acknowledged', 0):,} operations were acknowledged; {lost} lost, {doubled} doubled."
        )
    return words


def _measured(probes: list[dict[str, Any]]) -> str:
    return "; ".join(f"{p['name'].removeprefix('proof: ')} = {p['value']}" for p in probes)


def versions(folder: Path) -> dict[str, str]:
    """What ran: packages, Python, kernel, and the server as the ledger saw it."""
    found = {"Python": platform.python_version(), "kernel": platform.release()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    try:
        run = json.loads((folder / "ledger" / "run.json").read_text())
        found["MongoDB"] = run["options"]["server"]
    except (OSError, KeyError, ValueError):
        pass
    return found


def tolerance_in_words(tolerance: Any) -> str:
    """What a probe was held to: `true`, `98 to 110`."""
    if isinstance(tolerance, dict) and tolerance.get("type") == "range":
        least, most = tolerance["range"]
        return f"{least:,} to {most:,}"
    return "" if tolerance is None else json.dumps(tolerance)


def evidence_in_words(evidence: dict[str, Any]) -> str:
    """What a fault saw; equal values of several servers are counted."""
    words = []
    for key, value in evidence.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            value = ", ".join(f"{each} x {count}" for each, count in Counter(value.values()).items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        words.append(f"{name}: {'none' if value in ('', None) else value}")
    return "; ".join(words)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shardmart.chaos.report"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"tolerance": tolerance_in_words, "evidence": evidence_in_words}
    return environment


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
        line_events = [e for e in _events(folder, summary) if e["event"] == "fault-started"]
        if line_events:
            found = watcher.outages(folder, min(e["at"] for e in line_events), summary["ended"])
            gaps.append(max((outage.seconds for outage in found.values()), default=0.0))
    proofs = [[m for m in s["measured"] if m["name"].startswith("proof")] for s in summaries]
    return Row(
        title=title,
        runs=len(summaries),
        passed=sum(s["status"] == "passed" for s in summaries),
        proof=_measured(proofs[-1]) or "-",
        median_s=statistics.median(gaps) if gaps else None,
        worst_s=max(gaps) if gaps else None,
        acknowledged=sum(v.get("acknowledged", 0) for v in verdicts),
        lost=sum(v.get("lost", 0) for v in verdicts),
        doubled=sum(v.get("doubled", 0) for v in verdicts),
        anomalies=sum(sum(v.get("counts", {}).values()) for v in verdicts),
    )


def markdown(rows: list[Row]) -> str:
    """The table for people and for documents."""
    lines = [
        "| experiment | runs passed | proof of fault (last run) | without writes, median (s) | worst (s) | acknowledged"
        " | lost | doubled |",
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
