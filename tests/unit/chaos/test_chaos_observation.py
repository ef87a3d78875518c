"""What is watched beside a workload: the shards, where they keep what it writes, and nothing else then."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shardmart.chaos.lifecycle.running import RunningExperiment
from shardmart.chaos.observation.workload import Here, observation
from shardmart.chaos.targets.selectors import Targets
from shardmart.ledger.workloads import WORKLOADS


@pytest.mark.parametrize(
    ("workloads", "watched"),
    [("all", True), ("orders", True), ("shop", True), ("carts", False), ("regions", False), ("carts,orders", True)],
)
def test_shards_are_watched_where_they_keep_what_a_workload_writes(
    targets: Targets, tmp_path: Path, workloads: str, watched: bool
) -> None:
    """A ring beside a cluster that is stopped can be broken too, and a shard's heartbeats are no ring's."""
    folder = tmp_path / "run"
    folder.mkdir()
    secret = targets.state.folder / "secrets" / "ledger.password"
    secret.parent.mkdir()
    secret.write_text("not a secret")
    made = observation(targets, RunningExperiment(folder, "an experiment", time.time()), workloads, ["--clients", "4"])
    assert isinstance(made, Here)
    assert (made._watcher is not None) is watched
    assert made._command[-4:] == ["--workload", workloads, "--clients", "4"]
    made.stop()


def test_every_workload_says_where_its_data_lie() -> None:
    beside = {name for name, workload in WORKLOADS.items() if not workload.system.on_shards}
    assert beside == {"carts", "regions"}
