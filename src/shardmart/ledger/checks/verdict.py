"""The verdict: how many operations of each kind, and every anomaly with the operations that show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 10
"""How many anomalies of one kind are kept in full; all are counted."""

KINDS = {
    "lost": "an acknowledged write is not there",
    "doubled": "one operation took effect twice",
    "phantom": "something is there that failed or was never asked for",
    "stale": "a read missed what had been acknowledged before it began",
    "unbalanced": "sums do not add up",
    "tampered": "a document does not say what was written",
    "empty": "no write was acknowledged, so nothing was proved",
    "members": "the members are not in one healthy, equal state",
}
"""What any workload may find; a checker adds the kinds that it alone has."""


@dataclass(frozen=True)
class Anomaly:
    """One thing that must not be: what, in words, and the journal's operations that show it."""

    kind: str
    workload: str
    detail: str
    operations: tuple[str, ...] = ()


@dataclass
class Verdict:
    """The result of a check.  `anomalies` holds up to EXAMPLES of each kind; `counts` counts all of them."""

    run: str
    kinds: Mapping[str, str] = field(default_factory=lambda: dict(KINDS))
    """Kind → what it means; anomalies are shown in this order."""
    operations: dict[str, Counter[str]] = field(default_factory=dict)
    written: Counter[str] = field(default_factory=Counter)
    """Workload → how many of its operations were acknowledged and changed something."""
    counts: Counter[str] = field(default_factory=Counter)
    anomalies: list[Anomaly] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    figures: dict[str, dict[str, int]] = field(default_factory=dict)
    """Workload → what of its results belongs into a table."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    def count(self, workload: str, outcome: str, *, wrote: bool = False) -> None:
        """One operation of `workload` ended with `outcome`; `wrote` when it was acknowledged and changed something."""
        self.operations.setdefault(workload, Counter())[outcome] += 1
        self.written[workload] += wrote

    def wants(self, kind: str) -> bool:
        """Whether another example of `kind` would be kept."""
        return self.counts[kind] < EXAMPLES

    def add(self, kind: str, workload: str, detail: str, operations: tuple[str, ...] = ()) -> None:
        """An anomaly was found.  KeyError for a kind that no checker has declared."""
        if kind not in self.kinds:
            raise KeyError(kind)
        if self.wants(kind):
            self.anomalies.append(Anomaly(kind, workload, detail, operations))
        self.counts[kind] += 1

    def total(self, outcome: str) -> int:
        """Operations with `outcome` over all workloads."""
        return sum(counter[outcome] for counter in self.operations.values())

    def sentence(self) -> str:
        """The verdict in one line."""
        acknowledged = f"{self.total('ok'):,} acknowledged operations"
        if self.clean:
            return f"clean: all {acknowledged} are accounted for; lost 0, doubled 0"
        found = ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))
        return f"NOT clean: {found} (of {acknowledged})"

    def as_json(self) -> dict[str, Any]:
        """The verdict for machines."""
        return {
            "run": self.run,
            "clean": self.clean,
            "sentence": self.sentence(),
            "operations": {name: dict(counter) for name, counter in self.operations.items()},
            "acknowledged": self.total("ok"),
            "lost": self.counts["lost"],
            "doubled": self.counts["doubled"],
            "counts": dict(self.counts),
            "anomalies": [
                {"kind": a.kind, "workload": a.workload, "detail": a.detail, "operations": list(a.operations)}
                for a in sorted(self.anomalies, key=lambda anomaly: list(self.kinds).index(anomaly.kind))
            ],
            "checked": self.checked,
            "figures": self.figures,
            "notes": self.notes,
        }
