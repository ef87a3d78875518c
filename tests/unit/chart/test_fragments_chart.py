"""Claims of helm/fragments: commands accept the configuration it makes, nodes run the parameters of the embedded ones,
each pod holds its own secrets, and a laptop's commands find their pod."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart import fragments_pods
from shardmart.cluster.description import Cluster
from shardmart.declare import chart, fragments_chart, release, topology
from shardmart.declare.release import Release
from shardmart.errors import UnreachableError
from shardmart.fragments import configuration
from shardmart.platforms import postgres

ROOT = Path(__file__).parents[3]
TOPOLOGY = ROOT / "inventories" / "topology.yml"
NAMESPACE = "shopping"


def described(declared: topology.Topology, cluster: str) -> Cluster:
    place = Release(cluster, NAMESPACE, cluster)
    return release.describe(chart.document(chart.chart_values(declared), place))


def rendered(tmp_path: Path, **more: Any) -> list[dict[str, Any]]:
    """The objects of the chart with the values of the topology beside the cluster "store"."""
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    values = fragments_chart.sized_for_a_laptop(fragments_chart.fragments_values(topology.load(TOPOLOGY), "store"))
    (tmp_path / "values.json").write_text(json.dumps(values | more))
    command = ["helm", "template", "store-fragments", "helm/fragments", f"--namespace={NAMESPACE}"]
    done = subprocess.run(
        [*command, f"--values={tmp_path}/values.json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The chart beside the cluster "store": rendered once, because Helm takes its time."""
    return rendered(tmp_path_factory.mktemp("values"))


