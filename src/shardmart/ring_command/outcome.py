"""What a demonstration has to say: how long each step took, and what it claims beside what was counted on the nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass
class Step:
    """One step: what it did, of how many documents, in how many seconds."""

    name: str
    documents: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Claim:
    """What was claimed, what had to be counted, and what was."""

    text: str
    expected: Any
    counted: Any

    @property
    def holds(self) -> bool:
        """Whether it was so."""
        return bool(self.expected == self.counted)


@dataclass
class Outcome:
    """Steps and claims, in order."""

    title: str
    steps: list[Step] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, documents: int = 0) -> Iterator[Step]:
        """Measure a step; `documents` may be set within."""
        made = Step(name, documents)
        began = time.perf_counter()
        yield made
        made.seconds = time.perf_counter() - began
        self.steps.append(made)

    def claim(self, text: str, expected: Any, counted: Any) -> None:
        """Note a claim."""
        self.claims.append(Claim(text, expected, counted))

    @property
    def holds(self) -> bool:
        """Whether every claim is so."""
        return all(claim.holds for claim in self.claims)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "demonstration": self.title,
            "steps": [asdict(step) for step in self.steps],
            "claims": [asdict(claim) | {"holds": claim.holds} for claim in self.claims],
            "holds": self.holds,
        }

    def show(self, console: Console) -> None:
        """For people."""
        table = Table("Step", "Documents", "Seconds", "Documents/s", title=self.title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for step in self.steps:
            rate = f"{step.documents / step.seconds:,.0f}" if step.documents and step.seconds else ""
            table.add_row(step.name, f"{step.documents:,}" if step.documents else "", f"{step.seconds:.2f}", rate)
        console.print(table)
        proofs = Table("Counted on the nodes", "Expected", "Found", "")
        for claim in self.claims:
            proofs.add_row(claim.text, _said(claim.expected), _said(claim.counted), "yes" if claim.holds else "NO")
        console.print(proofs)


def _said(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
