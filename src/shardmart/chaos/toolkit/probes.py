"""Chaos Toolkit probes: what is measured before, during and after a fault, each fit for a tolerance.

A probe whose name begins with "proof" says whether the fault is real; `toolkit.controls` calls the experiment's fault
"no fault" when it misses its tolerance.  Probes only read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from shardmart.cluster.description import Role
from shardmart.ledger.metrics import Window, read_windows
from shardmart.ledger.metrics import percentile as nearest_rank
from shardmart.platforms.state import State

from ..errors import ChaosError
from ..faults.database import Connections
from ..lifecycle import records
from ..lifecycle.records import ACTIVE, Record
from ..lifecycle.running import current_run
from ..observation import heartbeats
from ..targets.selectors import Targets

__all__ = [
    "becomes_writable",
    "chunks_moved",
    "connections_open",
    "durable_write_ms",
    "elections",
    "every_set_has_one_primary",
    "faults_begun",
    "is_drained",
    "is_gone",
    "is_stopped",
    "is_unreachable",
    "is_writable",
    "ledger_error_rate",
    "ledger_latency_ms",
    "ledger_throughput",
    "packets_dropped",
    "primary_changed",
    "primary_of",
    "replication_lag_s",
    "round_trip_ms",
    "step_downs",
    "time_without_writes_s",
]


def _targets() -> Targets:
    return Targets(State.find())


def _await(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.05)
    return True


def every_set_has_one_primary(wait_s: float = 60) -> bool:
    """Whether every member answers and every set has exactly one primary, within `wait_s`."""
    targets = _targets()

    def whole() -> bool:
        for name in targets.set_names:
            answers = [targets.hello(member) for member in targets.members(name)]
            if sum(bool(a and a.get("isWritablePrimary")) for a in answers) != 1:
                return False
            if not all(a and (a.get("isWritablePrimary") or a.get("secondary")) for a in answers):
                return False
        return all(targets.hello(server) for server in targets.servers if server.role is Role.ROUTER)

    return _await(whole, float(wait_s))


def primary_of(set_name: str) -> str | None:
    """The name of a set's primary, or None."""
    primary = _targets().primary(set_name)
    return primary.name if primary else None


def round_trip_ms(target: str = "routers", source: str | None = None, samples: int = 20, percentile: int = 0) -> float:
    """The round trip to `target` in milliseconds: of `samples` the quickest, or a percentile; -1 when nobody answers.

    A busy machine adds to a handshake and never takes from it, so the quickest shows a constant delay best; a jittered
    one is seen at percentile 50.  From here it is a TCP handshake.  From a member (`source`) it is what that one's
    heartbeats measure (`pingMs` of replSetGetStatus: whole milliseconds, smoothed over some ten seconds).
    """
    targets = _targets()
    server = targets.resolve(target)[0]
    if source is not None:
        status = targets.command(targets.resolve(source)[0], {"replSetGetStatus": 1}, 5)
        pings = [m.get("pingMs", -1) for m in (status or {}).get("members", []) if m["name"] == server.address]
        return float(pings[0]) if pings else -1.0
    measured = [ms for _ in range(int(samples)) if (ms := targets.connect_ms(server, 15)) is not None]
    return round(nearest_rank(sorted(measured), float(percentile) / 100), 2) if measured else -1.0


def is_unreachable(targets: str, timeout_s: float = 2) -> bool:
    """Whether none of the targets, or `fault:NAME`, what the last fault of this name hit, accepts a connection."""
    known = _targets()
    servers = known.resolve(records.named(known.state, targets))
    return all(known.connect_ms(server, float(timeout_s)) is None for server in servers)


def _last(name: str) -> Record:
    return records.last(State.find(), name)


def is_gone(fault: str = "kill", wait_s: float = 20) -> bool:
    """Whether the processes that the last fault of this name killed run no more, within `wait_s`.

    For pods that takes a moment: the kubelet looks at its containers once a second or so, and tells the API after that.
    """
    return _await(_last(fault).fault(_targets()).is_gone, float(wait_s))


def is_stopped(fault: str = "pause") -> bool:
    """Whether the processes that the last fault of this name paused are in state T, and do not answer."""
    targets, record = _targets(), _last(fault)
    made = record.fault(targets)
    if record.status != ACTIVE or not made.is_stopped():
        return False
    return all(targets.hello(server, timeout_seconds=0.5) is None for server in made.servers)


def is_drained(wait_s: float = 180) -> bool:
    """Whether the node of the last drain is cordoned and runs no server, within `wait_s`."""
    return _await(_last("drain-node").fault(_targets()).is_drained, float(wait_s))


