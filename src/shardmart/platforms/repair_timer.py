"""The timer of the comparing repair as a process of this machine, beside the region servers (docs/decisions/075).

It is started and stopped, never looked into: what it did, the nodes know (`shardmart fragments status`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..cluster.host.processes import Process, note_pid, refuse_ended, start, stop
from ..cluster.protocol.connection import Deadline

NAME = "fragments-repair"


def process(state: Path, every_seconds: float) -> Process:
    """The process; `shardmart fragments` finds the nodes in the state folder."""
    state = state.absolute()
    lock = str(state / "run" / f"{NAME}.lock")
    words = ("repair", f"--every={every_seconds:g}", f"--configuration={state / 'fragments.json'}", "--lock", lock)
    return Process(
        name=NAME,
        command=(sys.executable, "-m", "shardmart.fragments", *words),
        host="127.0.0.1",
        port=0,
        marker=lock,
        pid_file=state / "run" / f"{NAME}.pid",
        log_file=state / "logs" / f"{NAME}.log",
    )


def converge(state: Path, every_seconds: float, deadline: Deadline, *, check_mode: bool = False) -> list[str]:
    """Have it run, every so many seconds (0: not at all), and say what was done.  Raises ClusterError."""
    wanted = process(state, every_seconds)
    live = wanted.running()
    if live and not every_seconds:
        return (
            [f"stop {NAME}"]
            if check_mode
            else [f"stop {name}" for name in stop([wanted], wait_seconds=deadline.remaining)]
        )
    if not every_seconds or (live and not wanted.arguments_change(live)):
        return []
    changes = [f"restart {NAME}: its arguments changed" if live else f"start {NAME}"]
    if not check_mode:
        stop([wanted], wait_seconds=deadline.remaining)
        refuse_ended(start([wanted]))
        note_pid(wanted)
    return changes
