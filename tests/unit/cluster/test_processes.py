"""Which process is a server of ours, and when one has ended, as the kernel sees it."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from shardmart.cluster.host.processes import Process, has_ended, note_pid, send_signal, stop

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


SERVE = "import sys; print('up', flush=True); sys.stdin.read()"


def server(folder: Path) -> Process:
    """A server that is told its log, as the development router is."""
    log = folder / "mongos1.log"
    command = (sys.executable, "-c", SERVE, "--logpath", str(log), "--port", "1")
    return Process("mongos1", command, "127.0.0.1", 1, str(log), folder / "mongos1.pid", log)


def readers(process: Process) -> list[list[str]]:
    """What people do with a server's files."""
    wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    return [
        ["tail", "-f", str(process.log_file)],
        [*wait, str(process.log_file)],  # less, vim
        [*wait, "--args", *process.command],  # a debugger
    ]


@pytest.mark.parametrize("number", range(3))
def test_who_reads_the_files_of_a_server_is_not_the_server(tmp_path: Path, number: int) -> None:
    process = server(tmp_path)
    process.log_file.touch()
    with subprocess.Popen(readers(process)[number], stdin=subprocess.PIPE) as reader:
        try:
            assert process.running() is None
            assert stop([process], wait_seconds=5) == []
            assert reader.poll() is None
        finally:
            reader.kill()


def test_server_without_a_pid_file_is_found_beside_its_readers_and_noted(tmp_path: Path) -> None:
    process = server(tmp_path)
    process.log_file.touch()
    with (
        subprocess.Popen(readers(process)[0]) as reader,
        subprocess.Popen(process.command, stdin=subprocess.PIPE) as it,
    ):
        try:
            process.pid_file.write_text(f"{reader.pid}\n")
            found = process.running()
            assert found
            assert found.pid == it.pid
            note_pid(process)
            assert process.pid_file.read_text() == f"{it.pid}\n"
        finally:
            reader.kill()
            it.kill()


def test_server_of_other_arguments_is_the_same_server(tmp_path: Path) -> None:
    """A router runs on as it was started while the topology that declares it has changed."""
    process = server(tmp_path)
    with subprocess.Popen(process.command, stdin=subprocess.PIPE) as it:
        try:
            found = replace(process, command=(*process.command[:-1], "2")).running()
            assert found
            assert found.pid == it.pid
        finally:
            it.kill()


def test_signal_to_a_process_that_ended_meanwhile_is_no_failure() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    known = psutil.Process(child.pid)
    child.wait()
    send_signal(known, signal.SIGTERM)
