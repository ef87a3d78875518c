"""A guard that is killed with -9 at the worst moments: what it has broken is in the record, and is mended.

The guards here are real processes of their own, whose fault kills them while it begins.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from chaoslib.exceptions import ActivityFailed

from shardmart.chaos.faults import kinds
from shardmart.chaos.faults.disk import ControlGroup
from shardmart.chaos.lifecycle import heal, records, register
from shardmart.chaos.lifecycle.records import BEGINNING, ENDED
from shardmart.chaos.toolkit import actions

pytestmark = pytest.mark.integration

GUARD = """
import os, signal, time
from shardmart.chaos.faults import disk, processes
from shardmart.chaos.lifecycle import guard
fault = {fault}
begin = fault.begin
def dies(self):
    {body}
fault.begin = dies
raise SystemExit(guard.main())
"""
DIE = "os.kill(os.getpid(), signal.SIGKILL)"
AT_BEGIN, DONE = DIE, f"begin(self); {DIE}"
MOMENTS = pytest.mark.parametrize("moment", [AT_BEGIN, DONE], ids=["between record and begin", "during begin"])

Dying = Callable[[str, str], None]


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dying:
    """Make guards die when a class of faults begins."""

    def dies(fault: str, body: str) -> None:
        script = tmp_path / "guard.py"
        script.write_text(GUARD.format(fault=fault, body=body))
        monkeypatch.setattr(register, "GUARD", (sys.executable, str(script)))

    return dies


def left_by_a_dead_guard(cluster: Any, kind: str, **parameters: object) -> str:
    """The identifier of a fault whose guard died, with nobody there to notice it."""
    record = register.asked_for(cluster.targets, kind, kind, cluster.targets.resolve("shard1-1"), 60, **parameters)
    assert register.start_guard(cluster.targets, record).wait(60) == -9
    assert records.read(cluster.state, record.id).status == BEGINNING
    return record.id


@MOMENTS
def test_killed_process_is_started_again(cluster: Any, dying: Dying, moment: str) -> None:
    dying("processes.Kill", moment)
    fault = left_by_a_dead_guard(cluster, "kill")
    assert (cluster.process("shard1-1") is None) == (moment == DONE)
    assert heal.heal(cluster.state) == [fault]
    assert records.read(cluster.state, fault).status == ENDED
    assert cluster.connect_ms("shard1-1") is not None


@MOMENTS
def test_paused_process_goes_on(cluster: Any, dying: Dying, moment: str) -> None:
    dying("processes.Pause", moment)
    fault = left_by_a_dead_guard(cluster, "pause")
    assert (cluster.process("shard1-1").status() == psutil.STATUS_STOPPED) == (moment == DONE)
    assert heal.heal(cluster.state) == [fault]
    assert cluster.process("shard1-1").status() != psutil.STATUS_STOPPED


@MOMENTS
@pytest.mark.usefixtures("a_disk_to_slow")
def test_limited_disk_is_free_again(cluster: Any, dying: Dying, moment: str) -> None:
    pid = cluster.process("shard1-1").pid
    home = ControlGroup("any").home(pid)
    dying("disk.SlowWrites", moment)
    fault = left_by_a_dead_guard(cluster, "slowdisk", iops=1000)
    assert (ControlGroup("any").home(pid) == f"shardmart-{fault}") == (moment == DONE)
    assert heal.heal(cluster.state) == [fault]
    assert ControlGroup("any").home(pid) == home
    assert not list(Path("/sys/fs/cgroup").rglob(f"shardmart-{fault}"))


def test_who_asked_for_the_fault_is_told_and_finds_it_undone(cluster: Any, dying: Dying) -> None:
    dying("processes.Kill", DONE)
    with pytest.raises(ActivityFailed, match="its guard died"):
        actions.kill(targets="shard1-1", duration_s=60)
    assert records.active(cluster.state) == []
    assert cluster.connect_ms("shard1-1") is not None


def test_guard_is_given_the_time_that_its_fault_may_take(
    cluster: Any, dying: Dying, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying("processes.Pause", "time.sleep(2); begin(self)")
    monkeypatch.setattr(register, "GUARD_SECONDS", 0)
    started = time.monotonic()
    assert actions.pause(targets="shard1-2", duration_s=60)["status"] == "active"
    assert time.monotonic() - started >= 2
    assert cluster.process("shard1-2").status() == psutil.STATUS_STOPPED


def test_guard_that_does_not_begin_in_time_is_ended_and_its_fault_undone(
    cluster: Any, dying: Dying, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying("processes.Pause", "begin(self); time.sleep(600)")
    monkeypatch.setattr(register, "GUARD_SECONDS", 0)
    monkeypatch.setattr(kinds.kind_of(cluster.targets, "pause"), "begin_seconds", 6)
    with pytest.raises(ActivityFailed, match="its guard did not begin it in time"):
        actions.pause(targets="shard1-2", duration_s=60)
    assert cluster.process("shard1-2").status() != psutil.STATUS_STOPPED
    assert records.active(cluster.state) == []
