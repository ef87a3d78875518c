"""The control turns what Chaos Toolkit would let pass into a failure."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaoslib.exceptions import ActivityFailed, InterruptExecution
from chaoslib.types import Dry

from shardmart.chaos import cli
from shardmart.chaos.errors import ChaosError
from shardmart.chaos.lifecycle import heal, records
from shardmart.chaos.lifecycle.records import Record
from shardmart.chaos.lifecycle.running import RunningExperiment, current_run
from shardmart.chaos.report import page
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.toolkit import actions, controls
from shardmart.errors import REFUSED
from shardmart.ledger.metrics import METRICS_FILE

TITLE = "Kill the primary of a shard!"
EXPERIMENT: dict[str, Any] = {"title": TITLE, "description": "d", "method": [], "configuration": {"source": "s"}}
CLEAN = {"clean": True, "sentence": "lost 0", "lost": 0, "acknowledged": 5}


class Workload:
    """Stands for the ledger and the watcher: acknowledges one write, and gives the verdict it is told to."""

    def __init__(self, targets: Targets, experiment: RunningExperiment, workloads: str, arguments: list[str]) -> None:
        self.experiment, self.workloads, self.arguments = experiment, workloads, arguments
        self.stops = 0
        self.writes = True
        self.reason: str | None = None
        self.verdict: dict[str, Any] | Exception = CLEAN

    def start(self) -> None:
        self.experiment.ledger.mkdir()
        window = {"at": 1.0, "ok": int(self.writes), "failed": 0, "unknown": 3, "writes_ok": 0}
        window |= dict.fromkeys(("p50_ms", "p95_ms", "p99_ms", "max_ms"), 1.0)
        (self.experiment.ledger / METRICS_FILE).write_text(json.dumps(window) + "\n")

    def ended(self) -> str | None:
        return self.reason

    def stop(self) -> None:
        self.stops += 1

    def check(self) -> dict[str, Any]:
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


@pytest.fixture
def workloads(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Workload]]:
    """The workloads that experiments have started."""
    made: list[Workload] = []

    def observation(*arguments: Any) -> Workload:
        made.append(Workload(*arguments))
        return made[-1]

    monkeypatch.setenv("SHARDMART_STATE", str(targets.state.folder))
    monkeypatch.setattr(controls, "observation", observation)
    monkeypatch.setattr(controls, "_session", None)
    monkeypatch.setattr(page, "write_report", lambda folder: folder / "report.html")
    yield made
    controls._stop_everything()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    """What the control logs, also after Chaos Toolkit has set up its logger for itself, as its command does."""
    monkeypatch.setattr(controls.logger, "propagate", False)
    controls.logger.addHandler(caplog.handler)
    with caplog.at_level("INFO", logger=controls.logger.name):
        yield caplog
    controls.logger.removeHandler(caplog.handler)


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(workloads: list[Workload]) -> Run:
    """An experiment from its beginning to its end: what Chaos Toolkit's journal says then."""

    def experiment(*activities: tuple[dict[str, Any], dict[str, Any]], **state: Any) -> dict[str, Any]:
        begin()
        for activity, ran in activities:
            controls.after_activity_control(activity, ran)
        return end(**state)

    return experiment


def begin(**options: Any) -> None:
    controls.before_experiment_control(EXPERIMENT, **{"warm_up_s": 0, "cool_down_s": 0} | options)


def end(**state: Any) -> dict[str, Any]:
    journal = {"status": "completed", "deviated": False} | state
    controls.after_experiment_control(EXPERIMENT, journal)
    return journal


