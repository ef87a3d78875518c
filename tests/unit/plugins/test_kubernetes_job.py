"""A Job's log that takes long costs a warning, and a Job that somebody else made is not replaced."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from shardmart.platforms.kubernetes_commands import Commands

ROOT = Path(__file__).parents[3]


@pytest.fixture
def action(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The plugin on its way through a Job, which is followed."""
    spec = importlib.util.spec_from_file_location("kubernetes_job", ROOT / "plugins" / "action" / "kubernetes_job.py")
    assert spec
    assert spec.loader
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    monkeypatch.setattr(plugin, "LOG_SECONDS", 0.2)
    made = plugin.ActionModule.__new__(plugin.ActionModule)
    made.commands, made.job, made.namespace = Commands("/given"), "job/load", "shop"
    made.deadline = time.monotonic() + 60
    return made


def kubectl(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "kubectl").write_text(f"#!/bin/bash\n{script}\n")
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_log_that_does_not_end_is_asked_for_again(action: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl(tmp_path, monkeypatch, "exec sleep 600")
    assert action._follow(["seen"]) == ["seen"]


@pytest.mark.parametrize("labels", [None, {}, {"shardmart/made-by": "somebody"}])
def test_job_of_somebody_else_is_left_alone(
    action: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: dict[str, str] | None
) -> None:
    there = json.dumps({"metadata": {"name": "load", "labels": labels}})
    kubectl(tmp_path, monkeypatch, f"echo '{there}'")
    with pytest.raises(AnsibleActionFail, match="is there and not ours"):
        action._refuse_foreign({"shardmart/made-by": "site.yml"})


@pytest.mark.parametrize("there", ["", '{"metadata": {"labels": {"shardmart/made-by": "site.yml"}}}'])
def test_job_of_ours_or_none_is_replaced(
    action: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    kubectl(tmp_path, monkeypatch, f"echo '{there}'")
    action._refuse_foreign({"shardmart/made-by": "site.yml"})
