"""What a CI run makes of what its parts say: second tries, the exit code, the table."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.ci import parts
from tests.support.ci.parts import Command, Molecule, Pytest, Result
from tests.support.ci.run import Planned, main, plan, run, table


@dataclass(frozen=True)
class Played(Command):
    """A part that says what the test tells it to; `passing` are the tests that pass alone."""

    command: tuple[str, ...] = ()
    says: Result = field(default_factory=lambda: Result("?"))
    passing: tuple[str, ...] = ()
    tried: list[str] = field(default_factory=list)

    def run(self) -> Result:
        return self.says

    def alone(self, test: str) -> bool:
        self.tried.append(test)
        return test in self.passing


def played(name: str, *failed: str, passing: tuple[str, ...] = (), broken: str = "") -> Played:
    return Played(name, says=Result(name, 10.0, 5, failed=list(failed), broken=broken), passing=passing)


def quietly(_words: str) -> None:
    """Nobody listens."""


def test_everything_passed_is_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([Planned(played("unit")), Planned(played("integration"), real_servers=True)]) == 0
    assert "\nall             10       20" in capsys.readouterr().out


def test_test_on_real_servers_that_passes_alone_is_unstable_by_name_and_the_run_is_good() -> None:
    servers = played("integration", "test_a", "test_b", passing=("test_a", "test_b"))
    verdict = run([Planned(servers, real_servers=True)], quietly)
    assert verdict.passed
    assert verdict.unstable == ["test_a", "test_b"]
    said = table(verdict)
    assert "unstable: test_a (failed, passed when it ran alone)" in said
    assert "integration      5       10  unstable" in said


def test_second_tries_come_after_every_part() -> None:
    order: list[str] = []
    servers = played("integration", "test_a", passing=("test_a",))
    run([Planned(servers, real_servers=True), Planned(played("e2e"), real_servers=True)], order.append)
    assert [words.split(":")[0] for words in order] == ["integration", "e2e", "second try, alone"]


@dataclass(frozen=True)
class Meeting(Played):
    """A part that ends when `other` has begun."""

    begun: threading.Event = field(default_factory=threading.Event)
    other: threading.Event = field(default_factory=threading.Event)

    def run(self) -> Result:
        self.begun.set()
        assert self.other.wait(60), "waited 60 s for the part beside it"
        return self.says


def test_parts_beside_one_another_run_at_the_same_time_and_count_once() -> None:
    one = Meeting("integration", says=Result("integration", 30.0, 5, failed=["test_a"]))
    two = Meeting("molecule", says=Result("molecule", 20.0, 3), begun=one.other, other=one.begun)
    planned = [Planned(one, real_servers=True), Planned(two, real_servers=True, beside=True), Planned(played("e2e"))]
    verdict = run(planned, quietly)
    assert [result.part for result in verdict.results] == ["integration", "molecule", "e2e"]
    assert verdict.failed == ["test_a"]
    assert "\nall             13       40" in table(verdict)


def test_a_part_beside_one_that_is_left_out_runs() -> None:
    verdict = run([Planned(played("a"), left_out="not here"), Planned(played("b"), beside=True)], quietly)
    assert [(result.part, result.left_out) for result in verdict.results] == [("a", "not here"), ("b", "")]


def test_test_that_fails_twice_fails_the_run_by_name() -> None:
    verdict = run([Planned(played("integration", "test_a"), real_servers=True)], quietly)
    assert not verdict.passed
    assert "failed: test_a" in table(verdict)


def test_three_that_failed_get_no_second_try_and_fail_the_run() -> None:
    one = played("integration", "test_a", "test_b", passing=("test_a", "test_b"))
    two = played("molecule", "members", passing=("members",))
    verdict = run([Planned(one, real_servers=True), Planned(two, real_servers=True)], quietly)
    assert not verdict.passed
    assert verdict.failed == ["test_a", "test_b", "members"]
    assert one.tried == two.tried == []


def test_unit_test_gets_no_second_try_and_leaves_the_rest_out() -> None:
    unit, later = played("unit", "test_a", passing=("test_a",)), played("integration")
    verdict = run([Planned(unit, gate=True), Planned(later, real_servers=True)], quietly)
    assert not verdict.passed
    assert unit.tried == []
    assert [(r.part, r.left_out) for r in verdict.results] == [("unit", ""), ("integration", "unit failed")]
    assert "not run" in table(verdict)


def test_part_that_broke_without_a_failed_test_fails_the_run() -> None:
    verdict = run([Planned(played("integration", broken="exit code 3"), real_servers=True)], quietly)
    assert not verdict.passed
    assert verdict.failed == ["integration: exit code 3"]


def test_what_this_machine_cannot_run_is_left_out_with_the_reason_and_fails_nothing() -> None:
    verdict = run([Planned(played("e2e"), left_out="no kind laboratory")], quietly)
    assert verdict.passed
    assert ["e2e", "not", "run", "no", "kind", "laboratory"] in [line.split() for line in table(verdict).splitlines()]


def test_reasons_of_skipped_tests_are_counted_in_the_table() -> None:
    part = Played("integration", says=Result("integration", 1.0, 3, skipped=Counter({"no mongos on PATH": 4})))
    assert "4: no mongos on PATH" in table(run([Planned(part)], quietly))


def test_only_tests_on_real_servers_have_a_second_try() -> None:
    assert [entry.part.name for entry in plan() if entry.real_servers] == ["integration", "molecule", "e2e"]


TESTS = """
import pytest
def test_passes(): pass
def test_fails(): assert False
@pytest.fixture
def broken(): raise OSError
def test_cannot_begin(broken): pass
@pytest.mark.skip(reason="not here")
def test_skipped(): pass
@pytest.fixture
def ends_badly():
    yield
    raise OSError
