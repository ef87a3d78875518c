"""A state folder holds one cluster: another one is refused in one line, before anything changes, in check mode too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.cluster.description import Cluster
from shardmart.cluster.errors import ClusterError
from shardmart.cluster.host import occupant, ownership
from shardmart.declare import chart, release, topology
from tests.support.clusters import ROOT
from tests.support.modules import run_module

DECLARED = topology.parse(
    {
        "config_servers": {"name": "configReplSet", "members": 1},
        "shards": [{"name": "shard1ReplSet", "members": 1, "zones": ["APJ", "EMEA", "LATAM"]}],
    },
    "test",
)


def pods(name: str = "shardmart", kubeconfig: str | None = None, context: str = "kind-shardmart") -> Cluster:
    place = release.Release(name, name, fullname=name)
    described = release.describe(chart.document(chart.chart_values(DECLARED, "cluster.local"), place))
    return described.reached_by(kubeconfig, context)


PROCESSES, ON_KIND = DECLARED.resolve(), pods()
GIVEN = pods(kubeconfig="/given", context="given")


def folder_of(cluster: Cluster, folder: Path) -> Path:
    assert not run_module("state_folder", path=str(folder)).get("failed")
    done = run_module("cluster_description", cluster=cluster.as_document(), path=str(folder / "cluster.json"))
    assert done["changed"], done
    return folder


@pytest.mark.parametrize(
    ("there", "other", "what", "inventory"),
    [
        (PROCESSES, ON_KIND, "cluster shardmart of processes of this machine", "embedded"),
        (PROCESSES, GIVEN, "cluster shardmart of processes of this machine", "embedded"),
        (ON_KIND, PROCESSES, "cluster shardmart of pods (release shardmart, namespace shardmart, kind-shard", "kind"),
        (ON_KIND, pods("other"), "cluster shardmart of pods (release shardmart, ", "kind"),
        (GIVEN, ON_KIND, "cluster shardmart of pods (release shardmart, namespace shardmart, given)", "kubernetes"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_another_cluster_is_refused_by_what_lies_there_and_what_removes_it(
    there: Cluster, other: Cluster, what: str, inventory: str, tmp_path: Path, *, check: bool
) -> None:
    folder = folder_of(there, tmp_path / "state")
    before = {file: file.read_text() for file in folder.iterdir()}
    described = {"cluster": other.as_document()}
    for result in (
        run_module("cluster_description", check=check, path=str(folder / "cluster.json"), **described),
        run_module("state_folder", check=check, path=str(folder), **described),
        run_module("state_folder", check=check, path=str(folder), state="absent", **described),
    ):
        assert result.get("failed"), result
        said = str(result["msg"])
        assert said.startswith(f"{folder} holds {what}")
        assert "SHARDMART_STATE" in said
        assert f"ansible-playbook -i inventories/{inventory} playbooks/destroy.yml -e destroy_data=true" in said
        assert "\n" not in said
    assert {file: file.read_text() for file in folder.iterdir()} == before


def test_a_description_that_does_not_say_its_context_is_of_the_same_cluster(tmp_path: Path) -> None:
    """One that an earlier version wrote."""
    there = replace(ON_KIND, kubernetes=replace(ON_KIND.kubernetes, context=None))  # type: ignore[type-var]
    folder = folder_of(there, tmp_path / "state")
    occupant.refuse_another(folder, ON_KIND)
    with pytest.raises(ClusterError, match="another one"):
        occupant.refuse_another(folder, pods("other"))


@pytest.mark.parametrize("cluster", [PROCESSES, ON_KIND, GIVEN])
def test_the_same_cluster_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    folder = folder_of(cluster, tmp_path / "state")
    described: dict[str, Any] = {"cluster": cluster.as_document()}
    assert run_module("cluster_description", path=str(folder / "cluster.json"), **described)["changed"] is False
    assert run_module("state_folder", path=str(folder), **described)["changed"] is False


def test_what_a_run_left_that_did_not_come_to_the_description_counts(tmp_path: Path) -> None:
    ownership.take(folder := tmp_path / "state")
    (folder / "kubeconfig").write_text("of a kind cluster")
    with pytest.raises(ClusterError, match="holds an unfinished kind cluster, "):
        occupant.refuse_another(folder, PROCESSES)
    occupant.refuse_another(folder, ON_KIND)
    (folder / "kubeconfig").unlink()

    (folder / "rings" / "carts").mkdir(parents=True)
    with pytest.raises(ClusterError, match=r"holds servers of this machine \(rings\), "):
        occupant.refuse_another(folder, ON_KIND)
    occupant.refuse_another(folder, PROCESSES)


def test_folder_of_a_person_is_not_taken_for_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "data" / "theirs").mkdir(parents=True)
    occupant.refuse_another(tmp_path, ON_KIND)  # `ownership` refuses it, in other words


def test_every_playbook_that_makes_or_removes_something_asks_first() -> None:
    asked = {}
    for name in ("provision", "destroy", "shop", "ring", "fragments", "fragments-destroy", "rotate-certificates"):
        plays = yaml.safe_load((ROOT / "playbooks" / f"{name}.yml").read_text())
        first = next(play for play in plays if "hosts" in play)
        task = (first.get("pre_tasks") or first["tasks"])[0]
        if shared := task.get("ansible.builtin.import_tasks"):
            (task,) = yaml.safe_load((ROOT / "playbooks" / shared).read_text())
        arguments = task.get("state_folder") or task.get("cluster_description") or {}
        asked[name] = (first["hosts"], arguments.get("cluster"), task.get("check_mode"))
    assert set(asked.values()) == {("controller", "{{ cluster }}", True)}, asked
