"""What k8s/gitops says agrees with the chart and the topologies; `make lint-chart` renders it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.declare import render
from shardmart.declare.chart import chart_values
from shardmart.declare.shop_chart import shop_values
from shardmart.declare.topology import load

ROOT = Path(__file__).parents[3]
GITOPS = ROOT / "k8s" / "gitops"
CHARTS = {"": ROOT / "helm" / "sharded-mongodb", "-shop": ROOT / "helm" / "shop"}
"""By what follows an environment's name in the names of files."""
TOPOLOGIES = {"staging": "inventories/topologies/shop.yml", "production": "inventories/topologies/production.yml"}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def values(environment: str, name: str = "values") -> dict[str, Any]:
    (found,) = documents(GITOPS / environment / f"{name}.yaml")
    return found


@pytest.mark.parametrize("environment", TOPOLOGIES)
def test_an_environment_is_its_topology(environment: str) -> None:
    declared = load(ROOT / TOPOLOGIES[environment])
    assert list(render.differences(chart_values(declared), values(environment, "cluster"))) == []
    assert list(render.differences(shop_values(declared, "shardmart"), values(environment, "shop"))) == []


@pytest.mark.parametrize("part", CHARTS)
@pytest.mark.parametrize("environment", TOPOLOGIES)
def test_both_tools_are_given_the_same_files(environment: str, part: str) -> None:
    (application,) = documents(GITOPS / "argocd" / f"{environment}{part}.yaml")
    source = application["spec"]["source"]
    argocd = [(ROOT / source["path"] / name).resolve() for name in source["helm"]["valueFiles"]]
    release = documents(GITOPS / "flux" / f"{environment}{part}.yaml")[-1]
    namespace = documents(GITOPS / "flux" / f"{environment}.yaml")[0]
    flux = [(ROOT / name).resolve() for name in release["spec"]["chart"]["spec"]["valuesFiles"]]
    assert flux == [CHARTS[part] / "values.yaml", *argocd]
    assert release["spec"]["releaseName"] == source["helm"]["releaseName"] == f"shardmart{part}"
    assert all(path.is_file() for path in flux)
    assert release["metadata"]["namespace"] == application["spec"]["destination"]["namespace"]
    made = application["spec"]["syncPolicy"].get("managedNamespaceMetadata")
    assert (made is None) == bool(part), "one Application alone keeps the namespace"
    assert made is None or made["labels"] == namespace["metadata"]["labels"]


@pytest.mark.parametrize("environment", TOPOLOGIES)
def test_the_shop_comes_after_the_cluster_it_is_made_for(environment: str) -> None:
    (application,) = documents(GITOPS / "argocd" / f"{environment}-shop.yaml")
    assert application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"] == "1"
    (release,) = documents(GITOPS / "flux" / f"{environment}-shop.yaml")
    assert release["spec"]["dependsOn"] == [{"name": "shardmart"}]
    cluster, shop = values(environment, "cluster"), values(environment, "shop")
    assert cluster["shop"]["enabled"] is True
    assert {name: service["port"] for name, service in shop["services"].items()} == cluster["shop"]["ports"]
    assert shop["cluster"]["tls"]["enabled"] == cluster["tls"]["enabled"]


def test_the_project_allows_what_the_charts_have_and_nothing_more() -> None:
    (project,) = documents(GITOPS / "argocd" / "project.yaml")
    found = [path for chart in CHARTS.values() for path in chart.rglob("templates/**/*.yaml")]
    templates = [path for path in found if "chaos" not in path.parts]
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
    shop = values("staging", "shop-values")
    pods = sum(service.instances for _, service in topology.services.balanced()) + 2 if topology.services else 0
    wanted += pods * cpu(shop["pod"]) + cpu(shop["cache"])
    assert wanted <= 2000 - 950  # kubeadm's control plane and CoreDNS ask for 950m
