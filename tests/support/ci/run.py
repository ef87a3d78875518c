"""The order of a CI run, the second try, the table, and the exit code.

Lint and unit tests decide at once: nothing that failed there is worth the half hour after it. Parts on real servers
run to the end; a test of theirs that failed is run once more, alone (an end-to-end test with its file), when
everything else is done. One that passes then is called unstable, by its name, and the run goes on; MANY of them fail
it. Nothing is run a third time.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.support.ci.parts import ROOT, Command, Molecule, Pytest, Result

MANY = 3
LABORATORY = ROOT.parent / "shared" / "kube-lab" / "up"
NO_LABORATORY = "no kind laboratory beside the checkout"


@dataclass(frozen=True)
class Planned:
    """A part in its place: what its failure means for those after it.

    `real_servers`: its tests get a second try. `gate`: the parts after it are left out when it fails. `beside`: it runs
    at the same time as the part before it. `left_out`: the reason why this machine cannot run it.
    """

    part: Command
    real_servers: bool = False
    gate: bool = False
    beside: bool = False
    left_out: str = ""


def plan() -> list[Planned]:
    """Every part, in order."""
    scenarios = tuple(sorted(file.parent.name for file in (ROOT / "molecule").glob("*/converge.yml")))
    lacking = "" if LABORATORY.exists() else NO_LABORATORY
    return [
        Planned(Command("lint", ("make", "lint")), gate=True),
        Planned(Pytest("unit", ("make", "unit")), gate=True),
        Planned(Pytest("integration", ("make", "integration")), real_servers=True),
        Planned(Molecule("molecule", ("make", "molecule"), scenarios), real_servers=True, beside=True),
        Planned(Command("differential", ("make", "differential", "ARGS=--seed 1 --seconds 120")), beside=True),
        Planned(Command("kind laboratory", (str(LABORATORY),)), gate=True, left_out=lacking),
        Planned(Command("lint-chart", ("make", "lint-chart")), left_out=lacking),
        Planned(Pytest("e2e", ("make", "e2e"), whole_files=True), real_servers=True, left_out=lacking),
    ]


@dataclass
class Verdict:
    """What the whole run says: results in order, what became of the second tries, and the seconds of all parts."""

    results: list[Result] = field(default_factory=list)
    unstable: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the run is good: nothing failed for good, and fewer than MANY tests are unstable."""
        return not self.failed and len(self.unstable) < MANY


def run(planned: Sequence[Planned], say: Callable[[str], None]) -> Verdict:
    """Run every part, then the second tries."""
    verdict = Verdict()
    closed = ""
    tries: list[tuple[Command, str]] = []
    for together in _batches(planned):
        run_now = [] if closed else [entry for entry in together if not entry.left_out]
        with ThreadPoolExecutor(max(1, len(run_now))) as pool:
            for entry in run_now:
                say(f"{entry.part.name}: {' '.join(entry.part.command)}")
            results = dict(zip([e.part.name for e in run_now], pool.map(lambda e: e.part.run(), run_now), strict=True))
        verdict.seconds += max((result.seconds for result in results.values()), default=0.0)
        for entry in together:
            if not (result := results.get(entry.part.name)):
                verdict.results.append(Result(entry.part.name, left_out=entry.left_out or closed))
                continue
            verdict.results.append(result)
            if result.broken:
                verdict.failed.append(f"{entry.part.name}: {result.broken}")
            if entry.real_servers:
                tries += [(entry.part, test) for test in result.failed]
            else:
                verdict.failed += result.failed
            if entry.gate and (result.broken or result.failed):
                closed = f"{entry.part.name} failed"
    if len(tries) >= MANY:
        verdict.failed += [test for _, test in tries]
    else:
        for part, test in tries:
            say(f"second try, alone: {test}")
            (verdict.unstable if part.alone(test) else verdict.failed).append(test)
    return verdict


def _batches(planned: Sequence[Planned]) -> list[list[Planned]]:
    """The parts in order, those that run at the same time together."""
    batches: list[list[Planned]] = []
    for entry in planned:
        if entry.beside and batches:
            batches[-1].append(entry)
        else:
            batches.append([entry])
    return batches


def table(verdict: Verdict) -> str:
    """Part, tests, seconds, outcome and what was skipped; then every test that failed or is unstable, by name."""
    rows = [("part", "tests", "seconds", "outcome", "skipped or left out")]
    for result in verdict.results:
        tests = "" if result.tests is None else str(result.tests)
        rows.append(
            (result.part, tests, f"{result.seconds:.0f}" if not result.left_out else "", *_said(result, verdict))
        )
    tests = str(sum(result.tests or 0 for result in verdict.results))
    rows.append(("all", tests, f"{verdict.seconds:.0f}", "", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:<{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]
    lines += [f"unstable: {test} (failed, passed when it ran alone)" for test in verdict.unstable]
    lines += [f"failed: {test}" for test in verdict.failed]
    if len(verdict.unstable) >= MANY:
        lines.append(f"{len(verdict.unstable)} tests are unstable: {MANY} fail the run")
    return "\n".join(lines)


def _said(result: Result, verdict: Verdict) -> tuple[str, str]:
    if result.left_out:
        return "not run", result.left_out
    skipped = "; ".join(f"{count}: {reason}" for reason, count in sorted(result.skipped.items()))
    lost = result.broken or any(test in verdict.failed for test in result.failed)
    outcome = "failed" if lost else "unstable" if result.failed else "passed"
    return outcome, skipped


def announce(words: str) -> None:
    """A line before a step, with the time of day and the disk that is left for the servers' data."""
    free = shutil.disk_usage("/tmp").free / 1e9
    print(f"\n== {words} ({time.strftime('%H:%M:%S', time.gmtime())}, {free:.0f} GB free)", flush=True)


def main(planned: Iterable[Planned] | None = None) -> int:
    """Run, print the table, and say by the exit code whether the run is good."""
    verdict = run(list(planned or plan()), announce)
    announce("done" if verdict.passed else "failed")
    print(table(verdict), flush=True)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
