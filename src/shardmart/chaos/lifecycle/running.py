"""The experiment that runs now: its folder, its ledger workload, and its first fault.

Probes, which Chaos Toolkit calls without context, find it here.  One experiment per state folder at a time: whoever
runs one holds a lock, which the kernel takes away with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from shardmart.platforms.state import State

from ..errors import BusyError, ChaosError
from .records import chaos_folder, records

_held: dict[Path, int] = {}
"""Descriptors of the locks that this process holds, by file."""


@dataclass(frozen=True)
class RunningExperiment:
    """Where an experiment keeps what it measures, and when it began (wall-clock seconds)."""

    folder: Path
    title: str
    started: float

    @property
    def ledger(self) -> Path:
        """The folder of the journals."""
        return self.folder / "ledger"

    def first_fault(self) -> float | None:
        """When the first fault of this experiment began (wall clock)."""
        begun = [r.begun for r in records(State.find()) if r.begun and r.begun >= self.started]
        return min(begun, default=None)


def _pointer(state: State) -> Path:
    return chaos_folder(state) / "running.json"


def _lock_file(state: State) -> Path:
    return chaos_folder(state) / "running.lock"


def hold_lock(state: State) -> None:
    """Be the one process that runs an experiment, to its end; BusyError while another is."""
    file = _lock_file(state)
    if file in _held:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BusyError(_words_of_busy(state)) from None
    _held[file] = descriptor


def refuse_second(state: State) -> None:
    """BusyError while another process runs an experiment with this state folder; changes nothing."""
    file = _lock_file(state)
    if file in _held or not file.exists():
        return
    with _opened(file) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(_words_of_busy(state)) from None


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _words_of_busy(state: State) -> str:
    title = "an experiment"
    with contextlib.suppress(OSError, ValueError, KeyError):
        title = f"the experiment {json.loads(_pointer(state).read_text())['title']!r}"
    return f"{title} runs with this state folder: wait for its end, or stop it (Ctrl-C in its terminal)"


def begin(state: State, experiment: RunningExperiment) -> None:
    """Make this the running experiment; BusyError while another runs."""
    hold_lock(state)
    _pointer(state).parent.mkdir(parents=True, exist_ok=True)
    _pointer(state).write_text(json.dumps(asdict(experiment) | {"folder": str(experiment.folder)}))


def end(state: State) -> None:
    """No experiment of this process runs any more; that of another goes on."""
    descriptor = _held.pop(_lock_file(state), None)
    if descriptor is None:
        return
    _pointer(state).unlink(missing_ok=True)
    os.close(descriptor)


def current_run() -> RunningExperiment:
    """The running experiment; ChaosError when there is none."""
    try:
        document = json.loads(_pointer(State.find()).read_text())
    except FileNotFoundError:
        raise ChaosError(
            "no experiment with a ledger runs: it needs the control shardmart.chaos.toolkit.controls"
        ) from None
    return RunningExperiment(Path(document["folder"]), document["title"], document["started"])
