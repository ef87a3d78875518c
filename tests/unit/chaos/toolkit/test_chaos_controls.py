"""The control turns what Chaos Toolkit would let pass into a failure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaoslib.exceptions import InterruptExecution
from chaoslib.types import Dry

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.lifecycle import heal, records
from shardmart.chaos.lifecycle.records import Record
from shardmart.chaos.lifecycle.running import current_run
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.toolkit import controls
from tests.support.chaos_experiment import CLEAN, EXPERIMENT, TITLE, Workload, begin, end


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
