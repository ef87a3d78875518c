"""What a probe makes of what it measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.faults.processes import Pause
from shardmart.chaos.lifecycle import records, running
from shardmart.chaos.lifecycle.records import Record
from shardmart.chaos.lifecycle.running import RunningExperiment
from shardmart.chaos.observation.heartbeats import FILE
from shardmart.chaos.targets.selectors import Targets
from shardmart.chaos.toolkit import probes
from shardmart.ledger.metrics import METRICS_FILE

BUSY = [170.0, 100.4, 113.85, None, 131.2]  # one constant delay of 100 ms, seen from a machine that is busy with others


@pytest.fixture
def handshakes(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """What the next handshakes take, milliseconds; None is one that failed."""
    waiting: list[float | None] = []

    def found() -> SimpleNamespace:
        answers: Iterator[float | None] = iter(waiting)
        return SimpleNamespace(resolve=lambda name: [name], connect_ms=lambda server, timeout_s: next(answers))

    monkeypatch.setattr(probes, "_targets", found)
    return waiting


def test_round_trip_is_the_delay_and_not_what_a_busy_machine_adds(handshakes: list[float | None]) -> None:
    handshakes.extend(BUSY)
    assert probes.round_trip_ms("mongos1", samples=5) == 100.4


def test_round_trip_at_a_percentile(handshakes: list[float | None]) -> None:
    handshakes.extend(BUSY)
    assert probes.round_trip_ms("mongos1", samples=5, percentile=50) == 113.85


def test_round_trip_says_that_nobody_answers(handshakes: list[float | None]) -> None:
    handshakes.extend([None, None])
    assert probes.round_trip_ms("mongos1", samples=2) == -1


class Servers:
    """What every server would answer."""

    def __init__(self, targets: Targets) -> None:
        self.hellos: dict[str, dict[str, Any] | None] = {server.name: {"secondary": True} for server in targets.servers}
        for name in ("configsvr1", "shard1-1", "shard2-1"):
            self.hellos[name] = {"isWritablePrimary": True, "electionId": 1}
        self.hellos["mongos1"] = {"msg": "isdbgrid"}
        self.reachable: set[str] = set()
        self.status: dict[str, Any] | None = None
        self._names = {server.address: server.name for server in targets.servers}

    def hello(self, address: str, timeout_s: float) -> dict[str, Any] | None:
        return self.hellos[self._names[address]]

    def command(self, address: str, command: Any, timeout_s: float) -> dict[str, Any] | None:
        return self.status

    def connect_ms(self, address: str, timeout_s: float) -> float | None:
        return 1.0 if self._names[address] in self.reachable else None


@pytest.fixture
def servers(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """A whole cluster, as its servers tell it."""
    made = Servers(targets)
    fresh = Targets(targets.state)  # the fixture's own knows its primaries by itself
    fresh.access = made
    monkeypatch.setattr(probes, "_targets", lambda: fresh)
    monkeypatch.setenv("SHARDMART_STATE", str(targets.state.folder))
    return made


def test_whole_cluster_has_one_primary_in_every_set(servers: Servers) -> None:
    assert probes.every_set_has_one_primary(wait_s=0) is True


@pytest.mark.parametrize(
    ("server", "answer"),
    [
        ("shard1-1", {"secondary": True}),  # no primary
        ("shard1-2", {"isWritablePrimary": True}),  # two of them
        ("shard2-3", {"isWritablePrimary": False, "secondary": False}),  # starting up, or rolling back
        ("configsvr2", None),
        ("mongos1", None),
    ],
)
def test_cluster_is_not_whole_when(servers: Servers, server: str, answer: dict[str, Any] | None) -> None:
    servers.hellos[server] = answer
    assert probes.every_set_has_one_primary(wait_s=0) is False


def test_primary_is_the_one_with_the_newest_election(servers: Servers) -> None:
    servers.hellos["shard1-1"] = {"isWritablePrimary": True, "electionId": "a1"}
    servers.hellos["shard1-3"] = {"isWritablePrimary": True, "electionId": "a2"}
    assert probes.primary_of("shard1ReplSet") == "shard1-3"
    servers.hellos["shard1-1"] = servers.hellos["shard1-3"] = {"secondary": True}
    assert probes.primary_of("shard1ReplSet") is None


def test_unreachable_is_said_only_when_none_can_be_reached(servers: Servers) -> None:
    assert probes.is_unreachable("shard1-1,shard1-2") is True
    servers.reachable = {"shard1-2"}
    assert probes.is_unreachable("shard1-1,shard1-2") is False


def test_lag_is_of_the_slowest_secondary(servers: Servers) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    servers.status = {
        "members": [
            {"stateStr": "PRIMARY", "optimeDate": at},
            {"stateStr": "SECONDARY", "optimeDate": at - timedelta(seconds=2)},
            {"stateStr": "SECONDARY", "optimeDate": at - timedelta(seconds=7)},
            {"stateStr": "(not reachable/healthy)", "optimeDate": datetime(1970, 1, 1, tzinfo=UTC)},
        ]
    }
    assert probes.replication_lag_s("shard1ReplSet") == 7
    servers.status = None
    assert probes.replication_lag_s("shard1ReplSet") == -1


def test_round_trip_between_members_is_what_heartbeats_measured(servers: Servers, targets: Targets) -> None:
    servers.status = {"members": [{"name": targets.server("shard1-2").address, "pingMs": 180}]}
    assert probes.round_trip_ms("shard1-2", source="shard1-1") == 180
    assert probes.round_trip_ms("shard1-3", source="shard1-1") == -1


@pytest.fixture
def experiment(targets: Targets, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> RunningExperiment:
    """An experiment that began a minute ago."""
    monkeypatch.setattr(probes.time, "time", lambda: 1060.0)
    made = RunningExperiment(targets.state.folder / "run", "x", 1000.0)
    made.ledger.mkdir(parents=True)
    running.begin(targets.state, made)
    return made


def test_elections_are_counted_since_the_experiment_began(experiment: RunningExperiment, targets: Targets) -> None:
    for at, name in ((999.0, "shard1ReplSet"), (1010.0, "shard1ReplSet"), (1055.0, "configReplSet")):
        records.note(targets.state, "election", at, set=name, primary="x", before="y")
    records.note(targets.state, "fault-ended", 1056.0, set="shard1ReplSet")
    assert probes.elections() == 2
    assert probes.elections("shard1ReplSet") == 1
    assert probes.elections("config") == 1
    assert probes.elections(since_s=10) == 1
    assert probes.primary_changed("shard1ReplSet", wait_s=0) is True
    assert probes.primary_changed("shard2ReplSet", wait_s=0) is False


def fault(targets: Targets, name: str, **details: Any) -> None:
    given: dict[str, Any] = {"status": "active", "parameters": {}, "begun": 1010.0} | details
    kind = {"kill": "kill", "pause": "pause"}.get(name, "nothing")
    number = len(records.records(targets.state))
    records.write(targets.state, Record(f"{number:03}", kind, name, ["shard1-1"], 60, **given))


def test_faults_are_counted_since_the_experiment_began(experiment: RunningExperiment, targets: Targets) -> None:
    fault(targets, "kill", begun=999.0)
    fault(targets, "kill", begun=1000.0)
    fault(targets, "kill", begun=1001.0)
    fault(targets, "kill", begun=None, status="refused")
    assert probes.faults_begun() == 2


def test_proof_is_of_the_last_fault_of_a_name(experiment: RunningExperiment, targets: Targets) -> None:
    with pytest.raises(ChaosError, match="no fault 'partition' was ever started"):
        probes.packets_dropped()
    fault(targets, "partition", evidence={"dropped": 3})
    assert probes.packets_dropped() == 3
    fault(targets, "partition", evidence={})
    assert probes.packets_dropped() == 0
    fault(targets, "step-down-storm", evidence={"step_downs": 4})
    fault(targets, "move-chunks", evidence={"moved": 5})
    fault(targets, "slow-disk", parameters={"write_ms": 540.5})
    assert (probes.step_downs(), probes.chunks_moved(), probes.durable_write_ms()) == (4, 5, 540.5)


@pytest.mark.parametrize(
    ("status", "stopped", "answers", "proved"),
    [
        ("active", True, False, True),
        ("active", True, True, False),
        ("active", False, False, False),
        ("ended", True, False, False),
    ],
)
def test_pause_is_proved_by_processes_that_are_stopped_and_silent(
    experiment: RunningExperiment,
    targets: Targets,
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    stopped: bool,
    answers: bool,
    proved: bool,
) -> None:
    fault(targets, "pause", status=status)
    monkeypatch.setattr(Pause, "is_stopped", lambda self: stopped)
    servers.hellos["shard1-1"] = {"secondary": True} if answers else None
    assert probes.is_stopped() is proved


def test_fault_that_kills_nothing_proves_no_kill(experiment: RunningExperiment, targets: Targets) -> None:
    fault(targets, "nothing")
    with pytest.raises(ChaosError, match="kills nothing"):
        probes.is_gone("nothing", wait_s=0)


def window(experiment: RunningExperiment, at: float, ok: int, bad: int = 0, p99: float = 1.0) -> None:
    counts = {"at": at, "ok": ok, "failed": bad, "unknown": bad, "writes_ok": ok}
    line = json.dumps(counts | {"p50_ms": p99 / 2, "p95_ms": p99, "p99_ms": p99, "max_ms": p99 * 2})
    with (experiment.ledger / METRICS_FILE).open("a") as file:
        file.write(line + "\n")


def test_workload_is_measured_over_its_last_seconds(experiment: RunningExperiment) -> None:
    window(experiment, 1053.9, 1000, p99=99999)
    window(experiment, 1058.0, 30, bad=5, p99=40.0)
    window(experiment, 1059.0, 10, p99=90.0)
    window(experiment, 1060.0, 0, p99=700.0)  # nothing was acknowledged: there is no latency
    assert probes.ledger_throughput() == pytest.approx(13.3)
    assert probes.ledger_error_rate() == 0.2
    assert (probes.ledger_latency_ms(), probes.ledger_latency_ms(50), probes.ledger_latency_ms(100)) == (90, 45, 180)


def test_workload_that_says_nothing_has_no_latency(experiment: RunningExperiment) -> None:
    assert (probes.ledger_throughput(), probes.ledger_error_rate(), probes.ledger_latency_ms()) == (0, 0, -1)


def beats(experiment: RunningExperiment, **acknowledged: list[float]) -> None:
    lines = [
        {"shard": f"{shard}ReplSet", "sent": at, "answered": at, "ok": True}
        for shard, moments in acknowledged.items()
        for at in moments
    ]
    (experiment.folder / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_time_without_writes_is_of_the_worst_shard_since_the_first_fault(
    experiment: RunningExperiment, targets: Targets
) -> None:
    beats(experiment, shard1=[1001, 1011, 1015, 1020], shard2=[1001, 1012, 1018.5, 1020])
    with pytest.raises(ChaosError, match="no fault has begun"):
        probes.time_without_writes_s()
    fault(targets, "kill", begun=1011.5)
    assert probes.time_without_writes_s() == 11.0  # shard 2, from 1001 to 1012
    assert probes.time_without_writes_s("shard1ReplSet") == 5.0


def test_every_shard_has_to_be_writable_again(experiment: RunningExperiment) -> None:
    beats(experiment, shard1=[1059.5], shard2=[1050])
    assert probes.becomes_writable("shard1ReplSet", wait_s=0) is True
    assert probes.becomes_writable(wait_s=0) is False
    beats(experiment, shard1=[1059.5], shard2=[1059.1])
    assert probes.becomes_writable(wait_s=0) is True
