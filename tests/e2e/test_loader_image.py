"""The smaller image of the loader (loader/Dockerfile) holds all that the loader imports."""

from __future__ import annotations

import subprocess

from shardmart.declare import versions
from tests.support.kind_site import ROOT

IMAGE = "shardmart/loader:test"


def docker(*arguments: str, accept: int = 0) -> str:
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == accept, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_loader_image_runs_without_root_and_on_a_read_only_disk() -> None:
    base = f"--build-arg=BASE={versions.load().images['airgapped_base']}"
    docker("build", "--quiet", "--network=host", base, "--file=loader/Dockerfile", f"--tag={IMAGE}", ".")
    run = ("run", "--rm", "--read-only", "--network=none", "--cap-drop=ALL")
    try:
        assert "--orders-per-user" in docker(*run, "--env=COLUMNS=120", IMAGE, "--help")
        nobody = docker(
            *run, "--env=SHARDMART_URI=mongodb://127.0.0.1:1/", IMAGE, "--users=1", "--retry-seconds=1", accept=3
        )
        assert "127.0.0.1:1" in nobody, "it imports all it needs, and says that nobody is there"
    finally:
        docker("rmi", IMAGE)
