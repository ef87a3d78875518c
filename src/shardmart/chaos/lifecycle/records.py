"""What is written down of faults: one JSON record each in `chaos/faults/` of the state folder, one line per event."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shardmart.platforms.state import State

from ..errors import ChaosError
from ..faults.fault import Fault
from ..faults.kinds import kind_of
from ..targets.selectors import Targets

EVENTS = "events.jsonl"
SHOWN = {"delay_ms", "jitter_ms", "loss", "direction", "count", "interval_s", "namespace", "iops"}
"""Parameters that the description of a fault shows."""

STARTING, BEGINNING, ACTIVE, ENDED, REFUSED = "starting", "beginning", "active", "ended", "refused"
"""A fault is asked for; its guard has noted what will have to be undone, and breaks it now; it is real; it is over."""


@dataclass
class Record:
    """What is known of a fault.  `status` is one of the words above, times are wall-clock seconds."""

    id: str
    kind: str
    name: str
    targets: list[str]
    duration_s: float
    parameters: dict[str, Any] = field(default_factory=dict)
    status: str = STARTING
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

    def fault(self, targets: Targets) -> Fault:
        """The fault itself, in whatever state it is."""
        servers = [targets.server(name) for name in self.targets]
        return kind_of(targets, self.kind)(targets, servers, self.duration_s, self.parameters)


def chaos_folder(state: State) -> Path:
    """Where everything about faults lies: `chaos` in the state folder, or `$SHARDMART_CHAOS` (a pod's state folder is
    read-only)."""
    return Path(os.environ.get("SHARDMART_CHAOS") or state.folder / "chaos")


def folder(state: State) -> Path:
    """Where records lie."""
    return chaos_folder(state) / "faults"


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


def last(state: State, name: str) -> Record:
    """The last fault of this name.  ChaosError when none was ever started."""
    found = [record for record in records(state) if record.name == name]
    if not found:
        raise ChaosError(f"no fault {name!r} was ever started")
    return found[-1]


def named(state: State, selector: str | Iterable[str]) -> list[str]:
    """The words of a selector, `fault:NAME` replaced by the targets of the last fault of this name.  ChaosError."""
    found: list[str] = []
    for word in selector.split(",") if isinstance(selector, str) else selector:
        kind, _, name = word.strip().partition(":")
        found += last(state, name).targets if kind == "fault" else [word]
    return found


def active(state: State) -> list[Record]:
    """Faults that were asked for and have not ended."""
    return [record for record in records(state) if record.status in {STARTING, BEGINNING, ACTIVE}]


def events_file(state: State) -> Path:
    """Where events are appended."""
    return chaos_folder(state) / EVENTS


def note(state: State, event: str, at: float | None = None, **details: object) -> None:
    """Append one event, in one write; `at` is wall-clock seconds, now if not given."""
    file = events_file(state)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        out.write(json.dumps({"at": at or time.time(), "event": event, **details}) + "\n")


def note_started(state: State, record: Record) -> None:
    """The event that a fault is real since `record.begun`."""
    details: dict[str, Any] = {"id": record.id, "name": record.name, "targets": record.targets, "words": record.words()}
    note(state, "fault-started", record.begun, **details)


def note_ended(state: State, record: Record) -> None:
    """The event that a fault is over now."""
    details: dict[str, Any] = {"id": record.id, "name": record.name, "targets": record.targets, "reason": record.reason}
    note(state, "fault-ended", record.ended, **details, evidence=record.evidence)


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
