"""The report of an experiment: one self-contained HTML page and one PNG.

It reads what the experiment left (summary.json, journals, heartbeats, events) and never the cluster.
"""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ..observation import heartbeats
from . import plot, timeline
from .runs import events_of, measured, read_summary

PACKAGES = ("shardmart", "chaostoolkit", "chaostoolkit-lib", "pymongo")


def write_report(folder: Path) -> Path:
    """Write report.html and report.png into an experiment's folder; returns the page."""
    summary = read_summary(folder)
    line = timeline.build(folder, summary["started"], summary["ended"], events_of(folder, summary))
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


def _outages(folder: Path, summary: dict[str, Any], line: timeline.Timeline) -> list[heartbeats.Outage]:
    if not line.faults:
        return []
    since = summary["started"] + min(window.start for window in line.faults)
    return list(heartbeats.outages(folder, since, summary["ended"]).values())


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
        words.append(f"The fault was {'real' if real else 'NOT shown to be real'}: {measured(proofs)}.")
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
