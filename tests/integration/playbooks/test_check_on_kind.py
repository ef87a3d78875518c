"""`site.yml --check` for kind on a machine where nothing is there yet: it says what it would do and changes nothing.

kind, docker and kubectl are stand-ins that note how they were called and know of no cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.clusters import ROOT
from tests.support.plays import Played


def test_check_mode_works_from_an_empty_machine(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    for program in ("kind", "docker", "kubectl", "helm"):
        file = tmp_path / "bin" / program
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "{program} $*" >> {calls}\n')
        file.chmod(0o755)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/kind"]
    environment = os.environ | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SHARDMART_STATE": str(tmp_path / "state"),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        [*command, "site.yml", "--check", "--diff"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    played = Played(done.returncode, done.stdout)
    assert played.code == 0, played.output
    assert played.changed["controller"] > 0
    assert "Nothing is installed yet" in played.output
    assert not (tmp_path / "state").exists()
    assert set(calls.read_text().splitlines()) == {"kind get clusters"}
