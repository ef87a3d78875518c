"""What decides whether an experiment passed."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.toolkit.judgement import (
    Judged,
    expected_failure,
    failed_as_expected,
    final_status,
    judge,
    judge_ledger,
    resolved,
    summary_status,
)

PROBE = {"type": "probe", "name": "round trip", "tolerance": [95, 130]}
PROOF = PROBE | {"name": "proof: round trip"}
ACTION = {"type": "action", "name": "cut"}


def between(tolerance: Any, output: Any) -> bool:
    return bool(tolerance[0] <= output <= tolerance[1])


def succeeded(output: Any) -> dict[str, Any]:
    return {"status": "succeeded", "output": output}


def test_action_that_succeeded_is_fine_and_measures_nothing() -> None:
    assert judge(ACTION, succeeded("x"), between) == Judged(None, met=None)


@pytest.mark.parametrize("activity", [ACTION, PROBE, PROOF])
@pytest.mark.parametrize("status", ["failed", "aborted", None])
def test_what_did_not_succeed_is_a_problem_whatever_it_says(activity: dict[str, Any], status: str | None) -> None:
    run = {"status": status, "output": 100, "exception": ["Traceback", " ActivityFailed: no iptables\n"]}
    assert judge(activity, run, between) == Judged(
        f"{activity['type']} {activity['name']!r} failed: ActivityFailed: no iptables"
    )


def test_failure_without_a_word_is_a_problem() -> None:
    assert judge(ACTION, {"status": "failed"}, between).problem == "action 'cut' failed: no reason given"
    assert (
        judge(ACTION, {"status": "failed", "exception": []}, between).problem == "action 'cut' failed: no reason given"
    )


@pytest.mark.parametrize("activity", [PROBE, PROOF])
def test_output_within_its_tolerance_is_met(activity: dict[str, Any]) -> None:
    assert judge(activity, succeeded(95), between) == Judged(None, met=True)


def test_output_out_of_its_tolerance_is_a_problem() -> None:
    assert judge(PROBE, succeeded(94), between) == Judged("'round trip' is 94, expected [95, 130]", met=False)


def test_proof_that_fails_is_called_no_fault() -> None:
    assert judge(PROOF, succeeded(0), between) == Judged(
        "NO FAULT: 'proof: round trip' is 0, expected [95, 130]", met=False
    )


def test_tolerance_of_false_is_one() -> None:
    activity = {"type": "probe", "name": "writable", "tolerance": False}
    assert judge(activity, succeeded(False), operator.eq).met is True
    assert judge(activity, succeeded(True), operator.eq).met is False


def test_probe_without_a_tolerance_only_measures() -> None:
    assert judge({"type": "probe", "name": "p50"}, succeeded(3), between) == Judged(None, met=True)


def test_ledger_has_to_say_that_it_is_clean() -> None:
    assert judge_ledger({"clean": True, "sentence": "clean"}) is None
    assert judge_ledger({"clean": False, "sentence": "2 lost"}) == "ledger: 2 lost"
    assert judge_ledger({}) == "ledger: no verdict"
    assert judge_ledger({"clean": "no"}) == "ledger: no verdict"


@pytest.mark.parametrize(
    ("status", "problems", "final"),
    [
        ("completed", [], "completed"),
        ("completed", ["ledger: 2 lost"], "failed"),
        ("deviated", ["x"], "failed"),
        ("failed", [], "failed"),
        ("interrupted", ["the experiment was interrupted"], "interrupted"),
        ("aborted", ["the experiment was aborted"], "aborted"),
    ],
)
def test_status_at_the_end(status: str, problems: list[str], final: str) -> None:
    assert final_status(status, problems) == final


@pytest.mark.parametrize(
    ("status", "deviated", "word"),
    [
        ("completed", False, "passed"),
        ("completed", True, "failed"),
        ("failed", False, "failed"),
        ("failed", True, "failed"),
        ("interrupted", False, "interrupted"),
    ],
)
def test_only_what_was_completed_and_did_not_deviate_passed(status: str, deviated: bool, word: str) -> None:
    assert summary_status(status, deviated=deviated) == word


CONTROLS = sorted((Path(__file__).parents[4] / "chaos").glob("*negative-control*.json"))


@pytest.mark.parametrize("file", CONTROLS, ids=lambda file: file.stem)
def test_negative_controls_say_how_they_must_fail(file: Path) -> None:
    assert expected_failure(json.loads(file.read_text()))


def pattern(name: str) -> str:
    found = expected_failure(json.loads(next(file for file in CONTROLS if file.stem == name).read_text()))
    assert found
    return found


def ledger(found: str) -> str:
    return f"ledger: NOT clean: {found} (of 9,000 acknowledged operations)"


LOST = ledger("lost 686")
NO_FAULT = "NO FAULT: 'proof: round trip to the router (ms)' is 0.11, expected {}"


@pytest.mark.parametrize(
    ("control", "problems", "instead"),
    [
        ("negative-control", [LOST], None),
        ("negative-control", ["'writable again' is False, expected true", LOST], None),
        (
            "negative-control",
            ["action 'cut' failed: no iptables"],
            "it failed otherwise: action 'cut' failed: no iptables",
        ),
        (
            "negative-control",
            ["ledger: NOT clean: members 1 (of 2 acknowledged operations)"],
            "it failed otherwise: ledger",
        ),
        ("negative-control", ["ledger: the ledger could not be checked: no router"], "it failed otherwise: ledger"),
        ("negative-control", [], "it found nothing wrong"),
        # Nothing of these is what the fault does: a loss beside them may be of the same defect as they are.
        ("negative-control", [ledger("doubled 1, lost 686")], "it failed otherwise: ledger"),
        ("negative-control", [ledger("lost 686, tampered 1")], "it failed otherwise: ledger"),
        ("negative-control", [ledger("lost 686, members 1")], "it failed otherwise: ledger"),
        ("negative-control", [ledger("lost 686, phantom 2, stale 3")], "it failed otherwise: ledger"),
        ("negative-control", [ledger("lost 686, stale 3, unbalanced 1")], None),
        ("negative-control", [ledger("lost 686, not linearizable 1, unbalanced 1")], None),
        # Lost, and not by the fault.
        (
            "negative-control",
            ["NO FAULT: 'proof: the process is gone' is False, expected true", LOST],
            "it failed otherwise: NO FAULT: 'proof: the process is gone' is False, expected true",
        ),
        ("negative-control", ["action 'cut' failed: no iptables", LOST], "it failed otherwise: action 'cut' failed"),
        # As they were seen (docs/ring.md, docs/fragments.md).
        ("ring-negative-control", [ledger("lost 6, members 1")], None),
        # A put that is lost and overlapped a deletion may be told by a read that saw it alone.
        ("ring-negative-control", [ledger("lost 8, members 1, not linearizable 1")], None),
        ("ring-negative-control", [ledger("lost 8, members 1, not linearizable 1, stale 2")], None),
        ("ring-negative-control", [ledger("members 1, not linearizable 1")], "it failed otherwise: ledger"),
        ("ring-negative-control", [ledger("lost 6")], "it failed otherwise: ledger"),
        ("ring-negative-control", [ledger("lost 6, members 1, resurrected 1")], "it failed otherwise: ledger"),
        ("fragments-negative-control", [ledger("diverged 4, members 1, stale 19")], None),
        ("fragments-negative-control", [ledger("diverged 4, doubled 1")], "it failed otherwise: ledger"),
        ("fragments-negative-control", [ledger("members 1, stale 19")], "it failed otherwise: ledger"),
        ("negative-control-no-fault", [NO_FAULT, LOST], "it failed otherwise: ledger"),
        ("negative-control-no-fault", [NO_FAULT], None),
        # Nobody answers: that says nothing of what the proof would say of a fault that is none.
        ("negative-control-no-fault", [NO_FAULT.replace("0.11", "-1.0")], "it failed otherwise: NO FAULT"),
        ("negative-control-no-fault", ["action 'do nothing' failed: x"], "it failed otherwise: action"),
    ],
)
def test_negative_control_has_to_fail_for_its_own_reason(
    control: str, problems: list[str], instead: str | None
) -> None:
    said = failed_as_expected(pattern(control), {"problems": problems})
    assert said == instead or (said and instead and said.startswith(instead))


def test_negative_control_that_never_began_proves_nothing() -> None:
    assert failed_as_expected(".*", None) == "it never began"


def range_of(*bounds: Any) -> dict[str, Any]:
    return {"type": "range", "range": list(bounds)}


@pytest.mark.parametrize(
    ("bound", "number"),
    [
        ("${delay_ms} - 2", 248),
        ("${delay_ms} * 2 + 60", 560),
        ("500 / ${iops}", 50),
        ("${delay_ms}", 250),
        ("0.5", 0.5),
    ],
)
def test_bound_follows_the_configuration(bound: str, number: float) -> None:
    assert resolved(range_of(bound, 7), {"delay_ms": 250, "iops": 10}) == range_of(number, 7)


@pytest.mark.parametrize("bound", ["${nothing}", "${delay_ms} ** 9", "print(1)", "", "${title}", "1 / 0"])
def test_bound_that_is_no_arithmetic_is_refused(bound: str) -> None:
    with pytest.raises(ChaosError, match="of a tolerance"):
        resolved(range_of(bound, 7), {"delay_ms": 250, "title": "x"})


@pytest.mark.parametrize("tolerance", [True, 5, {"type": "regex", "pattern": "${x}"}, range_of(1, 2)])
def test_other_tolerances_stay_as_they_are(tolerance: Any) -> None:
    assert resolved(tolerance, {}) == tolerance


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[4] / "chaos").glob("*.json")), ids=lambda file: file.stem
)
def test_bounds_of_every_experiment_are_numbers_of_its_configuration(file: Path) -> None:
    experiment = json.loads(file.read_text())
    for platform in ("embedded", "kubernetes"):
        configuration = {
            name: value.get(platform) if isinstance(value, dict) else value
            for name, value in experiment["configuration"].items()
        }
        for activity in experiment["method"]:
            if "tolerance" in activity:
                tolerance = resolved(activity["tolerance"], configuration)
                if isinstance(tolerance, dict):
                    assert tolerance["range"][0] <= tolerance["range"][1]
