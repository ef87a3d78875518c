"""When a process has ended, as the kernel sees it."""

from __future__ import annotations

import platform
import subprocess
import sys

import psutil
import pytest

from shardmart.cluster.host.processes import has_ended

LEADER_LEAVES = """
import ctypes, os, sys, threading
def rest():
    print("goes on", flush=True)
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=rest).start()
ctypes.CDLL(None).syscall(60, 0)  # exit(2): of this thread, not of the process
"""


@pytest.mark.skipif(
    not (sys.platform == "linux" and platform.machine() == "x86_64"), reason="the number of a system call"
)
def test_zombie_whose_threads_go_on_has_not_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LEADER_LEAVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        assert running.stdin
        assert running.stdout.readline() == "goes on\n"
        process = psutil.Process(running.pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            assert running.poll() is None
        assert not has_ended(process)
        running.stdin.close()
        while process.num_threads() > 1:
            continue
        assert has_ended(process), "nobody has collected it, and nothing of it is left"


def test_process_that_is_collected_has_ended() -> None:
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(running.pid)
    assert not has_ended(process)
    running.communicate(b"\n")
    assert has_ended(process)
