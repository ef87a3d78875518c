"""Claims of Ctrl-C during an experiment: what cleans up is let end, however long that takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CLEANS_UP = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
try:
    (folder / "begun").touch()
    while True:  # not signal.pause(), which misses a signal that came a moment before
        time.sleep(0.01)
except KeyboardInterrupt:
    (folder / "cleans").touch()
    while not (folder / "go-on").exists():
        time.sleep(0.01)
    (folder / "clean").touch()
    sys.exit(5)
"""
OURS = """
import sys
from shardmart.chaos.lifecycle.foreground import run_to_its_end
print(*run_to_its_end([sys.executable, "-c", sys.argv[1], sys.argv[2]], "all is healed"), flush=True)
"""
# What subprocess.run grants a child after Ctrl-C (CPython, subprocess.Popen._sigint_wait_secs), and more.
LONGER_THAN_PYTHON_WAITS_SECONDS = 1.0


def until(file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline, f"waited for {file.name}"
        time.sleep(0.02)


def started(folder: Path) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", OURS, CLEANS_UP, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    until(folder / "begun")
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_cleans_up_after_a_signal_is_let_end(tmp_path: Path, number: signal.Signals) -> None:
    run = started(tmp_path)
    os.killpg(run.pid, number)  # as a terminal does: to every process of the group
    until(tmp_path / "cleans")
    time.sleep(LONGER_THAN_PYTHON_WAITS_SECONDS)
    (tmp_path / "go-on").touch()
    said, errors = run.communicate(timeout=120)
    assert (tmp_path / "clean").exists()
    assert said == "5 True\n"
    assert "interrupted: all is healed" in errors


def test_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    run = started(tmp_path)
    run.send_signal(signal.SIGINT)
    until(tmp_path / "cleans")
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=120)
    assert said == f"{-signal.SIGKILL} True\n"
    assert not (tmp_path / "clean").exists()


def test_without_a_signal_the_exit_code_is_the_programs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OURS, "raise SystemExit(3)", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "3 False\n"
