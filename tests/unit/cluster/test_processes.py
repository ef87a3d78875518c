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
from tests.support.processes import REST, up

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


def server(folder: Path) -> Process:
    """A server that is told its log, as the development router is."""
    log = folder / "mongos1.log"
    command = (sys.executable, "-c", REST, "--logpath", str(log), "--port", "1")
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
        up(process.command) as it,
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
    with up(process.command) as it:
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


TOLD = '{{"t":{{"$date":"2026-11-29T13:37:30.232+00:00"}},"s":"{}","c":"CONTROL","id":1,"ctx":"x","msg":{}{}}}'
HELD = ',"attr":{"error":{"code":9001,"codeName":"SocketException","errmsg":"Address already in use"}}'
FULL = ',"attr":{"error":28,"message":"[1234:56] file:WiredTiger.wt: No space left on device"}'


def log(folder: Path, *lines: str) -> Process:
    told = replace(server(folder), log_file=folder / "a.log")
    told.log_file.write_text("\n".join(lines) + "\n")
    return told


def line(severity: str, message: str, more: str = "") -> str:
    return TOLD.format(severity, f'"{message}"', more)


def test_the_reason_of_an_end_is_told_and_not_how_it_ended(tmp_path: Path) -> None:
    ending = [line("I", f"Shutting down the {n}") for n in range(20)]
    begun = line("I", "***** SERVER RESTARTED *****")
    before = [line("F", "of the run before"), begun, line("I", "up")]
    held = log(tmp_path, *before, line("E", "Error setting up listener", HELD), *ending)
    assert held.last_words() == "Error setting up listener: Address already in use"
    full = log(tmp_path, line("E", "WiredTiger error", FULL), line("F", "Fatal assertion", ',"attr":{"msgid":28558}'))
    assert full.last_words().splitlines() == [
        "WiredTiger error: 28: [1234:56] file:WiredTiger.wt: No space left on device",
        "Fatal assertion",
    ]


def test_of_a_log_without_errors_the_last_lines_are_told(tmp_path: Path) -> None:
    lines = ["[1, 2]", "plain words", '{"s": "E"}', '{"s":"E","msg":"m","attr":7}'] * 1000 + [
        f"line {n}" for n in range(8)
    ]
    assert log(tmp_path, *lines).last_words().splitlines() == lines[-8:]
    assert "no log at" in replace(server(tmp_path), log_file=tmp_path / "none.log").last_words()
