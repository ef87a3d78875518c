"""What decides whether an experiment passed."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from shardmart.chaos.toolkit.judgement import (
    Judged,
    final_status,
    judge,
    judge_ledger,
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
