"""What k8s/gitops says agrees with the chart and the topologies; `make lint-chart` renders it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.declare import render
from shardmart.declare.chart import chart_values
from shardmart.declare.topology import load

ROOT = Path(__file__).parents[3]
GITOPS = ROOT / "k8s" / "gitops"
CHART = ROOT / "helm" / "sharded-mongodb"
TOPOLOGIES = {"staging": "inventories/topology.yml", "production": "inventories/topologies/production.yml"}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def values(environment: str) -> dict[str, Any]:
    (found,) = documents(GITOPS / environment / "values.yaml")
    return found


@pytest.mark.parametrize("environment", TOPOLOGIES)
def test_an_environment_is_its_topology(environment: str) -> None:
    (cluster,) = documents(GITOPS / environment / "cluster.yaml")
    assert list(render.differences(chart_values(load(ROOT / TOPOLOGIES[environment])), cluster)) == []


@pytest.mark.parametrize("environment", TOPOLOGIES)
def test_both_tools_are_given_the_same_files(environment: str) -> None:
    (application,) = documents(GITOPS / "argocd" / f"{environment}.yaml")
    source = application["spec"]["source"]
    argocd = [(ROOT / source["path"] / name).resolve() for name in source["helm"]["valueFiles"]]
    namespace, release = documents(GITOPS / "flux" / f"{environment}.yaml")
    flux = [(ROOT / name).resolve() for name in release["spec"]["chart"]["spec"]["valuesFiles"]]
    assert flux == [CHART / "values.yaml", *argocd]
    assert all(path.is_file() for path in flux)
    assert release["metadata"]["namespace"] == application["spec"]["destination"]["namespace"]
    assert namespace["metadata"]["labels"] == application["spec"]["syncPolicy"]["managedNamespaceMetadata"]["labels"]


def test_the_project_allows_what_the_chart_has_and_nothing_more() -> None:
    (project,) = documents(GITOPS / "argocd" / "project.yaml")
    templates = [path for path in CHART.rglob("templates/**/*.yaml") if "chaos" not in path.parts]
    used = {kind for path in templates for kind in re.findall(r"^kind: (\w+)$", path.read_text(), re.MULTILINE)}
    used |= {"NetworkPolicy"}  # made by a template of its own
    not_for_us = {"Certificate"}  # cert-manager's
    allowed = {entry["kind"] for entry in project["spec"]["namespaceResourceWhitelist"]}
    assert allowed == used - not_for_us
    assert project["spec"]["clusterResourceWhitelist"] == [{"group": "", "kind": "Namespace"}]
    namespaces = {destination["namespace"] for destination in project["spec"]["destinations"]}
    assert namespaces == {f"shardmart-{environment}" for environment in TOPOLOGIES}


def test_staging_fits_two_cores_beside_the_control_plane() -> None:
    def cpu(settings: dict[str, Any]) -> int:
        return int(settings["resources"]["requests"]["cpu"].removesuffix("m"))

    topology, found = load(ROOT / TOPOLOGIES["staging"]), values("staging")
    values_of = chart_values(topology)
    members = len(values_of["configServers"]["members"]) + sum(len(shard["members"]) for shard in values_of["shards"])
    wanted = members * cpu(found["member"]) + topology.routers.count * cpu(found["routers"]) + 3 * cpu(found["toolbox"])
    assert wanted <= 2000 - 950  # kubeadm's control plane and CoreDNS ask for 950m
