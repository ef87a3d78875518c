"""The `shardmart` command itself: what it says when the machine under it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shardmart import topology

ROOT = Path(__file__).parents[2]

SHARDMART = [sys.executable, "-c", "from shardmart.cli import main; main()"]


def test_unknown_command_is_named() -> None:
    done = subprocess.run([*SHARDMART, "lod"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("shardmart: no command 'lod'\n")


@pytest.mark.parametrize("arguments", [["load", "--dry-run", "--json"], ["status", "--help"]])
def test_full_disk_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*SHARDMART, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"shardmart {arguments[0]}: No space left on device\n"


def test_file_that_is_in_the_way_is_named(tmp_path: Path) -> None:
    description = topology.load(ROOT / "inventories" / "topology.yml").resolve("embedded")
    (tmp_path / "cluster.json").write_text(json.dumps(description))
    (tmp_path / "chaos").touch()
    command = [*SHARDMART, "chaos", "run", "chaos/embedded/kill-primary.json", f"--state={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"shardmart chaos: {tmp_path / 'chaos'}: File exists\n"


def test_reader_that_went_away_is_no_traceback() -> None:
    with subprocess.Popen(
        [*SHARDMART, "load", "--dry-run", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        assert running.stderr
        running.stdout.close()
        assert running.stderr.read() == ""
    assert running.returncode == 1
