"""The control turns what Chaos Toolkit would let pass into a failure."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from shardmart.chaos.toolkit import controls


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A session without a cluster: what the control notes is all that is looked at."""
    made = MagicMock(problems=[], measured=[])
    monkeypatch.setattr(controls, "_session", made)
    return made


def probe(name: str, tolerance: Any = None) -> dict[str, Any]:
    return {"type": "probe", "name": name} | ({} if tolerance is None else {"tolerance": tolerance})


def test_failed_action_is_a_problem(session: Any) -> None:
    state = {"status": "failed", "exception": ["Traceback", "ActivityFailed: iptables is missing"]}
    controls.after_activity_control({"type": "action", "name": "cut"}, state)
    assert session.problems == ["action 'cut' failed: ActivityFailed: iptables is missing"]


def test_probe_within_tolerance_is_none(session: Any) -> None:
    within = {"type": "range", "range": [95, 130]}
    controls.after_activity_control(probe("round trip", within), {"status": "succeeded", "output": 101.5})
    assert session.problems == []
    assert session.measured[0]["met"] is True


def test_probe_out_of_tolerance_is_a_problem(session: Any) -> None:
    controls.after_activity_control(probe("writable again", tolerance=True), {"status": "succeeded", "output": False})
    assert session.problems == ["'writable again' is False, expected true"]


def test_proof_that_fails_is_called_no_fault(session: Any) -> None:
    within = {"type": "range", "range": [95, 130]}
    controls.after_activity_control(probe("proof: round trip", within), {"status": "succeeded", "output": 0.1})
    assert session.problems[0].startswith("NO FAULT: ")


def test_experiment_without_a_session_fails() -> None:
    state = {"status": "completed"}
    controls.after_experiment_control({"title": "x"}, state)
    assert state["status"] == "failed"
