"""A workload is one file and one registry line: a toy is run, read and judged by the command line as it stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_workload import TOY, MemorySystem, ToyClient

from shardmart import errors
from shardmart.cluster.host.processes import has_ended
from shardmart.cluster.protocol.connection import Deadline
from shardmart.ledger import cli
from shardmart.ledger.journal import Run, read_all
from shardmart.ledger.metrics import METRICS_FILE, read_windows
from shardmart.ledger.workloads import WORKLOADS


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORKLOADS, "toy", TOY)
    MemorySystem.reset()


def run_toy(folder: Path, *options: str) -> None:
    arguments = ["run", "--workload", "toy", "--journal", str(folder), "--clients", "2", "--duration", "0.6"]
    assert cli.main([*arguments, "--rate", "200", "--fsync", "never", *options]) == 0


def check(folder: Path, *options: str) -> dict[str, Any]:
    code = cli.main(["check", str(folder), *options])
    verdict: dict[str, Any] = json.loads((folder / "verdict.json").read_text())
    assert code == (0 if verdict["clean"] else 1)
    return verdict


def test_a_toy_that_errs_nowhere_is_clean(tmp_path: Path) -> None:
    run_toy(tmp_path / "j")
    verdict = check(tmp_path / "j")
    assert verdict["clean"], verdict["anomalies"]
    operations = list(read_all(tmp_path / "j", "toy"))
    assert {operation.outcome for operation in operations} == {"ok", "failed", "unknown"}
    assert {o.error for o in operations} == {None, "nine is refused", "come again", "cut off"}
    acknowledged = sum(operation.outcome == "ok" for operation in operations)
    assert verdict["acknowledged"] == acknowledged
    assert sum(window.writes_ok for window in read_windows(tmp_path / "j")) == acknowledged
    assert f"toy: {acknowledged:,} acknowledged effects, each there exactly once" in verdict["checked"]
    assert "members: the memory of a process" in verdict["checked"]
    assert Run.read(tmp_path / "j").options["server"] == "memory 1"
    assert MemorySystem.closed == 2


def test_what_the_toys_store_loses_and_doubles_is_found_and_shown(tmp_path: Path) -> None:
    MemorySystem.reset(forget=4, repeat=7)
    run_toy(tmp_path / "j")
    verdict = check(tmp_path / "j")
    assert verdict["counts"] == {"lost": 1, "doubled": 1}
    assert all(" add " in anomaly["operations"][0] for anomaly in verdict["anomalies"])
    assert check(tmp_path / "j", "--offline")["counts"] == verdict["counts"]


def test_what_the_toy_submits_twice_is_found(tmp_path: Path) -> None:
    run_toy(tmp_path / "j", "--double-submit", "1")
    verdict = check(tmp_path / "j")
    assert set(verdict["counts"]) == {"doubled"}


def test_what_was_answered_0_is_not_submitted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    invoked: list[int] = []

    def refused(self: ToyClient, function: str, value: dict[str, Any], token: int) -> int:
        invoked.append(token)
        return 0

    monkeypatch.setattr(ToyClient, "invoke", refused)
    run_toy(tmp_path / "j", "--double-submit", "1")
    assert len(set(invoked)) == len(invoked) > 0


def test_the_toys_own_invariant_is_judged_by_its_name(tmp_path: Path) -> None:
    run_toy(tmp_path / "j")
    run = Run.read(tmp_path / "j").id
    MemorySystem.store["things"].append({"_id": f"{run}:1", "op": -1, "number": 9})
    verdict = check(tmp_path / "j")
    assert verdict["counts"] == {"nine": 1, "phantom": 1}


def test_what_is_wrong_behind_the_system_is_in_the_verdict_unless_it_was_not_looked_at(tmp_path: Path) -> None:
    MemorySystem.reset(problem="the memory is full")
    run_toy(tmp_path / "j")
    assert check(tmp_path / "j")["counts"] == {"members": 1}
    verdict = check(tmp_path / "j", "--skip-members")
    assert verdict["clean"]
    assert verdict["notes"] == ["the members behind the router were not looked at"]


def test_a_defect_of_a_client_ends_the_run_and_is_not_journaled_as_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: MemorySystem, run: str, token: int, number: int) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(MemorySystem, "add", broken)
    with pytest.raises(ZeroDivisionError):
        run_toy(tmp_path / "j")


def test_a_run_with_a_workload_that_is_not_known_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_toy(tmp_path / "j")
    monkeypatch.delitem(WORKLOADS, "toy")
    capsys.readouterr()
    assert cli.main(["check", str(tmp_path / "j"), "--offline"]) == 3
    assert "workload 'toy'" in capsys.readouterr().err


def test_clean_deletes_a_run_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in set(WORKLOADS) - {"toy"}:
        monkeypatch.delitem(WORKLOADS, name)
    run_toy(tmp_path / "a")
    run_toy(tmp_path / "b")
    other = list(MemorySystem.store["things"])
    capsys.readouterr()
    assert cli.main(["clean", Run.read(tmp_path / "a").id]) == 0
    run = Run.read(tmp_path / "b").id
    assert MemorySystem.store["things"] == [document for document in other if document["_id"].startswith(f"{run}:")]


GENERIC = ["runner", "checker", "cli", "final_state", "journal", "metrics", "system"]


def test_runner_checker_and_command_line_name_no_workload_and_no_driver() -> None:
    folder = Path(cli.__file__).parent
    files = [folder / f"{name}.py" for name in GENERIC] + sorted((folder / "checks").glob("*.py"))
    forbidden = {"pymongo", "MongoSystem", "ledger.mongodb", *(f'"{name}"' for name in WORKLOADS)}
    forbidden |= {f"workloads.{name}" for name in WORKLOADS}
    found = {(file.name, word) for file in files for word in forbidden if word in file.read_text()}
    assert not found


@pytest.mark.parametrize("command", ["run", "check", "clean"])
def test_every_command_says_its_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (exit_codes := errors.exit_codes(f"ledger {command}")).startswith("Exit codes: 0 ")
    assert exit_codes in said


def test_run_ends_before_its_journals_take_more_than_they_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a pod, which would be evicted and its journals with it."""
    monkeypatch.setattr(
        MemorySystem, "add", lambda self, run, token, number: self.store["things"].append({"x": "y" * 9})
    )
    arguments = ["run", "--workload", "toy", "--journal", str(tmp_path / "j"), "--duration", "600", "--fsync", "never"]
    assert cli.main([*arguments, "--journal-mb", "0.1"]) == 3
    assert "and may have 0.1: the run has ended" in capsys.readouterr().err


RUN = """
import sys
from toy_workload import TOY
from shardmart.ledger import cli
from shardmart.ledger.workloads import WORKLOADS
WORKLOADS["toy"] = TOY
raise SystemExit(cli.main(sys.argv[1:]))
"""
PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
print(child.pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workload_ends_with_an_experimenter_that_is_killed(tmp_path: Path) -> None:
    run = ["run", "--workload", "toy", "--journal", str(tmp_path / "j"), "--duration", "86400", "--until-input-ends"]
    command = [sys.executable, "-c", PARENT, sys.executable, "-c", RUN, *run]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdin
        assert parent.stdout
        workload = psutil.Process(int(parent.stdout.readline()))
        deadline = Deadline(60)
        while not (tmp_path / "j" / METRICS_FILE).exists():
            deadline.pause("the workload to begin")
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.wait(30) == -9
        while not has_ended(workload):
            deadline.pause("the workload to end with its parent")
