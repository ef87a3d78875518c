"""What a finished experiment left in its folder, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import ChaosError
from ..lifecycle import records

SUMMARY = "summary.json"
EVENTS = "events.json"


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of a finished experiment; ChaosError when the folder has none."""
    try:
        summary: dict[str, Any] = json.loads((folder / SUMMARY).read_text())
    except FileNotFoundError:
        raise ChaosError(f"{folder} holds no finished experiment ({SUMMARY} is missing)") from None
    return summary


def events_of(folder: Path, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The experiment's events, kept beside it the first time: a report can be repeated without the state folder."""
    kept = folder / EVENTS
    if not kept.exists():
        # Runs lie in `runs/` beside the events of their own state folder.
        found = records.events_in(folder.resolve().parents[1] / records.EVENTS, summary["started"], summary["ended"])
        kept.write_text(json.dumps(found, indent=1))
    events: list[dict[str, Any]] = json.loads(kept.read_text())
    return events


def measured(probes: list[dict[str, Any]]) -> str:
    return "; ".join(f"{p['name'].removeprefix('proof: ')} = {p['value']}" for p in probes)
