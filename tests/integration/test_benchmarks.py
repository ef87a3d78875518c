"""Benchmarks' command lines: `--help` starts nothing, and who is ended takes its servers along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.clusters import ROOT
from tests.support.shops import wait_until

pytestmark = pytest.mark.integration
BENCHMARKS = sorted(set((ROOT / "benchmarks").glob("*.py")) - {ROOT / "benchmarks" / "command_line.py"})
WAIT_SECONDS = 120


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_help_says_what_it_is_and_starts_nothing(file: Path, tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path), "SHARDMART_STATE": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, str(file), "--help"], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_the_servers_that_it_started(tmp_path: Path) -> None:
    def servers() -> list[int]:
        return [
            one.pid for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(one.info["cmdline"] or [])
        ]

    command = [sys.executable, str(ROOT / "benchmarks" / "differential.py"), "--seconds", str(WAIT_SECONDS)]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: len(servers()) >= 4, "the servers of the benchmark", WAIT_SECONDS)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) != 0
    assert servers() == []
