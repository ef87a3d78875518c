"""Kill and pause of real processes, and the register that ends what a dead guard left behind.  Needs no root."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest
from chaoslib.exceptions import ActivityFailed

from shardmart.chaos import cli
from shardmart.chaos.faults.disk import ControlGroup
from shardmart.chaos.lifecycle import records, register
from shardmart.chaos.lifecycle.engine import Engine, Plan
from shardmart.chaos.toolkit import actions, probes

pytestmark = pytest.mark.integration


def test_kill_is_real_and_the_process_comes_back(cluster: Any, await_true: Any) -> None:
    before = cluster.process("shard1-1").pid
    actions.kill(targets="shard1-1", duration_s=1)
    assert not psutil.pid_exists(before) or psutil.Process(before).status() == psutil.STATUS_ZOMBIE
    await_true(lambda: not records.active(cluster.state), 30, "the fault to end")
    after = cluster.process("shard1-1")
    assert after is not None
    assert after.pid != before
    assert cluster.connect_ms("shard1-1") is not None


def test_kill_takes_several_at_once(cluster: Any) -> None:
    actions.kill(targets="shard1ReplSet,routers", duration_s=30)
    assert probes.is_gone()
    assert [cluster.process(s.name) is None for s in cluster.targets.servers] == [False, True, True, True, True]


def test_heal_brings_back_what_a_dead_guard_killed(cluster: Any) -> None:
    record = records.read(cluster.state, actions.kill(targets="shard1-1", duration_s=300)["id"])
    assert record.guard is not None
    os.kill(record.guard, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(record.guard)], timeout=5)
    assert actions.heal() == [record.id]
    cluster.wait_for("shard1-1")


def test_pause_stops_and_goes_on(cluster: Any) -> None:
    actions.pause(targets="shard1-2", duration_s=60)
    process = cluster.process("shard1-2")
    assert process.status() == psutil.STATUS_STOPPED
    assert probes.is_stopped()
    actions.heal()
    assert process.status() != psutil.STATUS_STOPPED


def test_kill_of_a_process_that_does_not_run_is_refused(cluster: Any) -> None:
    actions.kill(targets="shard1-1", duration_s=60)
    with pytest.raises(Exception, match="shard1-1 does not run"):
        actions.kill(targets="shard1-1", duration_s=60)


def test_nothing_is_no_proof(cluster: Any) -> None:
    actions.do_nothing(targets="mongos1", duration_s=60)
    assert probes.round_trip_ms("mongos1") < 90


def test_connections_are_open_and_closed_again(cluster: Any, await_true: Any) -> None:
    actions.fill_connections(targets="mongos1", count=120, duration_s=60)
    await_true(lambda: probes.connections_open("mongos1") >= 120, 60, "120 connections to be accepted")
    actions.heal()
    await_true(lambda: probes.connections_open("mongos1") < 120, 60, "the connections to close")


def test_stop_button_ends_every_fault(cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    record = actions.pause(targets="shard1-2", duration_s=60)
    assert cli.main(["heal"]) == 0
    assert record["id"] in capsys.readouterr().out
    assert records.active(cluster.state) == []


def test_engine_waits_for_a_primary_before_it_touches_anything(cluster: Any) -> None:
    """Echo servers are nobody's primary: what is broken already must not be broken more."""
    import threading

    said: list[str] = []
    plan = Plan(faults=("kill",), pause_s=(0.01, 0.02), length_s=(1, 2), duration_s=1.5)
    engine = Engine(cluster.targets, plan, said.append)
    engine._wait_until_whole = lambda stop, seconds=0.2: Engine._wait_until_whole(engine, stop, seconds)  # type: ignore[method-assign]
    engine.run(threading.Event())
    assert engine.begun == 0
    assert any("a primary of every set" in line for line in said)


@pytest.mark.usefixtures("a_disk_to_slow")
def test_slow_disk_is_measured_and_lifted(cluster: Any) -> None:
    pid = cluster.process("shard1-1").pid
    home = ControlGroup("any").home(pid)
    fault = actions.slow_disk(targets="shard1-1", iops=10, duration_s=60)
    assert ControlGroup("any").home(pid) == f"shardmart-{fault['id']}"
    # Ten writes a second cannot be done faster than a tenth of a second each, however quick the machine is.
    assert probes.durable_write_ms() > 50
    actions.heal()
    assert ControlGroup("any").home(pid) == home


def test_a_later_fault_can_hit_what_an_earlier_one_hit(cluster: Any) -> None:
    paused = actions.pause(targets="shard1-2", duration_s=60)
    assert actions.kill(targets="fault:pause", duration_s=1)["targets"] == paused["targets"]
    with pytest.raises(ActivityFailed, match="no fault 'latency' was ever started"):
        actions.kill(targets="fault:latency")


def test_fault_whose_guard_dies_does_not_stay_active(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register, "GUARD", ("/bin/false",))
    with pytest.raises(ActivityFailed, match="its guard died"):
        actions.pause(targets="shard1-2", duration_s=60)
    assert records.active(cluster.state) == []
