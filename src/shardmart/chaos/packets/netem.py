"""The kernel's own delay, netem (tc-netem(8)), where there is one: no packet passes through Python.

Taken by `chaos.packets.injector` in a pod for what netem does in order: a fixed delay of everything that is sent.
Jitter, loss, peers and the other direction go through the queue, which keeps packets in order and names peers.
The laboratory's kernel has no netem: there it was only ever refused.
"""

from __future__ import annotations

import re
import shutil
import subprocess

LIMIT = 100_000
"""Packets that may wait; the default of 1000 would drop some at a delay of half a second."""


class NetemError(Exception):
    """The kernel or `tc` refused; the message is what it said."""


def _tc(*arguments: str) -> str:
    program = shutil.which("tc") or shutil.which("tc", path="/usr/sbin:/sbin")
    if program is None:
        raise NetemError("there is no program tc")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise NetemError(" ".join(done.stderr.split()) or f"tc ended with exit code {done.returncode}")
    return done.stdout


def fits(*, delay_ms: float, jitter_ms: float, loss: float, direction: str, everybody: bool) -> bool:
    """Whether netem does this fault as the queue would."""
    return everybody and direction == "egress" and delay_ms > 0 and not jitter_ms and not loss


def install(interface: str, delay_ms: float) -> None:
    """Delay everything sent through `interface`.  Raises NetemError, and then nothing was changed."""
    _tc("qdisc", "add", "dev", interface, "root", "netem", "delay", f"{delay_ms:g}ms", "limit", str(LIMIT))


def remove(interface: str) -> int:
    """Take it out; returns how many packets it had sent on, 0 when it was not there."""
    try:
        shown = _tc("-s", "qdisc", "show", "dev", interface, "root")
        if "qdisc netem" not in shown:
            return 0
        _tc("qdisc", "del", "dev", interface, "root")
    except NetemError:
        return 0
    found = re.search(r"Sent \d+ bytes (\d+) pkt", shown)
    return int(found[1]) if found else 0
