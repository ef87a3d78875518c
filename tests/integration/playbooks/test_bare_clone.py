"""The first command of the README in a clone where nothing is installed: a cluster, from a small part of the lock."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import ROOT
from tests.support.plays import Site

pytestmark = pytest.mark.long


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that are in git, or would be; no `.venv`, no state folder."""
    folder = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        source, target = ROOT / name, folder / name
        if name and os.path.lexists(source):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    if made.state.exists():
        made.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def names(lock: str) -> set[str]:
    return {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}


def test_make_up_in_a_bare_clone_ends_with_a_cluster_and_installs_what_that_needs_alone(
    clone: Path, site: Site
) -> None:
    def make(goal: str, *, code: int = 0) -> str:
        environment = {name: value for name, value in site.environment().items() if name != "VIRTUAL_ENV"}
        done = subprocess.run(
            ["make", goal, f"ARGS=-e topology={site.topology}"],
            cwd=clone, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    made = make("up")
    assert "mongos1 acknowledges a majority write and reads it back" in made
    installed = subprocess.run(
        [clone / ".venv/bin/uv", "pip", "list", "--format=freeze", "--python", clone / ".venv/bin/python"],
        cwd=clone, check=True, capture_output=True, text=True,
    )  # fmt: skip
    locks = (clone / ".ci" / "up.lock").read_text() + (clone / ".ci" / "installer.lock").read_text()
    assert names(installed.stdout) - names(locks) - {"shardmart"} == set()
    assert "shard1ReplSet" in make("status")
    assert "changed=0" in make("up")
    site.write(services={})
    refused = make("up", code=2)
    assert "run `make install`" in refused
    site.document.pop("services")
    site.write()
    make("down")