def summary(workloads: list[Workload]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((workloads[-1].experiment.folder / "summary.json").read_text())
    return made


def probe(name: str, output: Any, tolerance: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    activity = {"type": "probe", "name": name} | ({} if tolerance is None else {"tolerance": tolerance})
    return activity, {"status": "succeeded", "output": output}


WITHIN = {"type": "range", "range": [95, 130]}


def test_experiment_in_which_all_is_well_passes(
    run: Run, workloads: list[Workload], said: pytest.LogCaptureFixture
) -> None:
    assert run(probe("proof: round trip", 101.5, WITHIN))["status"] == "completed"
    found = summary(workloads)
    assert (found["status"], found["problems"], found["verdict"]) == ("passed", [], CLEAN)
    assert (found["title"], found["description"], found["source"]) == (TITLE, "d", "s")
    (measured,) = found["measured"]
    assert (measured["name"], measured["value"], measured["tolerance"], measured["met"]) == (
        "proof: round trip", 101.5, WITHIN, True,
    )  # fmt: skip
    assert "proof: round trip: 101.5" in said.messages
    assert workloads[-1].stops == 1


def test_failed_action_fails_the_experiment(run: Run, workloads: list[Workload]) -> None:
    failed = {"status": "failed", "exception": ["Traceback", "ActivityFailed: iptables is missing"]}
    assert run(({"type": "action", "name": "cut"}, failed))["status"] == "failed"
    assert summary(workloads)["problems"] == ["action 'cut' failed: ActivityFailed: iptables is missing"]
    assert summary(workloads)["status"] == "failed"


def test_action_that_succeeded_measures_nothing(run: Run, workloads: list[Workload]) -> None:
    run(({"type": "action", "name": "cut"}, {"status": "succeeded", "output": {}}))
    assert (summary(workloads)["measured"], summary(workloads)["problems"]) == ([], [])


def test_probe_out_of_tolerance_fails_the_experiment(
    run: Run, workloads: list[Workload], said: pytest.LogCaptureFixture
) -> None:
    activity, ran = probe("writable again", output=False, tolerance=True)
    assert run((activity, ran), (activity, ran))["status"] == "failed"
    assert ran["tolerance_met"] is False
    assert "writable again: False  OUT OF TOLERANCE" in said.messages
    assert summary(workloads)["problems"] == ["'writable again' is False, expected true"]


def test_proof_that_fails_is_called_no_fault(run: Run, workloads: list[Workload]) -> None:
    assert run(probe("proof: round trip", 0.1, WITHIN))["status"] == "failed"
    assert summary(workloads)["problems"][0].startswith("NO FAULT: 'proof: round trip' is 0.1")


def test_probe_without_a_tolerance_is_only_measured(run: Run, workloads: list[Workload]) -> None:
    activity, ran = probe("p50", 7)
    run((activity, ran))
    assert "tolerance_met" not in ran
    assert [(m["value"], m["met"]) for m in summary(workloads)["measured"]] == [(7, True)]


def test_ledger_that_is_not_clean_fails_the_experiment(run: Run, workloads: list[Workload]) -> None:
    begin()
    workloads[-1].verdict = {"clean": False, "sentence": "2 lost"}
    assert end()["status"] == "failed"
    assert summary(workloads)["problems"] == ["ledger: 2 lost"]


def test_ledger_that_ended_by_itself_fails_the_experiment(run: Run, workloads: list[Workload]) -> None:
    begin()
    workloads[-1].reason = "exit code 3: no router"
    assert end()["status"] == "failed"
    assert summary(workloads)["problems"] == ["the ledger workload ended by itself: exit code 3: no router"]


@pytest.mark.parametrize("status", ["interrupted", "aborted"])
def test_experiment_that_did_not_come_to_its_end_says_so(run: Run, workloads: list[Workload], status: str) -> None:
    assert run(status=status)["status"] == status
    assert summary(workloads)["problems"] == [f"the experiment was {status}"]
    assert summary(workloads)["status"] == status


def test_deviation_is_no_pass(run: Run, workloads: list[Workload]) -> None:
    run(deviated=True)
    assert (summary(workloads)["status"], summary(workloads)["deviated"]) == ("failed", True)


def test_control_that_fails_does_not_pass(run: Run, workloads: list[Workload]) -> None:
    begin()
    workloads[-1].verdict = ChaosError("the journals could not be fetched")
    assert end()["status"] == "failed"
    assert workloads[-1].stops == 1


def test_experiment_without_a_session_fails(workloads: list[Workload]) -> None:
    assert end()["status"] == "failed"
    controls.after_activity_control({"type": "action", "name": "cut"}, {"status": "failed"})


def test_experiment_that_did_not_begin_fails(workloads: list[Workload], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workload, "start", lambda self: (_ for _ in ()).throw(ChaosError("no  router\nanswers")))
    with pytest.raises(InterruptExecution, match=r"^the experiment cannot begin: no router answers$"):
        begin()
    assert workloads[-1].stops == 1
    assert end()["status"] == "failed"
    assert not (workloads[-1].experiment.folder / "summary.json").exists()


def test_ledger_that_ends_before_its_first_write_is_named(
    workloads: list[Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workload, "ended", lambda self: "exit code 2: bad")
    monkeypatch.setattr(Workload, "start", lambda self: self.experiment.ledger.mkdir())
    with pytest.raises(InterruptExecution, match="the ledger ended with exit code 2: bad"):
        begin()


def test_ledger_without_an_acknowledged_write_is_not_waited_for_for_ever(
    workloads: list[Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Workload.start

    def without_writes(self: Workload) -> None:
        self.writes = False
        start(self)

    monkeypatch.setattr(Workload, "start", without_writes)
    monkeypatch.setattr(controls, "START_SECONDS", 0.2)
    with pytest.raises(InterruptExecution, match=r"waited 0.2 s for the ledger's first acknowledged write"):
        begin()


def test_first_acknowledged_write_is_waited_for(workloads: list[Workload], monkeypatch: pytest.MonkeyPatch) -> None:
    start, looks = Workload.start, iter([None, None])

    def late(self: Workload) -> str | None:
        if next(looks, "written") == "written":
            start(self)
        return None

    monkeypatch.setattr(Workload, "start", lambda self: None)
    monkeypatch.setattr(Workload, "ended", late)
    begin()
    assert next(looks, "written") == "written"


def test_experiment_is_ended_once(run: Run, workloads: list[Workload], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stopped at exit once more may not end an experiment that began since."""
    run()
    ended: list[object] = []
    monkeypatch.setattr(controls.running, "end", ended.append)
    controls._stop_everything()
    assert ended == []


def test_what_this_cluster_cannot_do_starts_nothing(workloads: list[Workload], targets: Targets) -> None:
    drain = {"provider": {"module": "shardmart.chaos.toolkit.actions", "func": "drain_node"}}
    with pytest.raises(InterruptExecution, match="no node to drain"):
        controls.before_experiment_control(EXPERIMENT | {"method": [drain]})
    assert workloads == []


def test_probes_find_the_experiment_while_it_runs_and_not_after(run: Run, workloads: list[Workload]) -> None:
    begin()
    assert current_run() == workloads[-1].experiment
    end()
    with pytest.raises(ChaosError, match="no experiment with a ledger runs"):
        current_run()


def test_folder_is_named_after_the_experiment(run: Run, workloads: list[Workload], targets: Targets) -> None:
    run()
    folder = workloads[-1].experiment.folder
    assert folder.parent == targets.state.folder / "chaos" / "runs"
    assert folder.name.partition("-")[2] == "kill-the-primary-of-a-shard"


def test_workload_is_the_one_asked_for(run: Run, workloads: list[Workload]) -> None:
    begin(workloads="orders", clients=3, rate=50, write_concern="1", operation_timeout_s=4)
    assert workloads[-1].workloads == "orders"
    assert workloads[-1].arguments == [
        *("--duration", "86400", "--clients", "3", "--rate", "50"),
        *("--write-concern", "1", "--operation-timeout", "4"),
    ]  # fmt: skip


def test_fault_that_was_left_is_ended_before_and_after(
    run: Run,
    workloads: list[Workload],
    targets: Targets,
    monkeypatch: pytest.MonkeyPatch,
    said: pytest.LogCaptureFixture,
) -> None:
    def left(number: int) -> None:
        records.write(targets.state, Record(f"f{number}", "nothing", "nothing", ["mongos1"], 9, {"id": "f"}, "active"))

    monkeypatch.setattr(heal, "guard_of", lambda record: None)
    left(1)
    begin()
    assert records.active(targets.state) == []
    (warning,) = (message for message in said.messages if "still active" in message)
    assert warning.startswith("ended faults that were still active: ")
    left(2)
    end()
    assert records.active(targets.state) == []
    assert Path(targets.state.folder / "chaos" / "events.jsonl").read_text().count("fault-ended") == 2


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


@pytest.mark.parametrize("dry", [Dry.ACTIVITIES, Dry.ACTIONS, Dry.PROBES])
def test_dry_run_starts_and_writes_nothing_and_passes(targets: Targets, workloads: list[Workload], dry: Dry) -> None:
    before = sorted(targets.state.folder.rglob("*"))
    experiment = EXPERIMENT | {"dry": dry}
    controls.before_experiment_control(experiment)
    controls.after_activity_control({"type": "probe", "name": "p", "tolerance": True}, {"output": None})
    journal = {"status": "completed", "deviated": False}
    controls.after_experiment_control(experiment, journal)
    assert journal["status"] == "completed"
    assert workloads == []
    assert sorted(targets.state.folder.rglob("*")) == before


@pytest.mark.parametrize(("value", "status"), [(251.0, "completed"), (101.0, "failed")])
def test_tolerance_follows_a_delay_that_was_given(workloads: list[Workload], value: float, status: str) -> None:
    within = {"type": "range", "range": ["${delay_ms} - 2", "${delay_ms} + 10"]}
    begin()
    activity, ran = probe("proof: round trip", value, within)
    controls.after_activity_control(activity, ran, configuration={"delay_ms": 250})
    assert end()["status"] == status


def test_verdict_about_a_fault_itself_comes_before_anything_heals(
    workloads: list[Workload], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    begin(judge_before_healing=True)
    monkeypatch.setattr(controls.heal, "heal", lambda state: order.append("heal") or [])
    monkeypatch.setattr(workloads[-1], "check", lambda: order.append("check") or CLEAN)
    controls.after_method_control(context=EXPERIMENT)
    assert workloads[-1].stops == 1
    assert end()["status"] == "completed"
    assert order == ["check", "heal"]
    assert summary(workloads)["verdict"] == CLEAN


def test_verdict_comes_after_healing_otherwise(workloads: list[Workload], monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    begin()
    monkeypatch.setattr(controls.heal, "heal", lambda state: order.append("heal") or [])
    monkeypatch.setattr(workloads[-1], "check", lambda: order.append("check") or CLEAN)
    controls.after_method_control(context=EXPERIMENT)
    end()
    assert order == ["heal", "check"]
