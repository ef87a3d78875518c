"""What decides whether an experiment passed: each activity's result, and the status at the end.  Pure, and short.

Chaos Toolkit itself would call an experiment with a failed action "completed".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PASSED, FAILED, COMPLETED = "passed", "failed", "completed"
STOPPED = ("interrupted", "aborted")
"""Chaos Toolkit's words for an experiment that did not come to its end."""
PROOF = "proof"
"""How the name of a probe begins that says whether the fault is real."""

Within = Callable[[Any, Any], bool]
"""Whether the second argument, an output, is within the first, a tolerance."""


@dataclass(frozen=True)
class Judged:
    """One activity: what was wrong (None when nothing), and whether a probe met its tolerance (None for an action)."""

    problem: str | None
    met: bool | None = None


def judge(activity: Mapping[str, Any], run: Mapping[str, Any], within: Within) -> Judged:
    """Hold an activity of an experiment to its word; `run` is Chaos Toolkit's record of it."""
    name = activity["name"]
    if run.get("status") != "succeeded":
        error = (run.get("exception") or ["no reason given"])[-1].strip()
        return Judged(f"{activity['type']} {name!r} failed: {error}")
    if activity["type"] != "probe":
        return Judged(None)
    if "tolerance" not in activity or within(activity["tolerance"], run.get("output")):
        return Judged(None, met=True)
    no_fault = "NO FAULT: " if name.startswith(PROOF) else ""
    expected = json.dumps(activity["tolerance"])
    return Judged(f"{no_fault}{name!r} is {run.get('output')!r}, expected {expected}", met=False)


def judge_ledger(verdict: Mapping[str, Any]) -> str | None:
    """What is wrong by the ledger's verdict; None only when it says that it is clean."""
    return None if verdict.get("clean") is True else f"ledger: {verdict.get('sentence', 'no verdict')}"


def final_status(status: str, problems: Sequence[str]) -> str:
    """The status from which Chaos Toolkit makes its exit code, given the one it came to by itself."""
    return FAILED if problems and status not in STOPPED else status


def summary_status(status: str, *, deviated: bool) -> str:
    """The word of the report: `passed` only for an experiment that was completed and did not deviate."""
    return PASSED if status == COMPLETED and not deviated else FAILED if status == COMPLETED else status
