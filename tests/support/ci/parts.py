"""The parts of a CI run: what each runs, and how to know afterwards which of its tests failed.

A part ends with a Result whatever happened. `Pytest` and `Molecule` know their tests by name, and how to run one of
them alone; `Command` knows only whether it failed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
BIN = ROOT / ".venv" / "bin"
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
RECAP = re.compile(r"^(\w+)\s*: actions=\d+ .*failed=(\d+)", re.MULTILINE)


@dataclass
class Result:
    """What became of a part.

    `tests` counts those that ran, None where nothing counts them. `failed` names tests; `broken` says what went wrong
    that is nobody's test. `left_out` is the reason why the part did not run.
    """

    part: str
    seconds: float = 0.0
    tests: int | None = None
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    broken: str = ""
    left_out: str = ""


@dataclass(frozen=True)
class Command:
    """A part without tests of its own: it succeeds or it does not."""

    name: str
    command: tuple[str, ...]

    def run(self) -> Result:
        """Run it to its end; its output goes to ours."""
        begun = time.monotonic()
        code = call(self.command)
        return Result(self.name, time.monotonic() - begun, broken=f"exit code {code}" if code else "")

    def alone(self, test: str) -> bool:
        """Nothing of it can be run alone."""
        raise NotImplementedError(test)


@dataclass(frozen=True)
class Pytest(Command):
    """A part whose command runs pytest once.

    `whole_files`: a test of it stands on what those before it in its file left behind, so the second try is its file.
    """

    whole_files: bool = False

    def run(self) -> Result:
        """Run it; tests are known by the report that tests/conftest.py writes."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.json"
            begun = time.monotonic()
            code = call(self.command, SHARDMART_REPORT=str(report))
            result = Result(self.name, time.monotonic() - begun)
            said = json.loads(report.read_text()) if report.exists() else {"outcomes": {}, "skipped": {}}
        outcomes = Counter(said["outcomes"].values())
        result.tests = outcomes.total() - outcomes["skipped"]
        result.failed = sorted(test for test, outcome in said["outcomes"].items() if outcome == "failed")
        result.skipped = Counter(said["skipped"].values())
        if code and not result.failed:
            result.broken = f"exit code {code} and no test that failed"
        return result

    def alone(self, test: str) -> bool:
        """Whether one test, or with `whole_files` its file, passes in a run of its own."""
        return call([str(BIN / "pytest"), test.partition("::")[0] if self.whole_files else test]) == 0


@dataclass(frozen=True)
class Molecule(Command):
    """The role tests: one scenario is one test. They share a cluster, so a failure ends the run of all.

    Those that it left out run alone, each on a cluster of its own.
    """

    scenarios: tuple[str, ...] = ()

    def run(self) -> Result:
        """Run all of them; what became of each is in the recap that Molecule ends with."""
        begun = time.monotonic()
        code, output = call_and_read(self.command)
        recap = {name: int(failed) for name, failed in RECAP.findall(COLOURS.sub("", output))}
        result = Result(self.name, tests=len(self.scenarios))
        if code and not any(recap.values()):
            result.broken = f"exit code {code} and no scenario that failed"
            result.tests = 0
        else:
            left_out = {name: not self.alone(name) for name in self.scenarios if name not in recap}
            result.failed = [name for name in self.scenarios if (recap | left_out)[name]]
        result.seconds = time.monotonic() - begun
        return result

    def alone(self, test: str) -> bool:
        """Whether one scenario passes on a cluster of its own."""
        return call(["make", "scenario", f"ROLE={test}"]) == 0


def call(command: Sequence[str], **environment: str) -> int:
    """Exit code of a command that writes where we write."""
    sys.stdout.flush()
    return subprocess.run(command, cwd=ROOT, env=_environment() | environment, check=False).returncode


def call_and_read(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a command; shown when it has ended, for another part may be writing meanwhile."""
    done = subprocess.run(
        command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    sys.stdout.write(f"+ {shlex.join(command)}\n{done.stdout}")
    sys.stdout.flush()
    return done.returncode, done.stdout


def _environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
