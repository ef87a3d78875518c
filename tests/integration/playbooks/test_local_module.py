"""The action plugin `local_module`: a module runs in Ansible's worker, or is sent where it belongs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.clusters import ROOT

pytestmark = pytest.mark.long

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Secrets
      secret_files:
        folder: "{{ folder }}"
        passwords: [one.password]
      %s
"""
EXECUTED = "<localhost> EXEC /bin/sh"


def play(
    tmp_path: Path, more: str, *arguments: str, interpreter: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    book = tmp_path / "play.yml"
    book.write_text(PLAY % more)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(book), "-vvv"]
    command += ["-e", f"folder={tmp_path / 'state' / 'secrets'}", "-e", f"ansible_python_interpreter={interpreter}"]
    environment = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_INVENTORY_ENABLED": "host_list"}
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_module_runs_in_the_worker_and_converges(tmp_path: Path) -> None:
    checked = play(tmp_path, "", "--check")
    assert "changed=1" in checked.stdout, checked.stdout + checked.stderr
    assert not (tmp_path / "state").exists(), "check mode reaches the module"
    first = play(tmp_path, "")
    assert "changed=1" in first.stdout
    assert "generate one.password" in first.stdout
    again = play(tmp_path, "")
    assert "changed=0" in again.stdout
    assert EXECUTED not in checked.stdout + first.stdout + again.stdout


def test_task_that_asks_for_another_place_is_sent_there(tmp_path: Path) -> None:
    for played in (
        play(tmp_path, "environment: {SOMETHING: asked}"),
        play(tmp_path, "", interpreter=f"{Path(sys.executable).parent}/../bin/python"),
    ):
        assert EXECUTED in played.stdout, played.stdout + played.stderr


def test_wrong_argument_and_failure_are_one_line(tmp_path: Path) -> None:
    wrong = play(tmp_path, "  paswords: [typo]")
    assert wrong.returncode == 2
    assert "Unsupported parameters for (secret_files) module: paswords" in wrong.stdout + wrong.stderr
    (tmp_path / "state").write_text("a file where a folder must be")
    failed = play(tmp_path, "")
    assert failed.returncode == 2
    assert "File exists" in failed.stdout + failed.stderr or "Not a directory" in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stdout + failed.stderr