def test_cannot_end(ends_badly): pass
"""


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_pytest_names_what_failed_in_any_phase(tmp_path: Path, workers: list[str]) -> None:
    (tmp_path / "conftest.py").write_text((parts.ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(TESTS)
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *workers,
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    )
    result = Pytest("some", command).run()
    assert result.failed == ["test_it.py::test_cannot_begin", "test_it.py::test_cannot_end", "test_it.py::test_fails"]
    assert (result.tests, result.skipped, result.broken) == (4, Counter({"not here": 1}), "")


def test_pytest_that_does_not_start_is_broken() -> None:
    result = Pytest("some", (sys.executable, "-m", "pytest", "-q", "--no-such-option")).run()
    assert result.broken == "exit code 4 and no test that failed"


RECAP = """\x1b[1mSCENARIO RECAP\x1b[0m
\x1b[32msecrets                   \x1b[0m: \x1b[33mactions=5\x1b[0m  \x1b[32msuccessful=5\x1b[0m  disabled=0  failed=0
\x1b[32mmembers                   \x1b[0m: \x1b[33mactions=3\x1b[0m  \x1b[32msuccessful=2\x1b[0m  disabled=0  failed=1
"""


def test_scenarios_after_one_that_failed_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[str] = []

    def call(command: list[str]) -> int:
        alone.append(command[-1])
        return 0

    monkeypatch.setattr(parts, "call", call)
    command = (sys.executable, "-c", f"print({json.dumps(RECAP)}); raise SystemExit(1)")
    result = Molecule("molecule", command, scenarios=("members", "secrets", "users")).run()
    assert result.failed == ["members"]
    assert alone == ["ROLE=users"]
    assert result.tests == 3


def test_make_molecule_runs_every_scenario() -> None:
    makefile = (parts.ROOT / "Makefile").read_text()
    (line,) = (line for line in makefile.splitlines() if line.startswith("ROLES "))
    scenarios = next(entry.part for entry in plan() if entry.part.name == "molecule").scenarios
    assert sorted(line.partition(":=")[2].split()) == sorted(scenarios)


def test_second_try_of_an_end_to_end_test_is_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(parts, "call", lambda command: ran.append(command[-1]) or 0)
    for entry in plan():
        if isinstance(entry.part, Pytest) and entry.real_servers:
            assert entry.part.alone("tests/a.py::test_b")
    assert ran == ["tests/a.py::test_b", "tests/a.py"]
