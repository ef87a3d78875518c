"""The end of faults: awaited, asked for, or made from the record alone when the guard is dead."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial

import psutil

from shardmart.cluster.host.processes import has_ended, send_signal
from shardmart.errors import ShardmartError
from shardmart.platforms.state import State

from ..errors import ChaosError
from ..targets.selectors import Targets
from . import records
from .records import ENDED, REFUSED, STARTING, Record

END_SECONDS = 90


def await_true(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition; whether it came in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
    return True


def guard_of(record: Record) -> psutil.Process | None:
    """The process that holds a fault, if it lives; one that has not noted its number yet is known by its arguments."""
    candidates = psutil.process_iter() if record.guard is None else _process(record.guard)
    for process in candidates:
        try:
            # As `register.start_guard` starts it: whoever only looks for the identifier is not it.
            words = process.cmdline()
            if process.pid != os.getpid() and words[-1:] == [record.id] and "--state" in words:
                return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.Error:
            continue
    return None


def _process(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid)]
    except psutil.Error:
        return []


def wait_until_ended(state: State, seconds: float) -> None:
    """Wait until every fault has ended by itself; ChaosError that names those still active at the deadline."""
    if not await_true(lambda: not any(guard_of(r) for r in records.active(state)), seconds):
        names = ", ".join(record.id for record in records.active(state))
        raise ChaosError(f"waited {seconds:g} s for {names} to end")
    heal(state)


def heal(state: State) -> list[str]:
    """End every fault now, also those whose guard was killed; returns their ids.  Safe to call at any time.

    Raises ChaosError that names each one that could not be undone, after all others were.
    """
    ended, left = [], []
    for record in records.active(state):
        if guard := guard_of(record):
            send_signal(guard, signal.SIGTERM)
            await_true(partial(has_ended, guard), END_SECONDS)
        try:
            if record.id in {still.id for still in records.active(state)}:
                finish(state, record.id, "healed after its guard had died")
        except ShardmartError as error:
            left.append(f"{record.id} could not be ended: {error}")
        else:
            ended.append(record.id)
    if left:
        raise ChaosError("; ".join(left))
    return ended


def finish(state: State, fault_id: str, reason: str) -> None:
    """End a fault from its record alone: its guard is dead.  What cannot be undone raises, and stays to be healed."""
    record = records.read(state, fault_id)
    record.ended, record.reason = time.time(), reason
    if record.status == STARTING:  # its guard had not noted what to undo, so it had not begun
        record.status = REFUSED
        records.write(state, record)
        return
    record.fault(Targets(state)).end()
    record.status = ENDED
    records.write(state, record)
    records.note_ended(state, record)
