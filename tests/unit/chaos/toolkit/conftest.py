"""The workloads of experiments without servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shardmart.chaos.report import page
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.toolkit import controls
from tests.support.chaos_experiment import Workload


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
