"""A laptop and the chart's pods describe the same cluster, and it is the one that the chart's objects are."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.cluster.description import Cluster, DescriptionError, Kubernetes, Pod, TlsSettings
from shardmart.declare import chart, release, ring_chart, shop_chart, topology
from shardmart.declare.release import Release
from shardmart.declare.rings import Ring
from shardmart.platforms.state import State

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "inventories" / "topologies"
EMBEDDED_ONLY = {
    FOLDER / "shop-patroni.yml": "postgres_nodes",
    FOLDER / "shop-redis-cluster.yml": "cache",
}
"""The key that Kubernetes refuses in each."""
TOPOLOGIES = [ROOT / "inventories" / "topology.yml", *sorted(set(FOLDER.glob("*.yml")) - set(EMBEDDED_ONLY))]
each_topology = pytest.mark.parametrize("file", TOPOLOGIES, ids=lambda file: file.stem)
SHOP = Release("shop", "shopping", "shop")


def laptop(declared: topology.Topology) -> Cluster:
    return release.describe(chart.document(chart.chart_values(declared), SHOP))


@pytest.mark.parametrize(("said", "spoken"), [({}, True), ({"tls": True}, True), ({"tls": False}, False)])
def test_the_cache_in_pods_speaks_tls_as_the_topology_says(said: dict[str, bool], spoken: bool) -> None:
    declared = topology.load(FOLDER / "tls.yml").model_dump() | {"services": {}, "backends": said}
    shop = laptop(topology.parse(declared, "test")).shop
    assert shop
    assert shop.cache_speaks_tls is spoken
    assert shop.cache_tls is None, "it is a container beside the server, and no process of its own"
    values = shop_chart.shop_values(topology.parse(declared, "test"), "shop")
    assert values["cache"]["tls"]["enabled"] is spoken


@each_topology
def test_kubernetes_and_embedded_differ_only_in_where_servers_are(file: Path) -> None:
    declared = topology.load(file)
    embedded, pods = declared.resolve(), laptop(declared)
    moved = {node.name: (node.host, node.port) for node in embedded.nodes}

    def there(nodes: Any) -> Any:
        changed = (replace(n, host=moved[n.name][0], port=moved[n.name][1], pod=None) for n in nodes)
        return tuple(changed)

    back = replace(
        pods,
        platform="embedded",
        kubernetes=None,
        config_servers=replace(pods.config_servers, members=there(pods.config_servers.members)),
        shards=tuple(replace(shard, members=there(shard.members)) for shard in pods.shards),
        routers=there(pods.routers),
        tls=replace(pods.tls, names=embedded.tls.names),
        shop=embedded.shop,
    )
    assert back == embedded
    assert set(declared.tls.names) <= set(pods.tls.names)


@pytest.mark.parametrize(("file", "key"), EMBEDDED_ONLY.items(), ids=lambda one: getattr(one, "stem", one))
def test_a_topology_that_only_processes_serve_is_refused_by_its_key(file: Path, key: str) -> None:
    with pytest.raises(
        topology.TopologyError,
        match=rf"^backends\.{key}: on Kubernetes the shop has (one server of PostgreSQL: |redis or memory$)",
    ):
        laptop(topology.load(file))


def rendered(tmp_path: Path, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects of a release with these values."""
    if not shutil.which("helm"):
        pytest.skip("helm is not on PATH")
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    values_file = f"--values={tmp_path / 'values.yaml'}"
    command = ["helm", "template", SHOP.name, "helm/sharded-mongodb", f"--namespace={SHOP.namespace}", values_file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def toolbox(objects: list[dict[str, Any]], tmp_path: Path) -> Cluster:
    """What the `shardmart` command of the toolbox reads in its state folder."""
    (found,) = [o for o in objects if o["kind"] == "ConfigMap" and "release.json" in o["data"]]
    (tmp_path / "release.json").write_text(found["data"]["release.json"])
    return State(tmp_path).description()


@each_topology
def test_the_toolbox_describes_what_the_laptop_describes(file: Path, tmp_path: Path) -> None:
    declared = topology.load(file)
    values = chart.chart_values(declared)
    assert toolbox(rendered(tmp_path, values), tmp_path) == laptop(declared)


def test_every_described_pod_is_one_of_a_statefulset_and_every_one_is_described(tmp_path: Path) -> None:
    values = {"fullnameOverride": "store", "routers": {"replicas": 3}, "clusterDomain": "corp.example", "port": 27000}
    objects = rendered(tmp_path, values)
    described = toolbox(objects, tmp_path)
    pods = {
        Pod(f"{o['metadata']['name']}-{n}", o["metadata"]["name"], SHOP.namespace)
        for o in objects
        if o["kind"] == "StatefulSet"
        for n in range(o["spec"]["ordinals"]["start"], o["spec"]["ordinals"]["start"] + o["spec"]["replicas"])
    }
    assert {node.pod for node in described.nodes} == pods
    assert described.name == "store"
    assert described.kubernetes == Kubernetes("shop", SHOP.namespace, "store-toolbox")
    deployments = [o["metadata"]["name"] for o in objects if o["kind"] == "Deployment"]
    assert described.kubernetes.toolbox in deployments
    (router,) = [o for o in objects if o["kind"] == "StatefulSet" and o["metadata"]["name"] == "store-mongos"]
    arguments = router["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--configdb={described.config_servers.connection_string}" in arguments
    assert described.config_servers.addresses[0] == "store-configsvr-1.store-configsvr.shopping.svc.corp.example:27000"


def test_certificate_made_by_the_chart_is_for_the_names_of_the_description(tmp_path: Path) -> None:
    document = yaml.safe_load(TOPOLOGIES[0].read_text())
    document["tls"] = {"mode": "requireTLS", "names": ["db.example", "10.0.0.1"]}
    declared = topology.parse(document, "test")
    objects = rendered(tmp_path, chart.chart_values(declared))
    (job,) = [o for o in objects if o["kind"] == "Job" and o["metadata"]["name"].startswith("shop-secrets")]
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    names = {argument.removeprefix("--dns-name=") for argument in arguments if argument.startswith("--dns-name=")}
    assert names | {"127.0.0.1"} == set(laptop(declared).tls.names) == set(toolbox(objects, tmp_path).tls.names)


def test_every_pod_is_covered_by_the_names_in_the_certificate() -> None:
    described = laptop(topology.load(ROOT / "inventories" / "topologies" / "tls.yml"))
    for node in described.nodes:
        domain = node.host.partition(".")[2]
        assert f"*.{domain}" in described.tls.names, node.host  # a wildcard stands for one label
    assert {"localhost", "127.0.0.1", "shop", "shop.shopping.svc.cluster.local"} <= set(described.tls.names)


def test_chart_gets_what_the_topology_says_of_tls() -> None:
    with_tls = chart.chart_values(topology.load(ROOT / "inventories" / "topologies" / "tls.yml"))["tls"]
    assert with_tls == {"enabled": True, "mode": "requireTLS", "names": [], "validityDays": 90, "renewDays": 30}
    assert laptop(topology.load(ROOT / "inventories" / "topology.yml")).tls == TlsSettings()


def test_document_of_a_newer_chart_is_refused() -> None:
    document = chart.document(chart.chart_values(topology.load(TOPOLOGIES[0])), SHOP)
    with pytest.raises(DescriptionError, match=r"release\.json has version 2, this Shardmart reads 1"):
        release.describe(document | {"version": 2})
    with pytest.raises(DescriptionError, match="lacks 'election'"):
        release.describe({key: value for key, value in document.items() if key != "election"})
    with pytest.raises(DescriptionError, match=r"cannot be understood: .*'region'"):
        release.describe(document | {"release": {"region": "APJ"}})


def shards(*names: str, **more: Any) -> dict[str, Any]:
    """A topology of shards of these names."""
    zones = ["APJ", "EMEA", "LATAM"]
    return {
        "name": "shop",
        "config_servers": {"name": "configReplSet", "members": 1},
        "shards": [{"name": name, "members": 1, "zones": zones} for name in names],
    } | more


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (("mongosReplSet",), "shards[0].name: 'mongosReplSet' becomes 'mongos' on Kubernetes, as another part"),
        (("toolbox",), "shards[0].name: 'toolbox' becomes 'toolbox' on Kubernetes, as another part"),
        (
            ("north_1", "North-1ReplSet"),
            "shards[1].name: 'North-1ReplSet' becomes 'north-1' on Kubernetes, as shards[0]",
        ),
        (("configsvr",), "shards[0].name: 'configsvr' becomes 'configsvr' on Kubernetes, as config_servers.name"),
    ],
)
def test_names_that_meet_on_kubernetes_are_refused_before_anything_is_made(names: tuple[str, ...], line: str) -> None:
    with pytest.raises(topology.TopologyError) as refused:
        chart.chart_values(topology.parse(shards(*names), "test"))
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize("name", ["2shop", "shop.prod", "Shop"])
def test_release_that_begins_no_service_is_refused(name: str) -> None:
    values = chart.chart_values(topology.parse(shards("one"), "test"))
    with pytest.raises(topology.TopologyError, match=f"release: '{name}' names Services"):
        chart.document(values, Release(name, "shop", name))


