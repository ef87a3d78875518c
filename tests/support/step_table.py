"""A table of what each step of a test took, shown at the end of the run: in CI's log, where what tests print is not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

LINES = pytest.StashKey[list[str]]()
"""Of a run's `config.stash`: the lines that it ends with."""


@dataclass
class StepTable:
    """Seconds of each step, and for those under which somebody wrote what the ledger said of the writes."""

    seconds: dict[str, float] = field(default_factory=dict)
    verdicts: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def timed(self, step: str, begun: float) -> None:
        """Remember what a step took that began at this `time.monotonic()`."""
        self.seconds[step] = time.monotonic() - begun

    def judged(self, step: str, verdict: Mapping[str, Any]) -> None:
        """Remember what `shardmart ledger check --json` said of a step."""
        self.verdicts[step] = verdict

    def show(self, config: pytest.Config) -> None:
        """Have the table at the end of the run."""
        lines = config.stash.setdefault(LINES, [])
        lines += ["| step | seconds | writes | lost | doubled |", "|---|---:|---:|---:|---:|"]
        for step, seconds in self.seconds.items():
            cells = " | | "
            if verdict := self.verdicts.get(step):
                writes = sum(counter["ok"] for counter in verdict["operations"].values())
                cells = f" {writes} | {verdict['lost']} | {verdict['doubled']}"
            lines.append(f"| {step} | {seconds:.0f} |{cells} |")
