"""The module that writes cluster.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardmart.declare import topology
from tests.support.modules import ROOT, run_module

pytestmark = pytest.mark.integration
CLUSTER = topology.load(ROOT / "inventories" / "topology.yml").resolve().as_document()
WITH_SHOP = topology.load(ROOT / "inventories" / "topologies" / "shop.yml").resolve().as_document()


def test_description_is_written_once_and_compared_by_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    planned = run_module("cluster_description", check=True, cluster=CLUSTER, path=str(file))
    assert planned["changed"]
    assert not file.exists()
    made = run_module("cluster_description", cluster=CLUSTER, path=str(file))
    assert made["changed"]
    assert json.loads(file.read_text()) == CLUSTER
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(json.dumps(dict(reversed(CLUSTER.items()))))
    assert not run_module("cluster_description", cluster=CLUSTER, path=str(file))["changed"]


def test_change_is_shown_and_what_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text('{"name": "sh')
    result = run_module("cluster_description", cluster=CLUSTER, path=str(file))
    assert result["changed"]
    assert result["diff"]["before"] == '{"name": "sh'
    assert json.loads(result["diff"]["after"]) == json.loads(file.read_text()) == CLUSTER


def test_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "cluster.json"
    result = run_module("cluster_description", cluster=CLUSTER, path=str(file))
    assert result["failed"]
    assert result["msg"] == f"{file}: No such file or directory"


def test_description_that_makes_no_sense_is_refused_and_nothing_written(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    result = run_module("cluster_description", cluster={"version": 2, "name": "shop"}, path=str(file))
    assert result["msg"] == "the description of the cluster lacks 'platform'"
    assert not file.exists()


def test_playbook_of_the_shop_tells_of_the_shop_and_of_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    asked = {"path": str(file), "only_shop": True}
    assert not run_module("cluster_description", cluster=WITH_SHOP, **asked)["changed"]
    assert not file.exists(), "nothing was made here yet"
    file.write_text(json.dumps(CLUSTER))
    larger = WITH_SHOP | {"zones": ["elsewhere"], "routers": []}
    assert run_module("cluster_description", cluster=larger, **asked)["changed"]
    assert json.loads(file.read_text()) == CLUSTER | {"shop": WITH_SHOP["shop"]}
    assert run_module("cluster_description", cluster=CLUSTER, **asked)["changed"]
    assert json.loads(file.read_text()) == CLUSTER
    assert not run_module("cluster_description", cluster=CLUSTER, **asked)["changed"]
