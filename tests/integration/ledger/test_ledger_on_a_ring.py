"""The workload `carts` on real nodes: clean after a kill, and blind to nothing when a node's folder is gone."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from shardmart.ledger.metrics import read_windows
from shardmart.platforms.standalone import start_all
from tests.support.rings import RingServers, make

START_SECONDS = 60.0
ENOUGH = 60
CLIENTS = 4
"""Acknowledged operations that each part of a run waits for."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RingServers]:
    servers = RingServers.of(tmp_path_factory.mktemp("ring") / "state", "n1", "n2", "n3")
    try:
        servers.start()
        yield servers
    finally:
        servers.destroy()


def ledger(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "shardmart.ledger", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ)


class CartsRun:
    """A run of the workload in the background, on a new ring."""

    def __init__(self, running: RingServers, folder: Path, copies: int) -> None:
        running.reset()
        settings = running.settings(timeout_seconds=2.0)
        asyncio.run(make(settings, running.names, copies=copies))
        self.settings, self.journal = folder / "settings.json", folder / "journal"
        self.settings.write_text(json.dumps(asdict(settings)))
        self.settings.chmod(0o600)
        self._process = ledger(
            *("run", "--workload", "carts", "--uri-file", self.settings, "--journal", self.journal),
            *("--duration", "300", "--rate", "120", "--clients", str(CLIENTS), "--until-input-ends"),
        )

    def await_operations(self, count: int = ENOUGH) -> None:
        """Until so many more operations were acknowledged."""
        before = self._acknowledged()
        deadline = time.monotonic() + START_SECONDS
        while self._acknowledged() < before + count:
            assert self._process.poll() is None, self._process.stderr and self._process.stderr.read()
            assert time.monotonic() < deadline, f"waited {START_SECONDS:g} s for {count} acknowledged operations"
            time.sleep(0.1)

    def _acknowledged(self) -> int:
        return sum(window.ok for window in read_windows(self.journal))

    def end(self) -> dict[str, Any]:
        """End the run and check it; the verdict."""
        self.stop()
        return self.check()

    def stop(self) -> None:
        """Let it write nothing more."""
        self._process.send_signal(signal.SIGTERM)
        _, said = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, said

    def check(self) -> dict[str, Any]:
        """The verdict on what was written."""
        checked = ledger("check", self.journal, "--uri-file", self.settings, "--json")
        answer, said = checked.communicate(timeout=300)
        verdict: dict[str, Any] = json.loads(answer or b"null") or pytest.fail(said.decode())
        assert checked.returncode == (0 if verdict["clean"] else 1), said
        return verdict

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def carts(running: RingServers, tmp_path: Path) -> Iterator[Callable[[int], CartsRun]]:
    made: list[CartsRun] = []

    def start(copies: int) -> CartsRun:
        made.append(CartsRun(running, tmp_path, copies))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def test_what_was_acknowledged_around_a_kill_is_there_and_copies_end_equal(
    running: RingServers, carts: Callable[[int], CartsRun]
) -> None:
    run = carts(2)
    run.await_operations()
    running.kill("n1")
    run.await_operations()
    running.start("n1")
    run.await_operations()
    verdict = run.end()
    assert verdict["clean"], verdict
    assert verdict["acknowledged"] >= 3 * ENOUGH
    assert any("3 nodes, deletions included, 2 equal copies of each" in line for line in verdict["checked"]), verdict


def with_its_users(running: RingServers) -> None:
    running.start("n1")


def without_users(running: RingServers) -> None:
    start_all([running.server("n1")], running.folder, running.mongod)


@pytest.mark.parametrize("restart", [with_its_users, pytest.param(without_users, marks=pytest.mark.full)])
def test_without_a_backup_what_was_in_a_removed_folder_is_named_as_lost(
    running: RingServers, carts: Callable[[int], CartsRun], restart: Callable[[RingServers], None]
) -> None:
    run = carts(1)
    while sum(line is not None for line in running.records("n1").values()) < 2 * CLIENTS:
        run.await_operations()
    run.stop()  # each client has deleted one line more at most, and none writes again what is about to go
    running.kill("n1")
    shutil.rmtree(running.folder / "data" / "n1")
    restart(running)
    verdict = run.check()
    assert verdict["counts"].get("lost", 0) > 0, verdict
    lost = next(one for one in verdict["anomalies"] if one["kind"] == "lost")
    assert lost["operations"], lost
    members = [one["detail"] for one in verdict["anomalies"] if one["kind"] == "members"]
    assert any(one.startswith("n1: ") and "folder lost" in one for one in members), members
