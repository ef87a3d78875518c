"""The process that holds one fault: begins it, keeps it until its deadline, ends it.

`python -m shardmart.chaos.guard --state FOLDER ID`, started in a session of its own.  SIGTERM ends the fault early.
Killed with -9 it leaves the rest to the kernel (network faults) and to `shardmart chaos heal` (the record says what to
undo).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import threading
import time
from pathlib import Path

from pymongo.errors import PyMongoError

from shardmart.platforms.state import State

from . import register
from .errors import ChaosError
from .platforms import kinds
from .targets import Targets


def main() -> int:
    """Hold the fault named on the command line; exit 0, or 2 if it could not begin."""
    parser = argparse.ArgumentParser(prog="chaos.guard", description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("id")
    arguments = parser.parse_args()
    state = State.find(arguments.state)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    record = register.read(state, arguments.id)
    targets = Targets(state)
    servers = [targets.server(name) for name in record.targets]
    fault = kinds(targets)[record.kind](targets, servers, record.duration_s, record.parameters)
    record.guard = os.getpid()
    try:
        fault.begin()
    except Exception as error:  # whatever a library raises, the fault is refused with its words
        with contextlib.suppress(Exception):  # what made it impossible may make this impossible too
            fault.end()
        record.status, record.reason = "refused", " ".join(str(error).split())[:500]
        register.write(state, record)
        return 2
    deadline = time.monotonic() + record.duration_s
    record.status, record.begun = "active", fault.begun or time.time()
    register.write(state, record)
    register.note(
        state,
        "fault-started",
        record.begun,
        id=record.id,
        name=record.name,
        targets=record.targets,
        words=record.words(),
    )
    try:
        fault.hold(stop, deadline)
    except (ChaosError, PyMongoError) as error:
        record.reason = f"ended early: {error}"
    finally:
        fault.end()
        record.evidence = fault.evidence()
        record.status, record.ended = "ended", time.time()
        record.reason = record.reason or ("healed" if stop.is_set() else "deadline")
        register.write(state, record)
        register.note(
            state,
            "fault-ended",
            id=record.id,
            name=record.name,
            targets=record.targets,
            reason=record.reason,
            evidence=record.evidence,
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
