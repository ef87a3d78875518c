"""Synthetic runs: journals and final documents written by hand, so that each anomaly can be shown alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shardmart.ledger import checker, final_state
from shardmart.ledger.checks.verdict import Verdict
from shardmart.ledger.journal import JournalWriter, Run
from shardmart.ledger.workloads import WORKLOADS
from shardmart.ledger.workloads.transfer import ACCOUNTS, INITIAL_CENTS

Op = tuple[str, dict[str, Any], str, Any]
"""Function, value, outcome, result."""


class SyntheticRun:
    """Builds the folder of a run of one workload."""

    def __init__(self, folder: Path, workload: str) -> None:
        self.folder, self.workload = folder, workload
        Run(
            id="synthetic", workloads=(workload,), database="ledger", clients=1, seed=0, write_concern="majority",
            started_wall=0.0, started_monotonic_ns=0,
        ).write(folder)  # fmt: skip
        self.final: dict[str, list[dict[str, Any]]] = {name: [] for name in WORKLOADS[workload].collections}
        if workload == "transfer":
            self.final["accounts"] = [{"_id": str(n), "balance_cents": INITIAL_CENTS} for n in range(ACCOUNTS)]

    def client(self, number: int, operations: list[Op]) -> None:
        writer = JournalWriter(self.folder, self.workload, number)
        for function, value, outcome, result in operations:
            writer.invoke(function, value)
            if outcome != "never":
                writer.end(outcome, result)  # type: ignore[arg-type]
        writer.close()

    def timed(self, number: int, operations: list[tuple[int, int | None, str, dict[str, Any], str, Any]]) -> None:
        """As `client`, with given start and end times."""
        with (self.folder / f"{self.workload}-{number:04d}.jsonl").open("w") as file:
            for n, (start, end, function, value, outcome, result) in enumerate(operations):
                file.write(json.dumps({"n": n, "e": "invoke", "t": start, "f": function, "v": value}) + "\n")
                if end is not None:
                    file.write(json.dumps({"n": n, "e": outcome, "t": end, "r": result}) + "\n")

    def check(self) -> Verdict:
        for name, documents in self.final.items():
            final_state.path(self.folder, name).write_text("".join(json.dumps(d) + "\n" for d in documents))
        return checker.check(self.folder)
