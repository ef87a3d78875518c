"""Processes that stand for others by their command lines, which the system shows.

Whoever starts one is told a moment earlier that it runs; on a busy machine that is long enough to look too soon.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

REST = "import sys; print('up', flush=True); sys.stdin.read()"
"""A program that says that it is up, and then does nothing."""


def rests(*words: str) -> subprocess.Popen[bytes]:
    """A live process with these words on its command line."""
    return up([sys.executable, "-c", REST, *words])


def up(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that runs REST with this command."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    return process
