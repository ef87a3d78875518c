"""A database task runs the module that lies in the toolbox, and is sent where other code lies there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
KUBECTL = """#!/bin/sh
# Stands for `kubectl exec`: the toolbox is this machine.
echo "$*" >> {log}
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""


def play(tmp_path: Path, checkout: Path, *arguments: str) -> tuple[str, list[str]]:
    """Output of the module secret_files as a task of the toolbox, and the calls of kubectl."""
    log, kubectl, kubeconfig = tmp_path / "calls", tmp_path / "bin" / "kubectl", tmp_path / "kubeconfig"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.format(log=log))
    kubectl.chmod(0o755)
    kubeconfig.write_text("contexts: [{name: given}]")
    variables = {
        "kubernetes_kubeconfig": kubeconfig,
        "kubernetes_context": "given",
        "shardmart_modules": checkout,
        "ansible_python_interpreter": sys.executable,
        "ansible_remote_tmp": tmp_path / "remote",
    }
    command = [str(Path(sys.executable).with_name("ansible")), "-i", "inventories/kubernetes", "toolbox"]
    command += ["-m", "secret_files", "-a", f"folder={tmp_path / 'state' / 'secrets'} passwords=one.password"]
    command += [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    environment = os.environ | {
        "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
        "SHARDMART_STATE": str(tmp_path / "state"),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr, log.read_text().splitlines()


def test_same_code_runs_from_there_in_one_call(tmp_path: Path) -> None:
    said, calls = play(tmp_path, ROOT)
    assert "generate one.password" in said
    assert len(calls) == 1
    assert "run_module.py secret_files" in calls[0]
    assert (tmp_path / "state" / "secrets" / "one.password").exists()


def test_check_mode_goes_with_it(tmp_path: Path) -> None:
    said, _ = play(tmp_path, ROOT, "--check")
    assert "generate one.password" in said
    assert not (tmp_path / "state" / "secrets").exists()


@pytest.mark.parametrize("there", [None, "src/shardmart/cluster/host/files.py"])
def test_module_is_sent_where_other_code_lies(tmp_path: Path, there: str | None) -> None:
    checkout = tmp_path / "image"
    (checkout / "plugins").mkdir(parents=True)
    if there:  # an older image; without it, one that has no such thing at all
        (checkout / "plugins" / "run_module.py").write_text((ROOT / "plugins" / "run_module.py").read_text())
        (checkout / there).parent.mkdir(parents=True)
        (checkout / there).write_text("")
    said, calls = play(tmp_path, checkout)
    assert "generate one.password" in said
    assert len(calls) > 1, "asked, then sent"
