"""One experiment at a time with a state folder: a second one is refused, and touches nothing of the first."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaoslib.exceptions import ActivityFailed, InterruptExecution

from shardmart.chaos import cli
from shardmart.chaos.lifecycle import records
from shardmart.chaos.lifecycle.records import Record
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.toolkit import actions
from shardmart.errors import REFUSED
from tests.support.chaos_experiment import Workload, begin, end

HOLD = """
import sys
from pathlib import Path
from shardmart.chaos.lifecycle import running
from shardmart.chaos.lifecycle.running import RunningExperiment
from shardmart.platforms.state import State
running.begin(State(Path(sys.argv[1])), RunningExperiment(Path(sys.argv[1]), "the first", 1.0))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def first(targets: Targets) -> Iterator[subprocess.Popen[str]]:
    """Another process, in the middle of an experiment with the same state folder."""
    command = [sys.executable, "-c", HOLD, str(targets.state.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_second_experiment_is_refused_and_leaves_the_first_alone(
    targets: Targets, first: subprocess.Popen[str], workloads: list[Workload]
) -> None:
    record = Record("f-1", "latency", "latency", ["mongos1"], 60, {}, status="active", guard=first.pid)
    records.write(targets.state, record)
    before = {file: file.read_bytes() for file in targets.state.folder.rglob("*") if file.is_file()}
    with pytest.raises(InterruptExecution, match="the experiment 'the first' runs with this state folder"):
        begin()
    end()
    with pytest.raises(ActivityFailed, match="'the first' runs"):
        actions.heal()  # the rollback that Chaos Toolkit plays whatever happened
    assert workloads == []
    assert {file: file.read_bytes() for file in targets.state.folder.rglob("*") if file.is_file()} == before
    assert first.poll() is None


def test_command_refuses_a_second_experiment_in_one_line(
    targets: Targets, first: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(__file__).parents[4] / "chaos" / "kill-router.json"
    assert cli.main(["run", str(file), "--state", str(targets.state.folder)]) == REFUSED
    said = capsys.readouterr().err
    assert "the experiment 'the first' runs with this state folder" in said
    assert len(said.strip().splitlines()) == 1


def test_experiment_after_one_that_was_killed_begins(
    targets: Targets, first: subprocess.Popen[str], workloads: list[Workload]
) -> None:
    first.kill()
    first.wait()
    begin()
    assert len(workloads) == 1
