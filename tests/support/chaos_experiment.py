"""An experiment of Chaos Toolkit without servers: begun and ended, its workload gives the verdict it is told to."""

from __future__ import annotations

import json
from typing import Any

from shardmart.chaos.lifecycle.running import RunningExperiment
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.toolkit import controls
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


def begin(**options: Any) -> None:
    controls.before_experiment_control(EXPERIMENT, **{"warm_up_s": 0, "cool_down_s": 0} | options)


def end(**state: Any) -> dict[str, Any]:
    journal = {"status": "completed", "deviated": False} | state
    controls.after_experiment_control(EXPERIMENT, journal)
    return journal
