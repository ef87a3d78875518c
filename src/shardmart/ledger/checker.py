"""Compare a run's journals with its final documents, workload by workload, and give the verdict.

It reads files only, and what a workload demands stands in the workload's own file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from . import final_state
from .checks import effects, keyed
from .checks.staging import BATCH, MUST, Row, Staging
from .checks.verdict import Verdict
from .journal import CLIENT_BITS, JournalError, Run, journal_path, read, read_all
from .workloads import WORKLOADS, Workload

Document = dict[str, Any]
Progress = Callable[[str], None]


def check(folder: Path, scratch: Path | None = None, progress: Progress = lambda _: None) -> Verdict:
    """Check the run in `folder`.  Raises JournalError if journal or final documents cannot be read.

    `scratch` is where the staging file goes (about 200 bytes an operation); the system's temporary folder if None.
    """
    run = Run.read(folder)
    verdict = Verdict(run=run.id)
    for workload in workloads_of(run):
        progress(f"checking {workload.name}")
        with tempfile.TemporaryDirectory(dir=scratch, prefix="ledger-check-") as place, Staging(Path(place)) as staging:
            _check(folder, workload, staging, verdict)
    return verdict


def refuse_empty(verdict: Verdict) -> None:
    """A run that acknowledged no write is not clean; a workload that did not is named, or it would pass unseen.

    Reads alone, and writes that found nothing to change, cannot lose anything.
    """
    silent = [name for name in verdict.operations if not verdict.written[name]]
    if not verdict.written.total():
        verdict.add("empty", ", ".join(verdict.operations) or "run", "no write was acknowledged in the whole run")
    elif silent:
        verdict.notes.append(f"no write was acknowledged of {', '.join(silent)}: nothing is proved of it")


def workloads_of(run: Run) -> list[Workload]:
    """The workloads a run had; JournalError for one that this version does not know."""
    if unknown := [name for name in run.workloads if name not in WORKLOADS]:
        raise JournalError(f"the run has a workload {unknown[0]!r}; this version knows {', '.join(WORKLOADS)}")
    return [WORKLOADS[name] for name in run.workloads]


def _check(folder: Path, workload: Workload, staging: Staging, verdict: Verdict) -> None:
    """Stage both sides, ask, add to the verdict."""
    checker = workload.checker(workload.name, verdict, partial(final_state.read, folder))
    histories: list[Row] = []

    def expected() -> Iterator[Row]:
        for operation in read_all(folder, workload.name):
            wrote = operation.outcome == "ok" and operation.function in workload.writes and operation.result != 0
            verdict.count(workload.name, operation.outcome, wrote=wrote)
            checker.look_at(operation)
            effect = checker.expect(operation)
            if effect is not None:
                yield operation.token, *effect
            if checker.keeps_histories:
                histories.append(keyed.row(operation))
                if len(histories) == BATCH:
                    staging.fill("history", histories)
                    histories.clear()

    staging.fill("expected", expected())
    staging.fill("history", histories)
    staging.fill("seen", checker.seen(staging))
    staging.index()
    before = verdict.counts["lost"] + verdict.counts["doubled"]
    _describe(folder, workload.name, effects.check(staging, workload.name, verdict), verdict)
    if (said := checker.judge(staging)) is not None:
        verdict.checked.append(f"{workload.name}: {said}")
    if next(staging.ask("SELECT COUNT(*) FROM expected"))[0]:
        total = next(staging.ask("SELECT COUNT(*) FROM expected WHERE must = ?", MUST))[0]
        wrong = verdict.counts["lost"] + verdict.counts["doubled"] - before
        found = f"{wrong:,} of them not there exactly once" if wrong else "each there exactly once"
        verdict.checked.append(f"{workload.name}: {total:,} acknowledged effects, {found}")


def _describe(folder: Path, workload: str, kept: list[tuple[int, int]], verdict: Verdict) -> None:
    """Replace tokens by the journal's own words; reads only the journals of the clients concerned."""
    wanted: dict[int, dict[int, list[int]]] = {}
    for index, token in kept:
        client, number = token >> CLIENT_BITS, token & ((1 << CLIENT_BITS) - 1)
        wanted.setdefault(client, {}).setdefault(number, []).append(index)
    for client, numbers in wanted.items():
        path = journal_path(folder, workload, client)
        if not path.exists():
            continue
        last = max(numbers)
        for operation in read(path):
            for index in numbers.get(operation.number, ()):
                anomaly = verdict.anomalies[index]
                verdict.anomalies[index] = replace(anomaly, operations=(operation.describe(),))
            if operation.number >= last:
                break
