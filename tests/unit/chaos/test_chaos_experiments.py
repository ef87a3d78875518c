"""Every experiment is valid, names only what exists, and is held to the house rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chaoslib.experiment import ensure_experiment_is_valid

from shardmart.chaos.toolkit import actions, probes

FOLDER = Path(__file__).parents[3] / "chaos"
EXPERIMENTS = sorted(FOLDER.glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.fixture(params=EXPERIMENTS, ids=lambda path: path.stem)
def experiment(request: pytest.FixtureRequest) -> dict[str, Any]:
    return load(request.param)


def test_chaos_toolkit_accepts_it(experiment: dict[str, Any]) -> None:
    ensure_experiment_is_valid(experiment)


def test_it_has_the_control_heals_always_and_proves_its_fault(experiment: dict[str, Any]) -> None:
    assert [c["provider"]["module"] for c in experiment["controls"]] == ["shardmart.chaos.toolkit.controls"]
    assert experiment["runtime"]["rollbacks"]["strategy"] == "always"
    assert [r["provider"]["func"] for r in experiment["rollbacks"]] == ["heal"]
    assert any(step["name"].startswith("proof: ") for step in experiment["method"])


def test_its_activities_exist_and_take_what_they_are_given(experiment: dict[str, Any]) -> None:
    import inspect

    steps = [*experiment["method"], *experiment["rollbacks"], *experiment["steady-state-hypothesis"]["probes"]]
    for step in steps:
        module = {"shardmart.chaos.toolkit.actions": actions, "shardmart.chaos.toolkit.probes": probes}[
            step["provider"]["module"]
        ]
        function = getattr(module, step["provider"]["func"])
        inspect.signature(function).bind(**step["provider"].get("arguments", {}))


def test_its_source_says_how_to_repeat_it() -> None:
    for path in EXPERIMENTS:
        relative = path.relative_to(FOLDER.parent)
        assert load(path)["configuration"]["source"] == f"chaos run {relative}"


def test_every_public_name_has_words_for_people() -> None:
    for module in (actions, probes):
        for name in module.__all__:
            assert getattr(module, name).__doc__, name
