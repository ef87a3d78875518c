"""Make one line wrong, run the unit tests that execute it, and say whether they noticed; many times over.

    python -m tests.support.mutants [--count 120] [--seed 1] [--least 90] [JUDGE …]

Prints every mutation that lived, with its line, then the share that died; exits with 1 below `--least` percent. The
sample is the same for the same seed and sources. Each mutation is made in a copy of `src`, never in the checkout.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from queue import SimpleQueue

from tests.support.mutants.mutations import Mutation, inside_functions, mutations

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
TEST_SECONDS = 120
"""Of one test: a mutation that makes one run for ever is noticed by whoever waits for it."""


@dataclass(frozen=True)
class Judge:
    """Modules that decide something, by patterns below src/shardmart, and the unit tests that hold them."""

    name: str
    patterns: tuple[str, ...]
    tests: tuple[str, ...]

    def modules(self) -> list[Path]:
        """The modules, sorted; none is a mistake in the patterns (AssertionError)."""
        found = {path for pattern in self.patterns for path in (SOURCE / "shardmart").glob(pattern)}
        assert found, f"{self.name}: no module is at {', '.join(self.patterns)}"
        return sorted(found)


JUDGES = (
    Judge(
        "ledger",
        ("ledger/checker.py", "ledger/checks/*.py", "ledger/mongodb/*.py", "ledger/workloads/*.py"),
        ("tests/unit/ledger",),
    ),
    Judge(
        "chaos",
        (
            "chaos/toolkit/controls.py",
            "chaos/toolkit/judgement.py",
            "chaos/report/timeline.py",
            "chaos/report/table.py",
            "chaos/observation/heartbeats.py",
        ),
        ("tests/unit/chaos",),
    ),
    Judge(
        "router",
        ("router/**/authorization*.py", "router/**/targeting*.py", "router/**/shard_key*.py"),
        ("tests/unit/router",),
    ),
    Judge("cluster", ("cluster/converge/sharding*.py", "cluster/converge/replica_set*.py"), ("tests/unit/cluster",)),
)


@dataclass(frozen=True)
class Trial:
    """One mutation, and the tests that run its line."""

    judge: str
    module: Path
    mutation: Mutation
    tests: tuple[str, ...]

    def __str__(self) -> str:
        before = self.module.read_text().splitlines()[self.mutation.line - 1]
        after = self.mutation.changed(before)
        where = f"{self.module.relative_to(ROOT)}:{self.mutation.line}"
        ran = f"{len(self.tests)} tests run it" if self.tests else "no test runs it"
        return f"lives: {where} ({ran})\n  - {before.strip()}\n  + {after.strip()}"


def covering(judge: Judge) -> dict[Path, dict[int, list[str]]]:
    """Module → line → tests that run it. SystemExit when the tests fail without any mutation."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "covering.json"
        asked = {"modules": [str(module) for module in judge.modules()], "result": str(result)}
        done = pytest(
            SOURCE, ["-p", "tests.support.mutants.covering", *judge.tests], SHARDMART_COVERING=json.dumps(asked)
        )
        if done.returncode:
            raise SystemExit(f"{judge.name}: the tests fail before anything was changed\n{done.stdout}{done.stderr}")
        found = json.loads(result.read_text())
    return {Path(module): {int(n): tests for n, tests in lines.items()} for module, lines in found.items()}


def pytest(source: Path, arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """pytest in a process of its own, on the package in `source`."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", *arguments]
    ours = {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | ours | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def sample(judges: list[Judge], count: int, seed: int) -> list[Trial]:
    """`count` trials, as many of each judge, drawn by `seed`."""
    drawn = []
    for number, judge in enumerate(judges):
        runs = covering(judge)
        every = [(module, mutation) for module in judge.modules() for mutation in mutations(module.read_text())]
        share = count // len(judges) + (number < count % len(judges))
        for module, mutation in random.Random(f"{seed} {judge.name}").sample(every, min(share, len(every))):
            lines = runs.get(module, {})
            tests = set(lines.get(mutation.line, ()))
            if mutation.line not in inside_functions(module.read_text()):  # runs when the module is imported
                tests = {test for ran in lines.values() for test in ran}
            drawn.append(Trial(judge.name, module, mutation, tuple(sorted(tests))))
    return drawn


class Copy:
    """A copy of `src` in which one module at a time is wrong."""

    def __init__(self, folder: Path) -> None:
        self._source = folder / "src"
        shutil.copytree(SOURCE, self._source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        # Compiled once, never compared with the sources: a mutation may leave size and second of a file as they were.
        compileall.compile_dir(self._source, quiet=1, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)

    def notices(self, trial: Trial) -> bool:
        """Whether a test fails, or does not end, with the mutation."""
        if not trial.tests:
            return False
        module = self._source / trial.module.relative_to(SOURCE)
        Path(importlib.util.cache_from_source(str(module))).unlink(missing_ok=True)
        module.write_text(trial.mutation.apply(trial.module.read_text()))
        try:
            return pytest(self._source, [f"--timeout={TEST_SECONDS}", *trial.tests]).returncode != 0
        finally:
            module.write_text(trial.module.read_text())


def try_all(trials: list[Trial], folder: Path) -> list[bool]:
    """For each trial, whether it was noticed; as many at a time as there are processors."""
    workers = os.cpu_count() or 1
    copies: SimpleQueue[Copy] = SimpleQueue()
    for number in range(workers):
        copies.put(Copy(folder / str(number)))

    def attempt(trial: Trial) -> bool:
        copy = copies.get()
        try:
            noticed = copy.notices(trial)
        finally:
            copies.put(copy)
        if not noticed:
            print(trial, flush=True)
        return noticed

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(attempt, trials))


def main() -> int:
    """Try, print, and say by the exit code whether enough died."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=120, help="mutations in all (default 120)")
    parser.add_argument("--seed", type=int, default=1, help="draws them (default 1)")
    parser.add_argument("--least", type=float, default=90, help="percent that must die (default 90)")
    parser.add_argument("judges", nargs="*", metavar="JUDGE", help=", ".join(j.name for j in JUDGES) + " (default all)")
    arguments = parser.parse_args()
    judges = [judge for judge in JUDGES if judge.name in arguments.judges or not arguments.judges]
    if not judges:
        parser.error(f"no judge is called {', '.join(arguments.judges)}")
    begun = time.monotonic()
    trials = sample(judges, arguments.count, arguments.seed)
    with tempfile.TemporaryDirectory(prefix="shardmart-mutants-") as folder:
        noticed = try_all(trials, Path(folder))
    for judge in judges:
        of = [dead for dead, trial in zip(noticed, trials, strict=True) if trial.judge == judge.name]
        print(f"{judge.name}: {sum(of)} of {len(of)} died")
    percent = 100 * sum(noticed) / len(trials)
    print(f"{percent:.0f} % of {len(trials)} mutations died (seed {arguments.seed}, {time.monotonic() - begun:.0f} s)")
    return 0 if percent >= arguments.least else 1


if __name__ == "__main__":
    sys.exit(main())
