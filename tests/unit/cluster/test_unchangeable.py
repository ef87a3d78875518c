"""What cannot change on a cluster that is there is refused by the key of the topology, before anything changes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster.converge.unchangeable import refuse_changes
from shardmart.cluster.errors import ClusterError
from shardmart.cluster.host.processes import Process, remember
from shardmart.declare import chart, release, topology
from shardmart.platforms import embedded
from shardmart.platforms.embedded_shop import converge
from tests.support.modules import run_module

DECLARED: dict[str, Any] = {
    "name": "shop",
    "config_servers": {"name": "configReplSet", "members": 1, "port": 27101},
    "shards": [
        {"name": "shard1ReplSet", "members": 3, "port": 27201, "zones": ["APJ", "EMEA"]},
        {"name": "shard2ReplSet", "members": 1, "port": 27301, "zones": ["EMEA", "LATAM"]},
    ],
    "routers": {"count": 1, "port": 27017},
}


def changed(*path: str | int, to: Any) -> topology.Topology:
    document = copy.deepcopy(DECLARED)
    place: Any = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = to
    return topology.parse(document, "test")


BEFORE = topology.parse(DECLARED, "test")


@pytest.mark.parametrize(
    ("after", "line"),
    [
        (
            changed("shards", 0, "port", to=28201),
            "shards[0].port: shard1-1 runs at 127.0.0.1:27201 and its set knows it",
        ),
        (changed("config_servers", "port", to=28101), "config_servers.port: config-1 runs at 127.0.0.1:27101"),
        (changed("config_servers", "name", to="otherReplSet"), "config_servers.name: the cluster's config servers are"),
        (
            changed("shards", 1, "member_name", to="south{n}"),
            "shards[1].member_name: shard2-1 runs at 127.0.0.1:27301 with its data, the topology calls it south1",
        ),
        (changed("shards", 1, "name", to="southReplSet"), "shards: shard2ReplSet is a shard of the cluster, with doc"),
        (
            changed("shards", to=[DECLARED["shards"][0] | {"zones": ["APJ", "EMEA", "LATAM"]}]),
            "shards: shard2ReplSet is a shard of the cluster, with documents, and the topology has it no more",
        ),
    ],
)
def test_change_is_refused_by_its_key(after: topology.Topology, line: str) -> None:
    with pytest.raises(ClusterError) as refused:
        refuse_changes(BEFORE.resolve(), after.resolve())
    assert str(refused.value).startswith(line)


def shop(tmp_path: Path, **backends: str | int) -> topology.Topology:
    return topology.parse(DECLARED | {"services": {}, "backends": backends}, str(tmp_path / "shop.yml"))


def test_a_shop_s_store_stays_where_its_orders_are_and_the_rest_may_change(tmp_path: Path) -> None:
    before, after = shop(tmp_path).resolve(), shop(tmp_path, store="postgres").resolve()
    with pytest.raises(ClusterError, match=r"^backends\.store: the shop's orders are in mongodb, the topology"):
        refuse_changes(before, after)
    with pytest.raises(ClusterError, match=r"^backends\.store: the shop's orders are in postgres, the topology"):
        refuse_changes(after, before)
    for allowed in (BEFORE, shop(tmp_path, event_log="kafka"), shop(tmp_path, cache="memory")):
        refuse_changes(before, allowed.resolve())
    refuse_changes(BEFORE.resolve(), after)


def test_a_shop_s_store_is_moved_to_postgresql_when_that_is_asked_for_and_nowhere_else(tmp_path: Path) -> None:
    on_mongodb, on_postgres = shop(tmp_path).resolve(), shop(tmp_path, store="postgres").resolve()
    refuse_changes(on_mongodb, on_postgres, moves_store=True)
    refuse_changes(on_postgres, on_postgres, moves_store=True)
    there = shop(tmp_path, store="postgres", postgres_host="db.example", postgres_flavour="citus").resolve()
    for before, after, line in (
        (
            on_postgres,
            on_mongodb,
            "backends.store: the shop's orders are in postgres, the topology says mongodb: they are",
        ),
        (BEFORE.resolve(), on_postgres, "backends.store: there is no shop whose store could be moved"),
        (
            shop(tmp_path, event_log="kafka").resolve(),
            on_postgres,
            "backends.store: the shop's events are followed on K",
        ),
        (on_mongodb, there, "backends.postgres_flavour: a store is moved to plain PostgreSQL, and nobody"),
    ):
        with pytest.raises(ClusterError) as refused:
            refuse_changes(before, after, moves_store=True)
        assert str(refused.value).startswith(line)
        assert "\n" not in str(refused.value)


def test_one_server_of_the_store_does_not_become_three_nor_three_one(tmp_path: Path) -> None:
    one, three = (shop(tmp_path, store="postgres", postgres_nodes=n).resolve() for n in (1, 3))
    with pytest.raises(ClusterError, match=r"^backends\.postgres_nodes: the shop's orders are on 1 of .* says 3: they"):
        refuse_changes(one, three)
    with pytest.raises(ClusterError, match=r"^backends\.postgres_nodes: the shop's orders are on 3 of .* says 1: they"):
        refuse_changes(three, one)
    refuse_changes(three, three)


def test_a_store_on_our_server_does_not_go_to_a_given_one_nor_back(tmp_path: Path) -> None:
    ours = shop(tmp_path, store="postgres").resolve()
    given, renamed = (
        shop(tmp_path, store="postgres", postgres_host=host).resolve() for host in ("db.example", "db2.x")
    )
    for before, after in ((ours, given), (given, ours)):
        with pytest.raises(ClusterError, match=r"^backends\.postgres_host: the shop's orders are on .*, the topology"):
            refuse_changes(before, after)
    refuse_changes(given, renamed)  # nobody knows whether it is another server
    products = [
        shop(tmp_path, catalogue="postgres", **more).resolve() for more in ({}, {"postgres_host": "db.example"})
    ]
    refuse_changes(*products)  # they are copied anew


def test_tls_of_what_a_shop_that_runs_asks_is_not_switched(tmp_path: Path) -> None:
    plain = shop(tmp_path, store="postgres").resolve()
    assert plain.shop
    spoken = replace(plain, shop=replace(plain.shop, backends=replace(plain.shop.backends, tls=True)))
    converge.refuse_switched_tls(plain, spoken, tmp_path)  # nothing runs
    folder = tmp_path / "shop" / "run"
    folder.mkdir(parents=True)
    command = (sys.executable, "-c", "import sys; sys.stdin.read()", "--config", str(tmp_path / "cache-1.conf"))
    with subprocess.Popen(command, stdin=subprocess.PIPE) as running:
        process = Process("cache-1", command, "", 0, command[-1], folder / "cache-1.pid", tmp_path / "cache-1.log")
        process.pid_file.write_text(f"{running.pid}\n")
        remember(process)
        with pytest.raises(
            ClusterError, match=r"^backends\.tls: cache-1 runs, of a shop without TLS .*`backends: {tls"
        ):
            converge.refuse_switched_tls(plain, spoken, tmp_path)
        with pytest.raises(
            ClusterError, match=r"^backends\.tls: cache-1 runs, of a shop with TLS .* keeps the data\)$"
        ):
            converge.refuse_switched_tls(spoken, plain, tmp_path)
        converge.refuse_switched_tls(spoken, spoken, tmp_path)
        assert spoken.shop
        nothing = replace(spoken, shop=replace(spoken.shop, cache=None, postgres=None))
        converge.refuse_switched_tls(plain, nothing, tmp_path)  # what has neither has nothing to switch
        running.communicate()


@pytest.mark.parametrize(
    "after",
    [
        changed("routers", "port", to=27500),
        changed("shards", 1, "members", to=3),
        changed("shards", to=[*DECLARED["shards"], {"name": "shard3ReplSet", "members": 1, "port": 27401}]),
        changed("election", to={"timeout_ms": 2000, "heartbeat_ms": 500}),
    ],
)
def test_what_may_change_is_let_through(after: topology.Topology) -> None:
    refuse_changes(BEFORE.resolve(), after.resolve())


def pods(domain: str = "cluster.local") -> Any:
    place = release.Release("shop", "shop", fullname="shop", cluster_domain=domain)
    return release.describe(chart.document(chart.chart_values(BEFORE, domain), place))


def test_domain_of_pods_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"config_servers\.members: .*svc\.cluster\.local.*svc\.corp\.local"):
        refuse_changes(pods(), pods("corp.local"))


def test_module_refuses_and_leaves_the_description_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    run_module("cluster_description", cluster=BEFORE.resolve().as_document(), path=str(file))
    before = file.read_text()
    after = changed("shards", 0, "port", to=28201).resolve().as_document()
    for check in (True, False):
        refused = run_module("cluster_description", check=check, cluster=after, path=str(file))
        assert refused["msg"].startswith("shards[0].port: shard1-1 runs at")
    assert file.read_text() == before
    assert json.loads(before)["shards"][0]["members"][0]["port"] == 27201


@pytest.fixture
def member_without_tls(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is shard1-1 as far as its command line and its files say, and speaks no TLS."""
    cluster = BEFORE.resolve()
    (process,) = (one for one in embedded.processes(cluster, tmp_path, {"mongod": "mongod"}) if one.name == "shard1-1")
    for file, text in ((process.configuration_file, process.configuration), (process.pid_file, "")):
        assert file is not None
        file.parent.mkdir(exist_ok=True)
        file.write_text(text or "")
    server = tmp_path / "mongod"
    server.write_text("#!/bin/sh\nexec 3<&0\nread nothing <&3\n")
    server.chmod(0o755)
    with subprocess.Popen([server, *process.command[1:]], stdin=subprocess.PIPE) as running:
        process.pid_file.write_text(f"{running.pid}\n")
        yield running
        running.kill()


def test_tls_is_refused_under_a_server_that_runs_without_and_allowed_once_it_has_ended(
    tmp_path: Path, member_without_tls: subprocess.Popen[bytes]
) -> None:
    file = tmp_path / "cluster.json"
    run_module("cluster_description", cluster=BEFORE.resolve().as_document(), path=str(file))
    after = changed("tls", to={"mode": "requireTLS"}).resolve().as_document()
    refused = run_module("cluster_description", check=True, cluster=after, path=str(file))
    assert refused["msg"].startswith("tls.mode: shard1-1 runs without TLS, and all servers must change together")
    member_without_tls.kill()
    member_without_tls.wait()
    assert run_module("cluster_description", check=True, cluster=after, path=str(file))["changed"]
