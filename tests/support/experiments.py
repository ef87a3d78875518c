"""What an experiment left in the state folder that it was run with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def summary_of_last_run(state: Path) -> dict[str, Any]:
    """What was found in the newest run, whose report has to be there."""
    runs = sorted((state / "chaos" / "runs").iterdir())
    summary: dict[str, Any] = json.loads((runs[-1] / "summary.json").read_text())
    assert (runs[-1] / "report.html").exists()
    assert (runs[-1] / "report.png").exists()
    return summary


def assert_no_order_was_lost(summary: dict[str, Any]) -> None:
    """An experiment on a shop passed, and of the orders that were accepted meanwhile each ended as it had to."""
    assert summary["status"] == "passed", summary["problems"]
    figures = summary["verdict"]["figures"]["shop"]
    assert figures["accepted"] > 0
    assert figures["confirmed"] + figures["cancelled"] >= figures["accepted"]
    assert {name: figures[name] for name in ("lost", "charged-twice", "oversold")} == {
        "lost": 0, "charged-twice": 0, "oversold": 0,
    }  # fmt: skip
