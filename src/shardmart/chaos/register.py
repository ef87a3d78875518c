"""The register of faults: one JSON record each, in `chaos/faults/` of the state folder, and one line per event.

Actions and the engine start faults here, `shardmart chaos heal` and the controls end them here.  A fault is held by
a process of its own (`chaos.guard`), in its own session: it ends at its deadline whatever happens to who asked for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from shardmart.cluster.errors import ClusterError
from shardmart.cluster.host.processes import has_ended
from shardmart.platforms.state import State

from . import platforms
from .errors import ChaosError
from .targets import Server, Targets
from .toolbox import last_line

EVENTS = "events.jsonl"
BEGIN_SECONDS = 60
SHOWN = {"delay_ms", "jitter_ms", "loss", "direction", "count", "interval_s", "namespace", "iops"}
"""Parameters that the description of a fault shows."""
END_SECONDS = 90
MAXIMUM_SECONDS = 3600


@dataclass
class Record:
    """What is known of a fault.  `status`: starting, active, ended, refused.  Times are wall-clock seconds."""

    id: str
    kind: str
    name: str
    targets: list[str]
    duration_s: float
    parameters: dict[str, Any] = field(default_factory=dict)
    status: str = "starting"
    guard: int | None = None
    begun: float | None = None
    ended: float | None = None
    reason: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def words(self) -> str:
        """The fault in one line."""
        details = {key: value for key, value in self.parameters.items() if key in SHOWN and value}
        listed = ", ".join(f"{key} {value}" for key, value in details.items())
        return f"{self.name} on {', '.join(self.targets)}{f' ({listed})' if listed else ''} for {self.duration_s:g} s"


def chaos_folder(state: State) -> Path:
    """Where everything about faults lies: `chaos` in the state folder, or `$SHARDMART_CHAOS` (a pod's state folder is
    read-only)."""
    return Path(os.environ.get("SHARDMART_CHAOS") or state.folder / "chaos")


def folder(state: State) -> Path:
    """Where records lie."""
    return chaos_folder(state) / "faults"


def events_file(state: State) -> Path:
    """Where events are appended."""
    return chaos_folder(state) / EVENTS


def path(state: State, fault_id: str) -> Path:
    """The record of one fault."""
    return folder(state) / f"{fault_id}.json"


def write(state: State, record: Record) -> None:
    """Replace the record in one step: a reader never sees half of it."""
    folder(state).mkdir(parents=True, exist_ok=True)
    partial = path(state, record.id).with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(asdict(record), indent=1))
    partial.replace(path(state, record.id))


def read(state: State, fault_id: str) -> Record:
    """The record of one fault."""
    return Record(**json.loads(path(state, fault_id).read_text()))


def records(state: State) -> list[Record]:
    """Every record, oldest first."""
    return sorted((Record(**json.loads(file.read_text())) for file in folder(state).glob("*.json")), key=lambda r: r.id)


def note(state: State, event: str, at: float | None = None, **details: object) -> None:
    """Append one event, in one write; `at` is wall-clock seconds, now if not given."""
    file = events_file(state)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        out.write(json.dumps({"at": at or time.time(), "event": event, **details}) + "\n")


def events(state: State, since: float, until: float) -> list[dict[str, Any]]:
    """The events between two wall-clock times."""
    return events_in(events_file(state), since, until)


def events_in(file: Path, since: float, until: float) -> list[dict[str, Any]]:
    """The events of a file between two wall-clock times; none if it is not there."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [event for line in lines if since <= (event := json.loads(line))["at"] <= until]


def guard_of(record: Record) -> psutil.Process | None:
    """The process that holds a fault, if it lives."""
    if record.guard is None:
        return None
    try:
        process = psutil.Process(record.guard)
        return process if record.id in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def _await(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True


def start(
    targets: Targets, kind: str, name: str, servers: Iterable[Server], duration_s: float, **parameters: object
) -> Record:
    """Start a fault and return once it is real.  Raises ChaosError if it cannot be had, or is refused by its guard."""
    chosen = list(servers)
    if not chosen:
        raise ChaosError(f"{name}: no server is selected")
    if not 0 < duration_s <= MAXIMUM_SECONDS:
        raise ChaosError(f"{name}: a fault lasts more than 0 and at most {MAXIMUM_SECONDS} s, not {duration_s:g}")
    if lacking := platforms.requirement(targets, kind):
        raise ChaosError(f"{name}: {lacking}")
    fault_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}-{uuid.uuid4().hex[:6]}"
    record = Record(
        id=fault_id,
        kind=kind,
        name=name,
        targets=[server.name for server in chosen],
        duration_s=duration_s,
        parameters=parameters | {"id": fault_id},
    )
    state = targets.state
    write(state, record)
    with path(state, record.id).with_suffix(".log").open("wb") as log:
        guard = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "shardmart.chaos.guard", "--state", str(state.folder), record.id],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=platforms.environment(targets),
            start_new_session=True,  # a Ctrl-C or kill of the experimenter must not reach the guard
        )

    def decided() -> bool:
        return read(state, record.id).status != "starting" or guard.poll() is not None

    decided_in_time = _await(decided, BEGIN_SECONDS)
    record = read(state, record.id)
    if record.status == "refused":
        raise ChaosError(f"{name}: {record.reason}")
    if not decided_in_time or record.status == "starting":
        died = guard.poll() is not None
        guard.kill()
        guard.wait()
        said = last_line(path(state, record.id).with_suffix(".log").read_bytes())
        why = f"its guard died: {said or 'without a word'}"
        if not died:
            why = f"its guard did not begin it within {BEGIN_SECONDS} s"
        with contextlib.suppress(ChaosError, ClusterError):
            finish(state, record.id, why)
        record = read(state, record.id)
        if record.status == "starting":  # it would count as active for ever
            record.status, record.reason = "refused", why
            write(state, record)
        raise ChaosError(f"{name}: {why}")
    return record


def active(state: State) -> list[Record]:
    """Faults that have begun and not ended."""
    return [record for record in records(state) if record.status in {"starting", "active"}]


def wait_until_ended(state: State, seconds: float) -> None:
    """Wait until every fault has ended by itself; ChaosError that names those still active at the deadline."""
    if not _await(lambda: not any(guard_of(r) for r in active(state)), seconds):
        names = ", ".join(record.id for record in active(state))
        raise ChaosError(f"waited {seconds:g} s for {names} to end")
    heal(state)


def heal(state: State) -> list[str]:
    """End every fault now, also those whose guard was killed; returns their ids.  Safe to call at any time."""
    ended = []
    for record in active(state):
        if guard := guard_of(record):
            guard.send_signal(signal.SIGTERM)
            _await(partial(has_ended, guard), END_SECONDS)
        if read(state, record.id).status in {"starting", "active"}:
            finish(state, record.id, "healed after its guard had died")
        ended.append(record.id)
    return ended


def finish(state: State, fault_id: str, reason: str) -> None:
    """End a fault from its record alone: its guard is dead."""
    record = read(state, fault_id)
    targets = Targets(state)
    servers = [targets.server(name) for name in record.targets]
    platforms.kinds(targets)[record.kind](targets, servers, record.duration_s, record.parameters).end()
    record.status, record.ended, record.reason = "ended", time.time(), reason
    write(state, record)
    note(state, "fault-ended", id=record.id, name=record.name, targets=record.targets, reason=reason)
