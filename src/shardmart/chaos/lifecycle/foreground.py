"""A program that cleans up when it is interrupted, run to its end: a signal to us becomes one SIGINT to it.

`subprocess.run` gives a child a quarter of a second after Ctrl-C and then kills it; an experiment heals and has the
ledger checked in that time. It never outlives us by a second signal: that one kills it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_to_its_end(command: Sequence[str], ending: str) -> tuple[int, bool]:
    """Exit code of `command`, and whether we were told to stop meanwhile; `ending` is what it does then, for a person.

    It is in a process group of its own: a terminal sends Ctrl-C to every process of its group, and two would be one too
    many for a program that cleans up after the first.
    """
    stopped = False
    child: subprocess.Popen[bytes] | None = None

    def stop(_number: int, _frame: Any) -> None:
        nonlocal stopped
        again, stopped = stopped, True
        if not again:
            print(f"\ninterrupted: {ending}; once more ends it at once", file=sys.stderr, flush=True)
        if child:
            child.send_signal(signal.SIGKILL if again else signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        with subprocess.Popen(command, process_group=0) as started:  # noqa: S603
            child = started
            if stopped:  # before it was there to be told
                child.send_signal(signal.SIGINT)
            return child.wait(), stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
