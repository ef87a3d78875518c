"""`site.yml` on a real kind cluster: from nothing to seeded and verified, twice, safe, on a cluster of its own."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.declare import chart as kind
from shardmart.declare import topology
from tests.support.kind_site import ROOT, KindSite, Made

CLUSTER = {"config-server", "shard", "router", "toolbox"}
COMPONENTS = {*CLUSTER, "loader"}
COMPONENT = "app.kubernetes.io/component"


@pytest.mark.timeout(1500)
def test_site_ends_seeded_verified_and_with_a_way_in(made: Made) -> None:
    made.site.assert_data_complete()
    output = made.played.output
    for member in ("configsvr1", "shard1-3", "shard2-2", "mongos1"):
        assert re.search(rf"{member} +{made.site.name}-\S+ +(PRIMARY|SECONDARY|ROUTER)", output), output
    assert "every member is healthy" in output
    assert f"port-forward service/{made.site.name} 27017" in output
    assert str(made.site.state / "secrets" / "admin.password") in output
    assert "playbooks/destroy.yml" in output


def test_second_run_changes_nothing(site: KindSite) -> None:
    again = site.play("site.yml")
    assert again.code == 0, again.output
    assert set(again.changed.values()) == {0}, again.output


def test_helm_three_finds_nothing_to_change_either(site: KindSite) -> None:
    checked = site.play("playbooks/provision.yml", "--check", "--diff", "-e", "chart_helm=helm3")
    assert checked.code == 0, checked.output
    assert set(checked.changed.values()) == {0}, checked.output


def test_namespace_enforces_pod_security_restricted(site: KindSite) -> None:
    refused = site.run(
        "sh", "-c", f"kubectl -n {site.name} run intruder --image=none --privileged --dry-run=server 2>&1", accept=(1,)
    )
    assert 'violates PodSecurity "restricted:latest"' in refused


def secrets_of(site: KindSite) -> dict[str, str]:
    """Every secret value of the site, and each in the base 64 that Kubernetes stores."""
    values = {file.name: file.read_text().strip() for file in (site.state / "secrets").iterdir()}
    values["keyfile"] = values["keyfile"].split()[0]
    encoded = {f"{name} in base 64": base64.b64encode(value.encode()).decode()[:40] for name, value in values.items()}
    return values | encoded


def test_no_secret_is_told(site: KindSite) -> None:
    secrets = secrets_of(site)
    assert len(secrets) >= 10
    where = {
        "kubectl describe": site.kubectl(
            "describe", "all,secrets,configmaps,pvc,networkpolicies,serviceaccounts,events"
        ),
        "helm get values": site.run("helm", "get", "values", site.name, "--namespace", site.name, "--all"),
        "helm get manifest": site.run("helm", "get", "manifest", site.name, "--namespace", site.name),
        "helm get hooks": site.run("helm", "get", "hooks", site.name, "--namespace", site.name),
    }
    for pod in site.get("pods", "--field-selector=status.phase=Running"):
        name = pod["metadata"]["name"]
        read = "for f in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do tr '\\0' '\\n' < $f 2>/dev/null; done; true"
        where[f"processes of {name}"] = site.kubectl("exec", name, "--", "sh", "-c", read)
        assert "/bin" in where[f"processes of {name}"], "the processes were read"
        where[f"log of {name}"] = site.kubectl("logs", name)
    for place, text in where.items():
        for name, value in secrets.items():
            assert value not in text, f"{name} is told by {place}"


def matching(peer: dict[str, Any], pods: list[dict[str, Any]]) -> set[str]:
    """Components of the pods that a podSelector matches."""
    wanted = peer["podSelector"].get("matchLabels", {}).items()
    assert "matchExpressions" not in peer["podSelector"]
    return {
        pod["metadata"]["labels"][COMPONENT]
        for pod in pods
        if wanted <= pod["metadata"]["labels"].items() and COMPONENT in pod["metadata"]["labels"]
    }


def test_network_policies_select_the_pods_that_exist(site: KindSite) -> None:
    pods = site.get("pods", f"--selector=app.kubernetes.io/instance={site.name},app.kubernetes.io/name=sharded-mongodb")
    assert {pod["metadata"]["labels"][COMPONENT] for pod in pods} == COMPONENTS
    callers, called, guarded = {}, {}, []
    for policy in site.get("networkpolicies"):
        spec = policy["spec"]
        selected = matching(spec, pods)
        if selected:  # the bootstrap's policy waits for pods of the chart's own Job
            assert len(selected) == 1
            guarded += selected
            component = selected.pop()
            assert spec["policyTypes"] == ["Ingress", "Egress"]
            rules = [rule for rule in spec.get("ingress", []) if "from" in rule]
            callers[component] = {found for rule in rules for peer in rule["from"] for found in matching(peer, pods)}
            called[component] = {
                found
                for rule in spec["egress"]
                for peer in rule["to"]
                if "namespaceSelector" not in peer
                for found in matching(peer, pods)
            }
            dns = [rule for rule in spec["egress"] if "namespaceSelector" in rule["to"][0]]
            labels = dns[0]["to"][0]["podSelector"]["matchLabels"]
            found = ",".join(f"{key}={value}" for key, value in labels.items())
            assert site.get("pods", "--namespace=kube-system", f"--selector={found}"), "no DNS server is reached"
    assert sorted(guarded) == sorted(COMPONENTS), "every component has one policy"
    members = {"config-server", "shard"}
    assert callers["config-server"] == callers["shard"] == CLUSTER, "members are called by the cluster"
    assert callers["router"] == COMPONENTS, "routers are called by every pod of the namespace"
    assert callers["toolbox"] == set(), "nobody calls the toolbox"
    assert called["config-server"] == called["shard"] == called["router"] == members
    assert called["toolbox"] == {*members, "router"}
    assert called["loader"] == {"router"}
    assert callers["loader"] == set()


@pytest.mark.parametrize("name", ["topology.yml", "topologies/small.yml", "topologies/large.yml"])
def test_every_topology_renders_to_valid_objects(name: str, tmp_path: Path) -> None:
    declared = topology.load(ROOT / "inventories" / name)
    values = tmp_path / "values.json"
    values.write_text(json.dumps(kind.chart_values(declared)))
    rendered = tmp_path / "rendered.yaml"
    with rendered.open("w") as output:
        chart = ["helm", "template", declared.name, "helm/sharded-mongodb", "--values", str(values)]
        subprocess.run(chart, cwd=ROOT, stdout=output, check=True)
    schemas = "helm/schemas/{{ .ResourceKind }}{{ .KindSuffix }}.json"
    subprocess.run(["kubeconform", "-strict", "-schema-location", schemas, str(rendered)], cwd=ROOT, check=True)
    sets = [o for o in yaml.safe_load_all(rendered.read_text()) if o and o["kind"] == "StatefulSet"]
    pods = {o["metadata"]["labels"][COMPONENT]: 0 for o in sets}
    for found in sets:
        pods[found["metadata"]["labels"][COMPONENT]] += found["spec"]["replicas"]
    assert pods == {
        "config-server": len(declared.config_servers.members),
        "shard": sum(len(shard.members) for shard in declared.shards),
        "router": declared.routers.count,
    }


def test_rendered_objects_are_accepted_by_the_api_server(site: KindSite, tmp_path: Path) -> None:
    switches = {
        "tls": {"enabled": True},
        "member": {"antiAffinity": "hard", "podAnnotations": {"a": "b"}, "extraEnv": [{"name": "A", "value": "b"}]},
        "routers": {"replicas": 3, "service": {"type": "NodePort", "nodePort": 30017}},
        "commonLabels": {"team": "shop"},
        "imagePullSecrets": [{"name": "registry"}],
        "preflight": {"enabled": False},  # a Pod: the server would not accept it before its service account is there
    }
    values = tmp_path / "values.json"
    values.write_text(json.dumps(switches))
    for helm in ("helm", "helm3"):
        # Without the test's Pod, for the same reason.
        arguments = ("--namespace", site.name, "--values", str(values), "--kube-version=1.34", "--skip-tests")
        rendered = site.run(helm, "template", "other", "helm/sharded-mongodb", *arguments)
        accepted = site.kubectl("apply", "--dry-run=server", "--filename=-", text=rendered)
        for wanted in ("statefulset.apps/other-shard1", "networkpolicy.networking.k8s.io/other-shard", "job.batch/"):
            assert wanted in accepted


def test_cluster_of_the_same_name_that_is_not_ours_is_refused(site: KindSite) -> None:
    site.kubectl("label", "nodes", "--all", "shardmart/made-by-")
    try:
        for playbook, arguments in (("site.yml", ()), ("playbooks/destroy.yml", ("-e", "destroy_data=true"))):
            refused = site.play(playbook, *arguments)
            assert refused.code == 2
            assert f"kind cluster {site.name} exists and was not made by this project" in " ".join(
                refused.output.split()
            )
        assert site.name in site.run("kind", "get", "clusters").split()
    finally:
        site.kubectl("label", "nodes", "--all", "shardmart/made-by=site.yml")
