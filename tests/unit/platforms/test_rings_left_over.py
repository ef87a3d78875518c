"""A ring that runs and that the topology has no more is named, and `destroy` stops it; one that is declared is not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardmart.platforms import embedded_ring
from shardmart.platforms.standalone import Standalone
from tests.support.modules import run_module

WAIT_SECONDS = 60


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state folder with the ring `carts`, of one server that runs: a stand-in by that name and with its arguments."""
    ring = tmp_path / "rings" / "carts"
    process = Standalone("carts-1", 0).process(ring, "mongod")
    (ring / "run").mkdir(parents=True)
    (tmp_path / "mongod").symlink_to(sys.executable)
    (tmp_path / "wait.py").write_text("import time\ntime.sleep(600)\n")
    command = [str(tmp_path / "mongod"), str(tmp_path / "wait.py"), *process.command[1:]]
    with subprocess.Popen(command) as running:
        process.pid_file.write_text(f"{running.pid}\n")
        deadline = time.monotonic() + WAIT_SECONDS
        while not process.running():
            assert time.monotonic() < deadline, f"waited {WAIT_SECONDS} s for the stand-in to run"
            time.sleep(0.05)
        yield tmp_path
        running.kill()


def test_ring_that_the_topology_has_no_more_is_named_and_stopped(state: Path) -> None:
    assert list(embedded_ring.left_over(state, ["others"])) == ["carts"]
    assert embedded_ring.left_over(state, ["others", "carts"]) == {}

    known: dict[str, Any] = {"state_folder": str(state), "declared": []}
    found = run_module("rings_left_over", **known)
    assert (found["changed"], found["rings"]) == (False, ["carts"])
    planned = run_module("rings_left_over", check=True, state="stopped", **known)
    assert (planned["changed"], planned["rings"]) == (True, ["carts"])
    assert list(embedded_ring.left_over(state, [])) == ["carts"], "check mode stops nothing"

    stopped = run_module("rings_left_over", state="stopped", **known)
    assert (stopped["changed"], stopped["rings"]) == (True, ["carts"])
    assert embedded_ring.left_over(state, []) == {}
    assert run_module("rings_left_over", state="stopped", **known)["changed"] is False


def test_state_folder_without_rings_has_none(tmp_path: Path) -> None:
    assert embedded_ring.left_over(tmp_path, []) == {}
