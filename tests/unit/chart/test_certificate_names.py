"""The certificate that site.yml makes for kind is for every address that members and clients use there."""

from __future__ import annotations

from pathlib import Path

from shardmart.declare import topology
from shardmart.declare.chart import Release, chart_values

ROOT = Path(__file__).parents[3]


def test_every_pod_is_covered_by_the_names_in_the_certificate() -> None:
    declared = topology.load(ROOT / "inventories" / "topologies" / "tls.yml")
    release = Release("shop", "shopping")
    cluster = declared.resolve("kind", release.addresses(declared), release.server_names(declared))
    names = cluster["tls"]["names"]
    servers = [m for s in (cluster["config_servers"], *cluster["shards"]) for m in s["members"]] + cluster["routers"]
    for host in [server["host"] for server in servers]:
        domain = host.partition(".")[2]
        assert f"*.{domain}" in names, host  # a wildcard stands for one label
    assert {"localhost", "127.0.0.1", "shop", "shop.shopping.svc.cluster.local"} <= set(names)


def test_chart_gets_what_the_topology_says_of_tls() -> None:
    with_tls = chart_values(topology.load(ROOT / "inventories" / "topologies" / "tls.yml"))["tls"]
    assert with_tls == {"enabled": True, "validityDays": 90, "renewDays": 30}
    assert chart_values(topology.load(ROOT / "inventories" / "topology.yml"))["tls"]["enabled"] is False