def named(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def files(objects: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = named(objects, "ConfigMap", "store-fragments-configuration")["data"]
    return found


def mounted(pod: dict[str, Any]) -> set[str]:
    """Names of the secrets that a pod has in its files."""
    sources = [s for v in pod["volumes"] for s in v.get("projected", {}).get("sources", [])]
    return {item["path"].removeprefix("secrets/") for s in sources if "secret" in s for item in s["secret"]["items"]}


def parameters(text: str) -> dict[str, str]:
    """The parameters of a postgresql.conf; the last of two counts, as PostgreSQL has it."""
    return dict(line.split(" = ", 1) for line in text.splitlines() if line.strip() and not line.startswith("#"))


def test_commands_accept_the_configuration_and_find_both_stores(tmp_path: Path, objects: list[dict[str, Any]]) -> None:
    path = tmp_path / "fragments.json"
    found = configuration.parse(json.loads(files(objects)["fragments.json"]), path)
    declared = topology.load(TOPOLOGY)
    assert [node.name for node in found.nodes] == [name for name, _ in declared.fragments.servers()]
    assert found.catch_all == declared.fragments.catch_all
    served = {
        (f"{o['metadata']['name']}.{NAMESPACE}.svc.cluster.local", o["spec"]["ports"][0]["port"])
        for o in objects
        if o["kind"] == "Service"
    }
    assert {(node.host, node.port) for node in found.nodes} == served
    assert found.mongodb == (",".join(router.address for router in described(declared, "store").routers), None)
    assert found.secrets == tmp_path / "secrets"


def test_nodes_run_with_the_parameters_of_the_embedded_platform(tmp_path: Path, objects: list[dict[str, Any]]) -> None:
    server = postgres.Server("APJ", 5432, "postgres", tmp_path / "none", postgres.Host(tmp_path))
    embedded = {key: value for key, value in server.settings.items() if key != "listen_addresses"}
    found = parameters(files(objects)["postgresql.conf"])
    assert found == embedded | {"listen_addresses": "'*'", "port": "5432"}


def test_the_data_folder_is_made_with_the_options_of_the_embedded_platform() -> None:
    script = (ROOT / "helm" / "fragments" / "files" / "start-node.sh").read_text()
    made = (ROOT / "src" / "shardmart" / "platforms" / "postgres" / "servers.py").read_text()
    for option in ("--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"):
        assert f'"{option}"' in made
        assert option in script


def test_another_parameter_replaces_the_pods(tmp_path: Path, objects: list[dict[str, Any]]) -> None:
    def annotation(rendering: list[dict[str, Any]]) -> str:
        template = named(rendering, "StatefulSet", "store-fragments-apj")["spec"]["template"]
        return str(template["metadata"]["annotations"]["shardmart/configuration"])

    assert annotation(rendered(tmp_path, node={"parameters": {"work_mem": "8MB"}})) != annotation(objects)


def test_each_pod_holds_the_secrets_it_uses_and_no_others(tmp_path: Path, objects: list[dict[str, Any]]) -> None:
    every = set(configuration.PASSWORDS.values())
    node = named(objects, "StatefulSet", "store-fragments-emea")["spec"]["template"]["spec"]
    assert mounted(node) == {configuration.PASSWORDS[configuration.ADMIN]}
    repair = named(objects, "Deployment", "store-fragments-repair")["spec"]["template"]["spec"]
    assert mounted(repair) == every
    alone = rendered(tmp_path, mongodb={"enabled": False})
    repair = named(alone, "Deployment", "store-fragments-repair")["spec"]["template"]["spec"]
    assert mounted(repair) == every - {configuration.PASSWORDS["mongodb"]}
    assert "mongodb" not in json.loads(files(alone)["fragments.json"])


def test_with_tls_commands_know_the_clusters_authority(tmp_path: Path) -> None:
    declared = topology.load(ROOT / "inventories" / "topologies" / "tls.yml")
    objects = rendered(tmp_path, **fragments_chart.fragments_values(declared, "store"))
    assert json.loads(files(objects)["fragments.json"])["mongodb"]["ca_file"] == "/state/tls/ca.pem"
    assert "tls/ca.pem" in mounted(named(objects, "Deployment", "store-fragments-repair")["spec"]["template"]["spec"])


def test_nodes_speak_tls_where_the_cluster_does_unless_the_topology_says_otherwise(tmp_path: Path) -> None:
    declared = topology.load(ROOT / "inventories" / "topologies" / "tls.yml")
    objects = rendered(tmp_path, **fragments_chart.fragments_values(declared, "store"))
    assert files(objects)["pg_hba.conf"] == "hostssl all all all scram-sha-256\n"
    document = json.loads(files(objects)["fragments.json"])
    stores = configuration.parse(document, Path("/state/fragments.json"))
    checked = {"sslmode": "verify-full", "sslcertmode": "disable"}
    assert stores.encrypted() == checked | {"sslrootcert": "/state/tls/fragments-ca.pem"}
    assert stores.encrypted(from_node=True) == checked | {"sslrootcert": "/etc/postgres/tls/ca.pem"}
    node = named(objects, "StatefulSet", "store-fragments-emea")["spec"]["template"]["spec"]
    assert {"tls/server.pem", "tls/ca.pem"} <= mounted(node)
    repair = named(objects, "Deployment", "store-fragments-repair")["spec"]["template"]["spec"]
    assert "tls/fragments-ca.pem" in mounted(repair)
    plain = declared.model_copy(update={"fragments": declared.fragments.model_copy(update={"tls": False})})
    assert fragments_chart.fragments_values(plain, "store")["tls"] == {"enabled": False}
    assert fragments_chart.fragments_values(topology.load(TOPOLOGY), "store")["tls"] == {"enabled": False}


def test_a_cluster_whose_name_leaves_no_room_is_refused() -> None:
    with pytest.raises(topology.TopologyError, match="is too long for a release beside it"):
        fragments_chart.fragments_values(topology.load(TOPOLOGY), "a" * 31)


KUBECTL = """#!/bin/sh
echo "$@" > {said}
{body}
"""


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that describes a cluster of pods, and a kubectl that only says what it was asked."""
    cluster = described(topology.load(TOPOLOGY), "store")
    (tmp_path / "cluster.json").write_text(json.dumps(cluster.as_document()))
    (tmp_path / "kubeconfig").touch()
    monkeypatch.setenv("SHARDMART_STATE", str(tmp_path))
    monkeypatch.delenv("SHARDMART_FRAGMENTS", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def answers(laptop: Path, body: str) -> None:
    (laptop / "kubectl").write_text(KUBECTL.format(said=laptop / "said", body=body))
    (laptop / "kubectl").chmod(0o755)


def test_a_laptops_command_runs_in_the_pod_of_the_repair(
    laptop: Path, objects: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    answers(laptop, "echo '{\"problems\": []}'; echo slow >&2; echo command terminated with exit code 4 >&2; exit 4")
    assert fragments_pods.main(["crud", "product", "p 1", "--store=mongodb"]) == 4
    captured = capsys.readouterr()
    assert captured.out == '{"problems": []}\n'
    assert captured.err == "slow\n"
    words = (laptop / "said").read_text().split()
    deployment = named(objects, "Deployment", words[words.index("--") - 1].removeprefix("deploy/"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert f"--container={container['name']}" in words
    assert f"--namespace={NAMESPACE}" in words
    assert " ".join(words).endswith("-- shardmart fragments crud product p 1 --store=mongodb")


def test_without_that_pod_it_says_what_to_run(laptop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers(laptop, 'echo "Error from server (NotFound): deployments.apps not found" >&2; exit 1')
    assert fragments_pods.main(["status"]) == UnreachableError.exit_code
    assert "run playbooks/fragments.yml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "said",
    [
        "Unable to connect to the server: dial tcp 127.0.0.1:6443: connect: connection refused",
        'Error from server (Forbidden): pods "store" is forbidden: User "x" cannot create resource "pods/exec"',
        "error: timed out waiting for the condition",
    ],
)
def test_where_kubectl_fails_itself_the_nodes_are_not_reached(
    laptop: Path, capsys: pytest.CaptureFixture[str], said: str
) -> None:
    """Not 1, which says that the nodes were looked at and are not well."""
    answers(laptop, f"echo '{said}' >&2; exit 1")
    assert fragments_pods.main(["status"]) == UnreachableError.exit_code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "says", ["echo error: unexpected EOF >&2", "echo placed; echo error: no >&2", "echo asked >&2; echo error: no >&2"]
)
def test_a_command_that_kubectl_lost_may_have_done_its_work(
    laptop: Path, capsys: pytest.CaptureFixture[str], says: str
) -> None:
    """Not 3, after which a person would place the order again."""
    answers(laptop, f"{says}; exit 1")
    assert fragments_pods.main(["crud", "place-order"]) == 1
    assert "may have done its work: look before you run it again" in capsys.readouterr().err


def test_what_a_command_says_is_not_taken_for_kubectls_words(laptop: Path) -> None:
    answers(laptop, "echo 'error: rows differ' >&2; echo command terminated with exit code 1 >&2; exit 1")
    assert fragments_pods.main(["status"]) == 1


@pytest.mark.parametrize("words", [["layout"], ["--help"], ["status", "--configuration=x.json"]])
def test_what_asks_no_pod_runs_here(laptop: Path, words: list[str]) -> None:
    assert fragments_pods.invocation_beside(words) is None


def test_beside_an_embedded_cluster_it_runs_here(laptop: Path) -> None:
    cluster = topology.load(TOPOLOGY).resolve()
    (laptop / "cluster.json").write_text(json.dumps(cluster.as_document()))
    assert fragments_pods.invocation_beside(["status"]) is None
