"""Network faults on real packets of local processes: who is hit, who is not, and how each one ends.

Needs root (or CAP_NET_ADMIN) and iptables; skipped elsewhere with the reason.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from echo_cluster import needs_network_faults

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.lifecycle import records, register
from shardmart.chaos.toolkit import actions

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("network_faults")]

DELAY_MS = 200
LONG_S = 120
"""Longer than a test takes on a busy machine; the fault is healed at the end of the test."""


def is_undelayed(measure: Callable[[], float | None]) -> bool:
    """Whether one handshake of many is quicker than the delay: a busy machine makes one slower, nothing makes it
    quicker."""
    return any((ms := measure()) is not None and ms < DELAY_MS for _ in range(50))


@pytest.fixture
def network_faults(cluster: Any) -> None:
    needs_network_faults(cluster)


def test_latency_hits_the_target_and_nobody_else(cluster: Any) -> None:
    actions.latency(targets="mongos1", delay_ms=DELAY_MS, duration_s=LONG_S)
    assert cluster.connect_ms("mongos1") >= DELAY_MS
    assert is_undelayed(lambda: cluster.connect_ms("shard1-1"))


def test_latency_hits_connections_the_target_opens(cluster: Any) -> None:
    actions.latency(targets="shard1-1", peers="shard1-2", delay_ms=DELAY_MS, duration_s=LONG_S)
    assert cluster.dial_ms("shard1-1", "shard1-2") >= DELAY_MS
    assert cluster.dial_ms("shard1-2", "shard1-1") >= DELAY_MS
    assert is_undelayed(lambda: cluster.dial_ms("shard1-1", "shard1-3"))
    assert is_undelayed(lambda: cluster.dial_ms("shard1-3", "shard1-2"))
    assert is_undelayed(lambda: cluster.connect_ms("shard1-1"))


def test_latency_in_both_directions_counts_twice(cluster: Any) -> None:
    actions.latency(targets="mongos1", delay_ms=150, direction="both", duration_s=LONG_S)
    assert cluster.connect_ms("mongos1") >= 300


def test_partition_cuts_one_member_from_the_rest_but_not_from_outside(cluster: Any) -> None:
    actions.partition(targets="shard1-1", peers="shard1ReplSet,routers", duration_s=LONG_S)
    assert cluster.dial_ms("shard1-1", "shard1-2") is None
    assert cluster.dial_ms("shard1-3", "shard1-1") is None
    assert cluster.dial_ms("mongos1", "shard1-1") is None
    assert cluster.dial_ms("shard1-2", "shard1-3") is not None
    assert cluster.connect_ms("shard1-1") is not None


def test_a_later_fault_reaches_connections_an_earlier_one_let_pass(cluster: Any) -> None:
    """Conntrack remembers what the first fault decided; the second must not believe it."""
    import socket

    with socket.create_connection(("127.0.0.1", cluster.ports["shard1-1"]), timeout=5) as connection:
        actions.latency(targets="mongos1", peers="all", delay_ms=DELAY_MS, duration_s=LONG_S)
        connection.sendall(b"one")
        assert connection.recv(10) == b"one"
        actions.heal()
        actions.latency(targets="shard1-1", peers="all", delay_ms=DELAY_MS, duration_s=LONG_S)
        started = time.perf_counter()
        connection.sendall(b"two")
        assert connection.recv(10) == b"two"
        assert (time.perf_counter() - started) * 1000 >= DELAY_MS


def test_fault_ends_at_its_deadline(cluster: Any, await_true: Any) -> None:
    record = actions.partition(targets="mongos1", duration_s=6)
    assert cluster.connect_ms("mongos1", timeout=0.5) is None
    await_true(lambda: cluster.connect_ms("mongos1", 0.5) is not None, 60, "the partition to end by itself")
    await_true(lambda: records.read(cluster.state, record["id"]).status == "ended", 60, "the record to say so")
    assert records.read(cluster.state, record["id"]).reason == "deadline"


def test_fault_goes_on_and_heals_when_the_experimenter_is_killed_with_9(cluster: Any, await_true: Any) -> None:
    code = (
        "import time; from shardmart.chaos.toolkit import actions; "
        "actions.partition(targets='mongos1', duration_s=10); time.sleep(600)"
    )
    experimenter = subprocess.Popen([sys.executable, "-c", code])
    await_true(lambda: bool(records.active(cluster.state)), 30, "the fault to begin")
    await_true(lambda: cluster.connect_ms("mongos1", 0.5) is None, 60, "the partition to be real")
    experimenter.send_signal(signal.SIGKILL)
    experimenter.wait()
    assert cluster.connect_ms("mongos1", timeout=0.5) is None
    await_true(lambda: cluster.connect_ms("mongos1", 0.5) is not None, 60, "the partition to end without anybody")


def test_packets_pass_at_once_when_the_guard_is_killed_with_9(cluster: Any, await_true: Any) -> None:
    record = records.read(cluster.state, actions.partition(targets="mongos1", duration_s=300)["id"])
    assert record.guard is not None
    os.kill(record.guard, signal.SIGKILL)
    await_true(lambda: cluster.connect_ms("mongos1", 0.5) is not None, 60, "the kernel to bypass the queue")
    assert actions.heal() == [record.id]
    assert records.read(cluster.state, record.id).status == "ended"


def test_kernel_ends_the_fault_when_the_guard_is_stopped(cluster: Any, await_true: Any) -> None:
    record = records.read(cluster.state, actions.partition(targets="mongos1", duration_s=6)["id"])
    assert record.guard is not None
    os.kill(record.guard, signal.SIGSTOP)
    try:
        assert cluster.connect_ms("mongos1", timeout=0.5) is None
        await_true(lambda: cluster.connect_ms("mongos1", 0.5) is not None, 60, "the rule's own deadline")
    finally:
        os.kill(record.guard, signal.SIGCONT)


def test_second_network_fault_is_refused_while_one_is_active(cluster: Any) -> None:
    actions.latency(targets="mongos1", delay_ms=10, duration_s=LONG_S)
    with pytest.raises(Exception, match="another network fault is active"):
        actions.latency(targets="shard1-1", delay_ms=10, duration_s=LONG_S)


def test_refused_network_fault_leaves_the_active_one_alone(cluster: Any) -> None:
    actions.latency(targets="mongos1", delay_ms=DELAY_MS, duration_s=LONG_S)
    with pytest.raises(Exception, match="another network fault is active"):
        actions.latency(targets="shard1-1", delay_ms=10, duration_s=LONG_S)
    assert cluster.connect_ms("mongos1") >= DELAY_MS


def test_loss_drops_about_the_share_asked_for(cluster: Any) -> None:
    record = actions.packet_loss(targets="mongos1", loss=0.3, duration_s=60, seed=3)
    for _ in range(12):
        cluster.connect_ms("mongos1", timeout=5)
    actions.heal()
    counted = records.read(cluster.state, record["id"]).evidence
    assert 0.1 < counted["dropped"] / (counted["seen"]) < 0.55


def test_fault_on_nobody_is_refused(cluster: Any) -> None:
    with pytest.raises(Exception, match="no server 'shard9-1'"):
        actions.latency(targets="shard9-1")
    with pytest.raises(ChaosError, match="at most"):
        register.start(cluster.targets, "nothing", "nothing", cluster.targets.servers, 10_000_000)
