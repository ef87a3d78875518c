"""Which kind cluster is ours: the one whose nodes say so, or that consists of what a killed run of ours had made.

kind, docker and kubectl are stand-ins that keep the containers of one cluster in a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.modules import run_module

KIND = """#!/bin/bash
echo "$*" >> calls
case "$1 $2" in
  "get clusters") test -s containers && echo shop ;;
  "get nodes") test -s containers && echo shop-control-plane ;;
  "get kubeconfig") echo kubeconfig ;;
  "create cluster")
    echo ours > containers
    if test -e fails; then echo "ERROR: no space left" >&2; exit 1; fi
    touch "${@: -1}" ;;
  "delete cluster") : > containers ;;
esac
exit 0
"""
DOCKER = """#!/bin/bash
case "$1" in
  ps) cat containers ;;
  images) cat images ;;
  image) grep -qx "$3" images ;;
  inspect) echo false ;;
esac
"""
KUBECTL = """#!/bin/bash
cat > /dev/null
test -e label || { echo "connection refused" >&2; exit 1; }
echo '{"items": [{"metadata": {"labels": {"'"$(cut -d= -f1 label)"'": "'"$(cut -d= -f2 label)"'"}}}]}'
"""


class Machine:
    """A machine with stand-ins, in whose folder modules run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "state" / "kubeconfig"
        (folder / "containers").touch()
        (folder / "calls").touch()

    def kind_cluster(self, **arguments: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"name": "shop", "config": "/dev/null", "wait_seconds": 1}
        return run_module("kind_cluster", **given | {"kubeconfig": str(self.kubeconfig)} | arguments)

    def calls(self, words: str) -> int:
        """How often kind was called with these words first."""
        return sum(call.startswith(words) for call in (self.folder / "calls").read_text().splitlines())

    def leave_unfinished(self) -> None:
        """As a run that was killed: containers, and a note of them."""
        (self.folder / "fails").touch()
        assert "no space left" in self.kind_cluster()["msg"]
        (self.folder / "fails").unlink()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    for name, text in (("kind", KIND), ("docker", DOCKER), ("kubectl", KUBECTL)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return Machine(tmp_path)


def test_unfinished_cluster_of_a_killed_run_is_made_anew(machine: Machine) -> None:
    machine.leave_unfinished()
    assert machine.kind_cluster()["changed"]
    assert (machine.calls("delete"), machine.calls("create")) == (1, 2)
    assert not list(machine.kubeconfig.parent.glob("*-begun"))


@pytest.mark.parametrize("state", ["present", "absent"])
def test_cluster_that_somebody_made_after_a_killed_run_is_theirs(machine: Machine, state: str) -> None:
    machine.leave_unfinished()
    (machine.folder / "containers").write_text("theirs\n")
    refused = machine.kind_cluster(state=state)
    assert "whose it is cannot be said" in refused["msg"]
    (machine.folder / "label").write_text("made-by=somebody")
    assert "was not made by this project" in machine.kind_cluster(state=state)["msg"]
    assert machine.calls("delete") == 0
    assert (machine.folder / "containers").read_text() == "theirs\n"


def test_note_of_an_earlier_version_claims_nothing(machine: Machine) -> None:
    machine.kubeconfig.parent.mkdir()
    machine.kubeconfig.with_name("kubeconfig.shop-begun").touch()
    (machine.folder / "containers").write_text("theirs\n")
    assert "whose it is cannot be said" in machine.kind_cluster(state="absent")["msg"]
    assert machine.calls("delete") == 0


def test_cluster_whose_nodes_say_so_is_removed(machine: Machine) -> None:
    machine.kind_cluster()
    (machine.folder / "label").write_text("shardmart/made-by=site.yml")
    assert machine.kind_cluster(state="absent")["changed"]
    assert machine.calls("delete") == 1


def test_failed_creation_that_left_nothing_leaves_no_note(machine: Machine) -> None:
    kind = machine.folder / "bin" / "kind"
    kind.write_text(KIND.replace("echo ours > containers", ""))
    (machine.folder / "fails").touch()
    assert "no space left" in machine.kind_cluster()["msg"]
    assert not list(machine.kubeconfig.parent.glob("*-begun"))


def test_cluster_that_somebody_deleted_is_forgotten_and_one_that_is_there_is_not(machine: Machine) -> None:
    machine.kind_cluster()
    assert machine.kind_cluster(state="forgotten")["changed"] is False
    assert machine.kubeconfig.exists()
    (machine.folder / "containers").write_text("")
    assert machine.kind_cluster(state="forgotten")["changed"]
    assert not machine.kubeconfig.exists()
    assert machine.calls("delete") == 0


@pytest.mark.parametrize(
    ("named", "there", "taken"),
    [
        (None, ["python:3.11", "node:22", "lab/kind-node:v1.34.4"], "lab/kind-node:v1.34.4"),
        ("mine/node:1", ["mine/node:1", "kindest/node:v1.34.0", "kindest/node:v1.33.0"], "mine/node:1"),
    ],
)
def test_where_nothing_is_pulled_an_image_that_docker_has_is_taken(
    machine: Machine, named: str | None, there: list[str], taken: str
) -> None:
    (machine.folder / "images").write_text("\n".join(there) + "\n")
    assert machine.kind_cluster(image=named, pull=False)["changed"]
    (created,) = [call for call in (machine.folder / "calls").read_text().splitlines() if call.startswith("create")]
    assert f"--image {taken}" in created


@pytest.mark.parametrize(
    ("named", "there", "said"),
    [
        (None, [], "no image of kind's nodes is named, and nothing is pulled"),
        (None, ["kindest/node:v1.34.0", "kindest/node:v1.33.0"], "; docker has kindest/node:v1.33.0, kindest/node:v1."),
        ("kindest/node:v9", ["lab/kind-node:v1"], "docker has no image kindest/node:v9, and nothing is pulled"),
    ],
)
def test_where_nothing_is_pulled_an_image_that_is_missing_is_one_line_before_anything_is_made(
    machine: Machine, named: str | None, there: list[str], said: str
) -> None:
    (machine.folder / "images").write_text("\n".join(there) + "\n")
    message = machine.kind_cluster(image=named, pull=False)["msg"]
    assert said in message
    assert "export KIND_NODE_IMAGE=NAME:TAG" in message
    assert machine.calls("create") == 0
