"""The process that holds one fault: notes what it will break, breaks it, keeps it until its deadline, ends it.

`python -m shardmart.chaos.lifecycle.guard --state FOLDER ID`, started in a session of its own.  SIGTERM ends the fault
early.  Killed with -9 it leaves the rest to the kernel (network faults), to the pods that hold faults, and to
`shardmart chaos heal`: the record says what to undo from before the fault begins.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from pymongo.errors import PyMongoError

from shardmart.platforms.state import State

from ..errors import ChaosError
from ..faults.fault import Fault
from ..targets.selectors import Targets
from . import records
from .records import ACTIVE, BEGINNING, ENDED, REFUSED, Record

DONE, NOT_BEGUN = 0, 2


def guard(state: State, fault_id: str, stop: threading.Event) -> int:
    """Hold a fault until its time is over or `stop`; DONE, or NOT_BEGUN when it was refused."""
    record = records.read(state, fault_id)
    try:
        fault = record.fault(Targets(state))
        fault.prepare()
    except Exception as error:  # whatever a library raises, the fault is refused with its words
        return _refuse(state, record, error)
    if stop.is_set():
        return _refuse(state, record, ChaosError("healed before it began"))
    record.status, record.guard = BEGINNING, os.getpid()
    records.write(state, record)
    try:
        fault.begin()
    except Exception as error:
        try:
            fault.end()
        except Exception as left:  # what was broken by half stays in the record, to be healed
            print(f"{error}; then {left}", file=sys.stderr)
            return NOT_BEGUN
        return _refuse(state, record, error)
    deadline = time.monotonic() + record.duration_s
    record.status, record.begun = ACTIVE, fault.begun or time.time()
    records.write(state, record)
    records.note_started(state, record)
    _hold(state, record, fault, stop, deadline)
    return DONE


def _refuse(state: State, record: Record, error: Exception) -> int:
    record.status, record.reason = REFUSED, " ".join(str(error).split())[:500]
    records.write(state, record)
    return NOT_BEGUN


def _hold(state: State, record: Record, fault: Fault, stop: threading.Event, deadline: float) -> None:
    try:
        fault.hold(stop, deadline)
    except (ChaosError, PyMongoError) as error:
        record.reason = f"ended early: {error}"
    finally:
        fault.end()
        record.evidence = fault.evidence()
        record.status, record.ended = ENDED, time.time()
        record.reason = record.reason or ("healed" if stop.is_set() else "deadline")
        records.write(state, record)
        records.note_ended(state, record)


def main() -> int:
    """Hold the fault named on the command line; exit 0, or 2 if it could not begin."""
    parser = argparse.ArgumentParser(prog="shardmart.chaos.lifecycle.guard", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("id")
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return guard(State.find(arguments.state), arguments.id, stop)


if __name__ == "__main__":
    raise SystemExit(main())
