"""The command line: exit codes, one line for a mistake, and nothing secret."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from shardmart.loader.cli import main

SHARDMART_LOAD = [sys.executable, "-m", "shardmart.loader"]


def dry_run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["--dry-run", "--json", *arguments]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def checksums(document: dict[str, Any]) -> list[str]:
    return [part["checksum"] for part in document["collections"].values()]


def test_the_defaults_are_the_reference_demo(capsys: pytest.CaptureFixture[str]) -> None:
    found = dry_run(capsys)["collections"]
    assert {name: part["documents"] for name, part in found.items()} == {"users": 10, "products": 20, "orders": 30}


def test_workers_and_batches_do_not_change_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--users", "1500", "--orders-per-user", "4")
    one = dry_run(capsys, *sizes, "--workers", "1")
    three = dry_run(capsys, *sizes, "--workers", "3", "--batch", "37")
    assert (one["workers"], three["workers"]) == (1, 3)
    assert checksums(one) == checksums(three)
    assert checksums(one) != checksums(dry_run(capsys, *sizes, "--seed", "2"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--users", "many"],
        ["--users", "-1"],
        ["--seed", "4294967296"],
        ["--zipf", "steep"],
        ["--zipf", "4"],
        ["--products", "0"],
        ["--check", "--drop"],
        ["--no-such-option"],
        ["--uri", "mongodb:/secret@nowhere"],
    ],
)
def test_wrong_arguments_end_with_2_and_a_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err
    assert "secret" not in captured.err
    assert captured.out == ""


def test_no_cluster_ends_with_3_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--state", str(tmp_path)]) == 3
    assert "make up" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_ends_with_3_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shardmart.loader.connection.CONNECT_SECONDS", 0.2)
    monkeypatch.setenv("SHARDMART_URI", "mongodb://loader:hunter2@127.0.0.1:9/?authSource=admin")
    assert main(["--json"]) == 3
    captured = capsys.readouterr()
    assert "127.0.0.1:9" in captured.err
    assert "hunter2" not in captured.out + captured.err
    assert json.loads(captured.out)["exit_code"] == 3


def test_a_uri_file_that_cannot_be_read_ends_with_3(tmp_path: Path) -> None:
    assert main(["--uri-file", str(tmp_path / "none")]) == 3


def test_without_a_terminal_progress_is_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    sizes = ["--dry-run", "--json", "--workers", "1", "--users", "1000000", "--orders-per-user", "0"]
    with subprocess.Popen([*SHARDMART_LOAD, *sizes], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr
        line = process.stderr.readline().decode()
        process.kill()
    assert line.startswith("generate users: ")
    assert " of 1,000,000 (" in line
    assert "\x1b" not in line


def test_a_killed_worker_ends_the_load_with_3() -> None:
    sizes = ["--dry-run", "--json", "--workers", "2", "--users", "5000000", "--orders-per-user", "0"]
    with subprocess.Popen([*SHARDMART_LOAD, *sizes], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        parent, deadline = psutil.Process(load.pid), time.monotonic() + 120
        # Workers are children of the fork server, which is a child of the load.
        while not (workers := [w for child in parent.children() for w in child.children()]):
            assert load.poll() is None
            assert time.monotonic() < deadline, "no worker process after 120 s"
            time.sleep(0.02)  # polling interval
        workers[0].kill()
        output, errors = load.communicate(timeout=120)
    assert load.returncode == 3
    assert "worker process was killed" in errors
    assert "Traceback" not in errors
    assert json.loads(output)["exit_code"] == 3
