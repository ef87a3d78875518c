"""What k8s/gitops says agrees with the chart and the topologies; `make lint-chart` renders it."""

from __future__ import annotations

import re
import shutil
import subprocess
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


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not on PATH")
def test_production_pulls_every_image_of_ours_from_its_registry() -> None:
    files = [f"--values={GITOPS / 'production' / name}.yaml" for name in ("shop", "shop-values")]
    command = ["helm", "template", "shardmart-shop", str(CHARTS["-shop"]), *files]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    images = set(re.findall(r"^ +(?:- )?image: \"?([^\"\n]+)", rendered, re.MULTILINE))
    assert "registry.example.org/shardmart/toolbox:0.1.0" in images
    assert [image for image in images if image.startswith("shardmart/")] == []


@pytest.mark.parametrize("part", CHARTS)
@pytest.mark.parametrize("environment", TOPOLOGIES)
def test_an_application_heals_prunes_and_tries_again_with_what_git_has_by_then(environment: str, part: str) -> None:
    (application,) = documents(GITOPS / "argocd" / f"{environment}{part}.yaml")
    policy = application["spec"]["syncPolicy"]
    assert policy["automated"] == {"prune": True, "selfHeal": True}
    assert (policy["retry"]["limit"], policy["retry"]["refresh"]) == (-1, True)
    assert "ServerSideApply=true" in policy["syncOptions"]
    # Without it StatefulSets are OutOfSync for ever, by what the API server fills in.
    options = application["metadata"]["annotations"]["argocd.argoproj.io/compare-options"]
    assert options == "ServerSideDiff=true"
    assert "finalizers" not in application["metadata"], "deleting the Application may not delete the data's cluster"
    assert "ignoreDifferences" not in application["spec"]


def test_every_application_is_the_projects_and_comes_from_its_repository() -> None:
    (project,) = documents(GITOPS / "argocd" / "project.yaml")
    (kustomization,) = documents(GITOPS / "argocd" / "kustomization.yaml")
    (flux,) = documents(GITOPS / "flux" / "kustomization.yaml")
    names = {f"{environment}{part}.yaml" for environment in TOPOLOGIES for part in CHARTS}
    assert set(kustomization["resources"]) == names | {"project.yaml"}
    assert set(flux["resources"]) == names | {"source.yaml"}
    repository = documents(GITOPS / "flux" / "source.yaml")[0]
    assert project["spec"]["sourceRepos"] == [repository["spec"]["url"]]
    for name in names:
        (application,) = documents(GITOPS / "argocd" / name)
        assert application["spec"]["project"] == project["metadata"]["name"]
        assert [application["spec"]["source"]["repoURL"]] == project["spec"]["sourceRepos"]
        assert application["spec"]["source"]["targetRevision"] == repository["spec"]["ref"]["branch"]


def test_the_examples_of_secrets_bring_the_one_that_production_waits_for() -> None:
    wanted = values("production")["auth"]["existingSecret"]
    namespace = documents(GITOPS / "flux" / "production.yaml")[0]["metadata"]["name"]
    (external,) = documents(GITOPS / "secrets" / "external-secret.yaml")
    assert external["metadata"]["namespace"] == namespace
    # Made once, and never taken away or changed under a running cluster.
    assert external["spec"]["target"] == {"name": wanted, "creationPolicy": "Orphan"}
    assert external["spec"]["refreshInterval"] == "0"
    (flux,) = documents(GITOPS / "secrets" / "flux.yaml")
    (rules,) = documents(GITOPS / "secrets" / "sops.yaml")
    (rule,) = rules["creation_rules"]
    encrypted = f"{flux['spec']['path'].removeprefix('./')}/auth.yaml"
    assert re.search(rule["path_regex"], encrypted), "Flux looks where SOPS' rule encrypts"
    assert f"> {encrypted}" in (GITOPS / "secrets" / "sops.yaml").read_text()
    assert all(re.search(rule["encrypted_regex"], key) for key in ("data", "stringData"))
    assert not re.search(rule["encrypted_regex"], "metadata")
    assert flux["spec"]["prune"] is False


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