def test_name_that_is_too_long_for_a_pod_is_refused() -> None:
    values = chart.chart_values(topology.parse(shards("a" * 48), "test"))
    with pytest.raises(topology.TopologyError, match=r"shards\[0\].name: the pod's name shop-a+-1 is longer than 52"):
        chart.document(values, SHOP)


def test_each_member_has_memory_for_its_own_cache(tmp_path: Path) -> None:
    declared = shards("small", "large", cache_mb=256)
    declared["shards"][1]["cache_mb"] = 4096
    parsed = topology.parse(declared, "test")
    objects = rendered(tmp_path, chart.sized_for_a_laptop(chart.chart_values(parsed), parsed))
    limits = {
        o["metadata"]["name"]: o["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        for o in objects
        if o["kind"] == "StatefulSet" and not o["metadata"]["name"].endswith("mongos")
    }
    assert limits == {"shop-configsvr": "768Mi", "shop-small": "768Mi", "shop-large": "8192Mi"}


@pytest.mark.parametrize(
    ("ring", "line"),
    [
        ("shop", "rings[0].name: 'shop' names the ring's release on Kubernetes, as the release of another part does"),
        ("fragments", "rings[0].name: 'fragments' names the ring's release on Kubernetes, as the release of another"),
        ("secrets", "rings[0].name: 'secrets' names the ring's release on Kubernetes, as another part of the chart"),
        ("north-1", "rings[0].name: 'north-1' names the ring's release on Kubernetes, as shards[0].name does"),
    ],
)
def test_ring_whose_release_is_anothers_is_refused_before_anything_is_made(ring: str, line: str) -> None:
    declared = shards("north_1") | {"rings": [{"name": ring, "nodes": 2}]}
    with pytest.raises(topology.TopologyError) as refused:
        chart.chart_values(topology.parse(declared, "test"))
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize("ring", ["ends-with-a-dash-", "a-name-of-thirty-one-characters"])
def test_ring_whose_release_no_cluster_takes_is_refused(ring: str) -> None:
    """The chart would keep 40 characters: two rings of one beginning would be one release's objects."""
    with pytest.raises(
        topology.TopologyError, match=f"rings: '{ring}' makes the release 'shardmart-2026-{ring}' on Kubernetes"
    ):
        ring_chart.as_variable(
            Ring.model_validate({"name": ring, "nodes": 2}), "shardmart-2026", "cluster.local", tls=False
        )