def packets_dropped(fault: str = "partition") -> int:
    """How many packets the last fault of this name has dropped; known once it has ended."""
    return int(_last(fault).evidence.get("dropped", 0))


def durable_write_ms(fault: str = "slow-disk") -> float:
    """How long a small durable write took beside the targets of the last fault of this name, milliseconds."""
    return float(_last(fault).parameters["write_ms"])


def step_downs(fault: str = "step-down-storm") -> int:
    """How many primaries obeyed the last storm; known once it has ended."""
    return int(_last(fault).evidence.get("step_downs", 0))


def chunks_moved(fault: str = "move-chunks") -> int:
    """How many chunks the last fault of this name moved; known once it has ended."""
    return int(_last(fault).evidence.get("moved", 0))


def faults_begun() -> int:
    """How many faults have begun since the experiment did."""
    started = current_run().started
    return sum(1 for record in records.records(State.find()) if record.begun and record.begun >= started)


def connections_open(target: str = "routers") -> int:
    """How many established TCP connections lead to `target` now, those it has not accepted yet included.

    For pods: how many the last fill-connections opened.
    """
    targets = _targets()
    return Connections(targets, targets.resolve(target), 0, _last("fill-connections").parameters).count()


def elections(set_name: str | None = None, since_s: float | None = None) -> int:
    """Elections seen since the experiment began (or in the last `since_s` seconds), in one set or in all."""
    since = time.time() - float(since_s) if since_s else current_run().started
    targets = _targets()
    wanted = targets.set_named(set_name) if set_name else None
    return sum(
        event["event"] == "election" and wanted in {None, event["set"]}
        for event in records.events(State.find(), since, time.time())
    )


def primary_changed(set_name: str, wait_s: float = 30) -> bool:
    """Whether the set had an election since the experiment began, within `wait_s`."""
    return _await(lambda: elections(set_name) > 0, float(wait_s))


def replication_lag_s(set_name: str) -> float:
    """Seconds the slowest answering secondary is behind its primary; -1 without a primary."""
    targets = _targets()
    primary = targets.primary(set_name)
    status = primary and targets.command(primary, {"replSetGetStatus": 1}, 5)
    if not status:
        return -1.0
    times = {m["stateStr"]: m["optimeDate"] for m in status["members"] if m["stateStr"] == "PRIMARY"}
    behind = [
        (times["PRIMARY"] - m["optimeDate"]).total_seconds()
        for m in status["members"]
        if m["stateStr"] == "SECONDARY" and "PRIMARY" in times
    ]
    return max(behind, default=0.0)


def _windows(window_s: float) -> list[Window]:
    return read_windows(current_run().ledger, time.time() - float(window_s) - 1)


def ledger_throughput(window_s: float = 5) -> float:
    """Acknowledged operations per second of the running workload."""
    windows = _windows(window_s)
    return round(sum(w.ok for w in windows) / max(1, len(windows)), 1)


def ledger_error_rate(window_s: float = 5) -> float:
    """The share of operations that failed or got no answer."""
    windows = _windows(window_s)
    bad = sum(w.failed + w.unknown for w in windows)
    return round(bad / max(1, bad + sum(w.ok for w in windows)), 4)


def ledger_latency_ms(percentile: int = 99, window_s: float = 5) -> float:
    """The worst second's latency percentile (50, 95, 99 or 100) of acknowledged operations."""
    column = {50: "p50_ms", 95: "p95_ms", 99: "p99_ms", 100: "max_ms"}[int(percentile)]
    return max((float(getattr(w, column)) for w in _windows(window_s) if w.ok), default=-1.0)


def is_writable(shard: str, within_s: float = 3) -> bool:
    """Whether a client's write to `shard` through the router was acknowledged in the last `within_s` seconds."""
    return heartbeats.is_writable(current_run().folder, _targets().set_named(shard), float(within_s))


def becomes_writable(shard: str | None = None, wait_s: float = 60) -> bool:
    """Whether `shard` (or every shard) acknowledges writes again within `wait_s`."""
    shards = [shard] if shard else [replica_set.name for replica_set in _targets().cluster.shards]
    return _await(lambda: all(is_writable(name, 1) for name in shards), float(wait_s))


def time_without_writes_s(shard: str | None = None) -> float:
    """The longest time between two acknowledged writes to `shard` (or to the worst one) since the first fault began.

    Measured by a heartbeat through the router every 100 ms (`observation.watcher`).
    """
    run = current_run()
    begun = run.first_fault()
    if begun is None:
        raise ChaosError("no fault has begun in this experiment")
    found = heartbeats.outages(run.folder, begun)
    wanted = [_targets().set_named(shard)] if shard else list(found)
    return round(max((found[name].seconds for name in wanted if name in found), default=-1.0), 2)
