"""The chart without Ansible: `helm install --wait` alone gives a working cluster (Helm 3; site.yml takes Helm 4)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clusters import known_access
from tests.support.kind_site import KindSite, Made

NAME = "alone"


@pytest.fixture(scope="module")
def release(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindSite]:
    """A release of one-member sets in a namespace of its own, installed by `helm install --wait` and nothing else."""
    site = made.site
    images = {
        container["name"]: container["image"].split(":")
        for pod in site.get("pods")
        for container in pod["spec"]["containers"]
    }
    values = {
        "image": dict(zip(("repository", "tag"), images["mongod"], strict=True)),
        "toolbox": {"image": dict(zip(("repository", "tag"), images["toolbox"], strict=True))},
        "configServers": {"members": 1},
        "shards": [
            {"name": "shard1", "members": 1, "zones": ["APJ", "EMEA"]},
            {"name": "shard2", "members": 1, "zones": ["EMEA", "LATAM"]},
        ],
        "member": {
            "resources": {"requests": {"cpu": "30m", "memory": "128Mi"}, "limits": {"memory": "768Mi"}},
            "storage": {"size": "1Gi"},
        },
        "routers": {"replicas": 1, "resources": {"requests": {"cpu": "30m", "memory": "64Mi"}}},
    }
    file = tmp_path_factory.mktemp("values") / "values.json"
    file.write_text(json.dumps(values))
    alone = KindSite(tmp_path_factory.mktemp("alone"), NAME)
    alone.kubeconfig = site.kubeconfig
    alone.run("kubectl", "create", "namespace", NAME)
    alone.kubectl("label", "namespace", NAME, "pod-security.kubernetes.io/enforce=restricted")
    helm(alone, "install", file)
    try:
        yield alone
    finally:
        alone.run("kubectl", "delete", "namespace", NAME, "--wait=false")


def helm(site: KindSite, verb: str, values: Path) -> str:
    command = ("helm3", verb, NAME, "helm/sharded-mongodb", "--namespace", NAME, "--values", str(values))
    return site.run(*command, "--wait", "--timeout", "10m")


def test_install_alone_gives_a_working_cluster(release: KindSite) -> None:
    status = json.loads(release.toolbox("shardmart", "status", "--json"))
    assert status["problems"] == []
    assert [s["name"] for s in status["sharding"]["shards"]] == ["shard1ReplSet", "shard2ReplSet"]
    assert {c["namespace"] for c in status["sharding"]["collections"]} == {
        "ecommerce.orders",
        "ecommerce.products",
        "ecommerce.users",
    }
    assert release.run("helm3", "test", NAME, "--namespace", NAME)
    loaded = release.toolbox("shardmart", "load", "--state=/state", "--users=3", "--json")
    assert json.loads(loaded)["written"] > 0


def test_secrets_are_made_in_the_cluster_and_helm_never_sees_them(release: KindSite, tmp_path: Path) -> None:
    secret = json.loads(release.kubectl("get", "secret", f"{NAME}-auth", "-o", "json"))
    values = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    assert set(known_access().secrets) <= set(values)
    stored = release.kubectl("get", "secrets", "--selector=owner=helm", "-o", "json")
    rendered = release.run("helm3", "get", "all", NAME, "--namespace", NAME)
    for value in values.values():
        assert value.strip() not in stored + rendered

    # An upgrade keeps them, and an unchanged release is not bootstrapped again.
    jobs = {job["metadata"]["name"] for job in release.get("jobs")}
    file = tmp_path / "values.json"
    file.write_text(release.run("helm3", "get", "values", NAME, "--namespace", NAME, "--output", "json"))
    helm(release, "upgrade", file)
    again = json.loads(release.kubectl("get", "secret", f"{NAME}-auth", "-o", "json"))
    assert again["data"] == secret["data"]
    assert {job["metadata"]["name"] for job in release.get("jobs")} == jobs


def test_uninstalling_keeps_volumes_and_secrets(release: KindSite) -> None:
    release.run("helm3", "uninstall", NAME, "--namespace", NAME, "--wait")
    assert len(release.get("pvc")) == 3
    assert release.get("secret", f"--field-selector=metadata.name={NAME}-auth")
    assert not release.get("statefulset,deployment,service,networkpolicy,poddisruptionbudget")
