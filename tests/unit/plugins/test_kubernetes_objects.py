"""Kubernetes objects that go: where their cluster went before them there is nothing left to ask."""

from __future__ import annotations

from pathlib import Path

from tests.support.modules import run_module


def test_without_a_kubeconfig_nothing_is_there_to_remove(tmp_path: Path) -> None:
    which = {"resources": ["secrets"], "selector": "a=b", "namespace": "shop"}
    done = run_module("kubernetes_objects", state="absent", kubeconfig=str(tmp_path / "kubeconfig"), **which)
    assert done["changed"] is False
