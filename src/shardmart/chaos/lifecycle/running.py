"""The experiment that runs now: its folder, its ledger workload, and its first fault.

Probes, which Chaos Toolkit calls without context, find it here.  One experiment per state folder at a time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from shardmart.platforms.state import State

from ..errors import ChaosError
from .records import records


@dataclass(frozen=True)
class RunningExperiment:
    """Where an experiment keeps what it measures, and when it began (wall-clock seconds)."""

    folder: Path
    title: str
    started: float

    @property
    def ledger(self) -> Path:
        """The folder of the journals."""
        return self.folder / "ledger"

    def first_fault(self) -> float | None:
        """When the first fault of this experiment began (wall clock)."""
        begun = [r.begun for r in records(State.find()) if r.begun and r.begun >= self.started]
        return min(begun, default=None)


def _pointer(state: State) -> Path:
    return state.folder / "chaos" / "running.json"


def begin(state: State, experiment: RunningExperiment) -> None:
    """Make this the running experiment."""
    _pointer(state).parent.mkdir(parents=True, exist_ok=True)
    _pointer(state).write_text(json.dumps(asdict(experiment) | {"folder": str(experiment.folder)}))


def end(state: State) -> None:
    """No experiment runs any more."""
    _pointer(state).unlink(missing_ok=True)


def current_run() -> RunningExperiment:
    """The running experiment; ChaosError when there is none."""
    try:
        document = json.loads(_pointer(State.find()).read_text())
    except FileNotFoundError:
        raise ChaosError(
            "no experiment with a ledger runs: it needs the control shardmart.chaos.toolkit.controls"
        ) from None
    return RunningExperiment(Path(document["folder"]), document["title"], document["started"])
