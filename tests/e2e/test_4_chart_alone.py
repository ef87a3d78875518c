"""The chart without Ansible: `helm install --wait` alone gives a working cluster (Helm 3; site.yml takes Helm 4)."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.clusters import known_access
from tests.support.kind_site import ROOT, KindSite, Made

NAME = "alone"
MEMBER = {
    "resources": {"requests": {"cpu": "30m", "memory": "128Mi"}, "limits": {"memory": "768Mi"}},
    "storage": {"size": "1Gi"},
}
ROOM = "shardmart.example.org/room"
"""A node's label that no node has until a test sets it."""


@pytest.fixture(scope="module")
def release(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindSite]:
    with installed(made.site, tmp_path_factory.mktemp("alone"), NAME) as alone:
        yield alone


@contextmanager
def installed(
    site: KindSite, folder: Path, name: str, secret: str = "", wait: bool = True, **more: Any
) -> Iterator[KindSite]:
    """A release of one-member sets in a namespace of its own, installed by `helm install --wait` and nothing else.

    `secret` is a manifest that is applied before, `more` are more values. Without `wait` nothing may run yet.
    """
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
        "member": MEMBER,
        "routers": {"replicas": 1, "resources": {"requests": {"cpu": "30m", "memory": "64Mi"}}},
    }
    file = folder / "values.json"
    file.write_text(json.dumps(values | more))
    alone = KindSite(folder, name)
    alone.kubeconfig = site.kubeconfig
    alone.run("kubectl", "create", "namespace", name)
    alone.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    if secret:
        alone.kubectl("apply", "-f", "-", text=secret)
    try:
        helm(alone, "install", file, wait)
        yield alone
    finally:
        alone.run("kubectl", "delete", "namespace", name, "--wait=false")


def helm(site: KindSite, verb: str, values: Path, wait: bool = True) -> str:
    command = ("helm3", verb, site.name, "helm/sharded-mongodb", "--namespace", site.name, "--values", str(values))
    return site.run(*command, *(("--wait", "--timeout", "10m") if wait else ()))


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


@dataclass
class Patient:
    """A release whose members had no node for two minutes, and what was seen in that time."""

    site: KindSite
    printed: str
    given: dict[str, str]
    job: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def patient(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """Its Secret went through SOPS where that is installed; else it is what `shardmart render secret` prints."""
    name, folder = "patient", tmp_path_factory.mktemp("patient")
    what = ("secret", "inventories/topology.yml", f"--namespace={name}", f"--name={name}-auth")
    printed = made.site.run("shardmart", "render", *what)
    manifest = through_sops(made.site, folder, printed) if shutil.which("sops") else printed
    more = {"auth": {"existingSecret": f"{name}-auth"}, "member": MEMBER | {"nodeSelector": {ROOM: "yes"}}}
    with installed(made.site, folder, name, secret=manifest, wait=False, **more) as site:

        def bootstrap() -> dict[str, Any]:
            (job,) = site.get("job", "--selector=app.kubernetes.io/component=bootstrap")
            return job

        begun = time.monotonic()
        # An attempt was over after replica_set_wait_seconds, 90, once.
        site.wait(
            "an attempt of two minutes", lambda: bootstrap()["status"]["active"] and time.monotonic() - begun > 120
        )
        job, said = bootstrap(), site.toolbox("shardmart", "status", "--json", accept=(0, 1, 2, 3))
        site.run("kubectl", "label", "node", "--all", f"{ROOM}=yes")
        try:
            site.wait("the bootstrap", lambda: bootstrap()["status"].get("succeeded"), seconds=900)
            given = yaml.safe_load(manifest)["stringData"]
            yield Patient(site, printed, given, job | {"ended": bootstrap()["status"]}, said)
        finally:
            site.run("kubectl", "label", "node", "--all", f"{ROOM}-")


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_pod_without_a_node_is_waited_for_and_named_and_no_attempt_fails(patient: Patient) -> None:
    assert (patient.job["status"].get("active"), patient.job["status"].get("failed", 0)) == (1, 0)
    assert patient.job["ended"].get("failed", 0) == 0, "waiting is not failing"
    assert "no such name: a pod that no node has room for has none" in patient.said
    assert json.loads(patient.site.toolbox("shardmart", "status", "--json"))["problems"] == []


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_secret_that_was_kept_in_git_encrypted_is_what_the_cluster_runs_with(patient: Patient) -> None:
    assert patient.given == yaml.safe_load(patient.printed)["stringData"]
    (secret,) = patient.site.get("secret", f"--field-selector=metadata.name={patient.site.name}-auth")
    assert {key: base64.b64decode(value).decode() for key, value in secret["data"].items()} == patient.given
    assert not [job for job in patient.site.get("jobs") if job["metadata"]["name"].endswith("-secrets")]


def through_sops(site: KindSite, folder: Path, manifest: str) -> str:
    """The manifest encrypted as k8s/gitops/secrets/sops.yaml says, and decrypted again."""
    key = folder / "keys.agekey"
    site.run("age-keygen", "-o", str(key))
    public = site.run("age-keygen", "-y", str(key)).strip()
    rules = (ROOT / "k8s" / "gitops" / "secrets" / "sops.yaml").read_text()
    (folder / ".sops.yaml").write_text(re.sub(r"age: \S+", f"age: {public}", rules))
    rule = ("--config", str(folder / ".sops.yaml"))
    override = ("--filename-override", "k8s/gitops/secrets/production/auth.yaml")
    encrypted = folder / "auth.yaml"
    encrypted.write_text(site.run("sops", *rule, "encrypt", *override, text=manifest))
    assert set(yaml.safe_load(encrypted.read_text())["stringData"]) == set(yaml.safe_load(manifest)["stringData"])
    assert not [v for v in yaml.safe_load(manifest)["stringData"].values() if v in encrypted.read_text()]
    return site.run("env", f"SOPS_AGE_KEY_FILE={key}", "sops", "decrypt", str(encrypted))
