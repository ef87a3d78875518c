"""The journal: one append-only file per client, two lines per operation, complete after `kill -9` of the client.

Every line goes to the kernel in one
write(2) before the next step is taken, so a killed client loses nothing; fsync (against loss of power) follows the
policy asked for.  A client does one operation at a time, so an `invoke` without an end means: outcome unknown.
It never interprets an operation.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shardmart.errors import UNREACHABLE, ShardmartError

Outcome = Literal["ok", "failed", "unknown"]

RUN_FILE = "run.json"
CLIENT_BITS = 40
"""A token is client << CLIENT_BITS | operation number: unique in a run, and an int64 for the server."""


class JournalError(ShardmartError):
    """The folder is no journal, or a line in the middle of a file cannot be read; the message names it."""

    exit_code = UNREACHABLE


def token(client: int, number: int) -> int:
    """The number that marks every effect of operation `number` of `client` in the database."""
    return client << CLIENT_BITS | number


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation as the client saw it.  Times in nanoseconds of the monotonic clock; `end` None = never ended."""

    client: int
    number: int
    function: str
    value: Any
    start: int
    end: int | None
    outcome: Outcome
    result: Any = None
    error: str | None = None

    @property
    def token(self) -> int:
        """What marks this operation's effects in the database."""
        return token(self.client, self.number)

    def describe(self) -> str:
        """One line for people: who, what, when (seconds of the monotonic clock), how it ended."""
        end = f"{self.end / 1e9:.3f}" if self.end else "…"
        tail = f" = {self.result!r}" if self.outcome == "ok" else f" ({self.error or 'no answer'})"
        return (
            f"client {self.client} operation {self.number} [{self.start / 1e9:.3f}-{end}] "
            f"{self.function} {json.dumps(self.value)} {self.outcome}{tail}"
        )


@dataclass(frozen=True)
class Run:
    """What `run.json` says of a run: enough to read its journals and to do it again."""

    id: str
    workloads: tuple[str, ...]
    database: str
    clients: int
    seed: int
    write_concern: str
    started_wall: float
    started_monotonic_ns: int
    options: dict[str, Any] = field(default_factory=dict)

    def wall(self, monotonic_ns: int) -> float:
        """The wall-clock time (seconds since 1970) of a journal's time."""
        return self.started_wall + (monotonic_ns - self.started_monotonic_ns) / 1e9

    def write(self, folder: Path) -> None:
        """Write `run.json`; JournalError if the folder already holds a run."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / RUN_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            raise JournalError(f"{folder} already holds a run: a journal is written once; give a new folder") from None
        with os.fdopen(descriptor, "w") as file:
            json.dump(self.__dict__ | {"format": 1}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read `run.json` of `folder`."""
        try:
            document = json.loads((folder / RUN_FILE).read_text())
        except FileNotFoundError:
            raise JournalError(f"{folder} holds no journal ({RUN_FILE} is missing)") from None
        except json.JSONDecodeError as error:
            raise JournalError(f"{folder / RUN_FILE} is not JSON: {error}") from None
        if document.pop("format", None) != 1:
            raise JournalError(f"{folder / RUN_FILE} has a format this version does not read")
        document["workloads"] = tuple(document["workloads"])
        return cls(**document)


class JournalWriter:
    """The journal of one client of one workload.  Used by one thread, besides `sync`."""

    def __init__(self, folder: Path, workload: str, client: int, *, sync_every_operation: bool = False) -> None:
        self.path = journal_path(folder, workload, client)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._sync_every_operation = sync_every_operation
        self._dirty = False
        self.number = -1

    def _line(self, record: dict[str, Any]) -> None:
        data = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        written = os.write(self._descriptor, data)
        if written != len(data):  # A full disk: half a line must not be followed by another.
            raise JournalError(f"{self.path}: the disk is full, {written} of {len(data)} bytes written")
        self._dirty = True

    def invoke(self, function: str, value: Any) -> int:
        """Record that an operation is about to be sent; returns its start time."""
        self.number += 1
        start = time.monotonic_ns()
        self._line({"n": self.number, "e": "invoke", "t": start, "f": function, "v": value})
        return start

    def end(self, outcome: Outcome, result: Any = None, error: str | None = None) -> int:
        """Record how the operation ended; returns the time."""
        end = time.monotonic_ns()
        record: dict[str, Any] = {"n": self.number, "e": outcome, "t": end}
        if result is not None:
            record["r"] = result
        if error is not None:
            record["why"] = error
        self._line(record)
        if self._sync_every_operation:
            self.sync()
        return end

    def sync(self) -> None:
        """Make what was written so far survive a loss of power."""
        if self._dirty:
            self._dirty = False
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        os.close(self._descriptor)


@contextlib.contextmanager
def periodic_sync(writers: list[JournalWriter], interval_seconds: float) -> Iterator[None]:
    """Sync every writer each `interval_seconds` while the block runs: group commit, one fsync for many operations."""
    done = threading.Event()

    def loop() -> None:
        while not done.wait(interval_seconds):
            for writer in writers:
                writer.sync()

    thread = threading.Thread(target=loop, name="journal-sync", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def journal_path(folder: Path, workload: str, client: int) -> Path:
    """Where the journal of `client` of `workload` lies."""
    return folder / f"{workload}-{client:04d}.jsonl"


def journals(folder: Path, workload: str) -> list[Path]:
    """Every journal of `workload` in `folder`, in the order of clients."""
    return sorted(folder.glob(f"{workload}-[0-9][0-9][0-9][0-9].jsonl"))


def read(path: Path) -> Iterator[Operation]:
    """The operations of one journal, in order, one at a time (memory stays flat).

    A torn last line (the machine died in the write) is an operation without an end.  Raises JournalError on anything
    else that cannot be read: a journal that was changed is no evidence.
    """
    client = int(path.stem.rsplit("-", 1)[1])
    pending: dict[str, Any] | None = None
    loads = json.loads
    with path.open("rb") as file:
        for line_number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                record = loads(line)
                event, number = record["e"], record["n"]
            except (ValueError, KeyError, TypeError):
                raise JournalError(f"{path.name} line {line_number} is not a journal record") from None
            if event == "invoke":
                if pending is not None:
                    yield _operation(client, pending, None)
                pending = record
            elif pending is None or pending["n"] != number or event not in {"ok", "failed", "unknown"}:
                raise JournalError(f"{path.name} line {line_number}: `{event}` of operation {number} has no invoke")
            else:
                yield _operation(client, pending, record)
                pending = None
    if pending is not None:
        yield _operation(client, pending, None)


def _operation(client: int, invoke: dict[str, Any], end: dict[str, Any] | None) -> Operation:
    if end is None:
        return Operation(client, invoke["n"], invoke["f"], invoke["v"], invoke["t"], None, "unknown")
    return Operation(
        client, invoke["n"], invoke["f"], invoke["v"], invoke["t"], end["t"], end["e"], end.get("r"), end.get("why")
    )


def read_all(folder: Path, workload: str) -> Iterator[Operation]:
    """The operations of every client of `workload`, client after client."""
    for path in journals(folder, workload):
        yield from read(path)
