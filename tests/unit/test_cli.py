"""The `shardmart` command itself: what it says when the machine under it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shardmart.declare import topology

ROOT = Path(__file__).parents[2]
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
"""An environment in which output is kept until it is flushed, as is usual outside of containers."""
SHARDMART = [sys.executable, "-c", "from shardmart.cli import main; main()"]
OF_A_DISK = pytest.mark.parametrize(
    ("arguments", "code"), [(["load", "--dry-run", "--json"], 1), (["chaos", "faults", "--json"], 3)]
)
"""Commands that write, and what they end with where that fails; 1 is a verdict of chaos."""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder that knows the default cluster, which does not run."""
    description = topology.load(ROOT / "inventories" / "topology.yml").resolve()
    (tmp_path / "cluster.json").write_text(description.dumps())
    return tmp_path


def test_unknown_command_is_named() -> None:
    done = subprocess.run([*SHARDMART, "lod"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("shardmart: no command 'lod'\n")


def test_package_that_is_not_installed_is_named() -> None:
    without = [
        sys.executable,
        "-c",
        "import sys; sys.modules['psycopg'] = None; from shardmart.cli import main; main()",
    ]
    done = subprocess.run([*without, "fragments", "status"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "shardmart fragments: psycopg is not installed here: `make install` installs everything\n"


@OF_A_DISK
def test_full_disk_is_one_line(state: Path, arguments: list[str], code: int) -> None:
    command = [*SHARDMART, *arguments, f"--state={state}"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED, check=False)
    assert done.returncode == code
    assert done.stderr == f"shardmart {arguments[0]}: No space left on device\n"


def test_module_says_it_as_the_command_does() -> None:
    command = [sys.executable, "-m", "shardmart.loader", "--dry-run", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, env=BUFFERED, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "shardmart load: No space left on device\n"


def test_file_that_is_in_the_way_is_named(state: Path) -> None:
    (state / "chaos").touch()
    command = [*SHARDMART, "chaos", "run", "chaos/kill-primary.json", f"--state={state}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == f"shardmart chaos: {state / 'chaos'}: File exists\n"


@OF_A_DISK
def test_reader_that_went_away_is_no_traceback(state: Path, arguments: list[str], code: int) -> None:
    command = [*SHARDMART, *arguments, f"--state={state}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=BUFFERED) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == code
