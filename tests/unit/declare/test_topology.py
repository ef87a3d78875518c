"""Claims of the topology file: the default is the reference demo's, and a wrong one is refused by its key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from shardmart.cluster.description import TlsSettings
from shardmart.declare import topology, versions

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "inventories" / "topology.yml").read_text())


def changed(**changes: Any) -> dict[str, Any]:
    """The default topology with keys (`shards__0__members=2`) replaced."""
    document: dict[str, Any] = copy.deepcopy(DEFAULT)
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        target: Any = document
        for part in parents:
            target = target[part]
        target[last] = value
    return document


def refusal(document: object) -> str:
    with pytest.raises(topology.TopologyError) as caught:
        topology.parse(document, "topology.yml")
    return str(caught.value)


def test_default_is_the_reference_demo() -> None:
    cluster = topology.load(ROOT / "inventories" / "topology.yml").resolve()
    assert [m.name for m in cluster.config_servers.members] == ["configsvr1", "configsvr2", "configsvr3"]
    assert [s.name for s in cluster.shards] == ["shard1ReplSet", "shard2ReplSet"]
    assert [m.name for m in cluster.shards[1].members] == ["shard2-1", "shard2-2", "shard2-3"]
    assert [r.name for r in cluster.routers] == ["mongos1"]


def test_every_default_member_has_its_own_loopback_port() -> None:
    cluster = topology.load(ROOT / "inventories" / "topology.yml").resolve()
    assert {node.host for node in cluster.nodes} == {"127.0.0.1"}
    ports = [*range(27101, 27104), *range(27201, 27204), *range(27301, 27304), 27017]
    assert [node.port for node in cluster.nodes] == ports


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"shards__0__name": "shard2ReplSet"}, "shards[0].name and shards[1].name", "used twice"),
        ({"shards__0__member_name": "shard2-{n}"}, "shards[0].member_name", "used twice"),
        ({"shards__0__port": 27301}, "shards[0].port and shards[1].port", "port 27301 is used twice"),
        ({"routers__port": 27103}, "config_servers.port and routers.port", "port 27103 is used twice"),
        ({"shards__0__members": 2}, "shards[0]", "2 votes"),
        ({"shards__0__members": 0}, "shards[0]", "without members"),
        ({"shards__1__members": []}, "shards[1]", "without members"),
        ({"config_servers__members": 9}, "config_servers", "at most 7"),
        ({"config_servers__members": 51}, "config_servers.members", "at most 50"),
        ({"shards__0__zones": ["MARS"]}, "shards[0].zones", "unknown zone 'MARS'"),
        ({"shards__0__zones": ["MARS"]}, "shards[0].zones", "the data model has ['APJ', 'EMEA', 'LATAM']"),
        ({"shards__1__zones": ["EMEA"]}, "shards", "no shard serves zone 'LATAM'"),
        ({"zones": ["APJ", "EMEA", "LATAM", "MARS"]}, "zones[3]", "no shard serves zone 'MARS'"),
        ({"mongodb": {"version": 8.0}}, "mongodb.version", "8.0"),
        ({"mongodb": {"version": "8.0"}}, "mongodb.version", "'8.0'"),
        ({"mongodb": {"verison": "8.0.19"}}, "mongodb.verison", "unknown key, there are version"),
        ({"cache_mb": "big"}, "cache_mb", "'big'"),
        ({"cash_mb": 256}, "cash_mb", "unknown key, there are name, mongodb, cache_mb, election, tls, zones, "),
        ({"shards__0__members": "three"}, "shards[0].members", "'three'"),
        ({"shards__0__members": True}, "shards[0].members", "True"),
        ({"shards__0__members": [{"priority": "x"}]}, "shards[0].members[0].priority", "'x'"),
        ({"shards__0__members": [{"votes": 0}]}, "shards[0].members[0]", "priority: 0"),
        ({"shards__0__members": [{"priority": 0}]}, "shards[0]", "nobody could become primary"),
        ({"shards": []}, "shards", "at least 1"),
        ({"routers__port": 80}, "routers.port", "1024"),
        ({"routers__count": 0}, "routers.count", "greater than or equal to 1"),
        ({"election": {"timeout_ms": 1000, "heartbeat_ms": 900}}, "election", "at least twice"),
        ({"tls": "requireTLS"}, "tls", "'requireTLS'"),
        ({"tls": {"mode": "on"}}, "tls.mode", "'disabled' or 'requireTLS'"),
        ({"tls": {"mode": True}}, "tls.mode", "True"),
        ({"tls": {"mod": "requireTLS"}}, "tls.mod", "unknown key, there are mode, names, validity_days, renew_days"),
        ({"tls": {"renew_days": 90}}, "tls", "`renew_days` (90) must be less than `validity_days` (90)"),
        ({"tls": {"validity_days": 0}}, "tls.validity_days", "0"),
        ({"tls": {"names": ["not a name"]}}, "tls.names[0]", "'not a name'"),
    ],
)
def test_wrong_topology_is_refused_by_its_key(change: dict[str, Any], key: str, reason: str) -> None:
    message = refusal(changed(**change))
    assert message.startswith(f"topology.yml: {key}")
    assert reason in message
    assert "\n" not in message


def test_missing_key_is_named() -> None:
    document = changed()
    del document["config_servers"]
    assert refusal(document) == "topology.yml: config_servers: Field required"


def test_unreadable_file_is_one_line(tmp_path: Path) -> None:
    for content in ("a: [", "- a\n- b\n"):
        file = tmp_path / "topology.yml"
        file.write_text(content)
        with pytest.raises(topology.TopologyError) as caught:
            topology.load(file)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(topology.TopologyError, match="cannot be read"):
        topology.load(tmp_path / "absent.yml")


def test_zones_are_those_of_the_data_model(tmp_path: Path) -> None:
    """Left out, they are taken from there; named, they must be the same."""
    assert topology.parse(DEFAULT, "topology.yml").zones == ["APJ", "EMEA", "LATAM"]
    file = tmp_path / "topology.yml"
    file.write_text(yaml.safe_dump(changed(zones=["LATAM", "APJ", "EMEA"])))
    assert topology.load(file).zones == ["LATAM", "APJ", "EMEA"]


@pytest.mark.parametrize(
    ("zones", "served", "lines"),
    [
        (["APJ", "EMEA"], ["EMEA"], ["zones: LATAM is missing, the documents of region LATAM would have no home"]),
        (
            ["APJ", "EMEA", "MARS"],
            ["EMEA", "MARS"],
            [
                "zones[2]: the data model has no zone 'MARS', it has APJ, EMEA, LATAM",
                "zones: LATAM is missing, the documents of region LATAM would have no home",
            ],
        ),
        (
            [],
            [],
            [
                f"zones: {zone} is missing, the documents of region {zone} would have no home"
                for zone in ("APJ", "EMEA", "LATAM")
            ],
        ),
    ],
)
def test_other_zones_than_the_data_models_are_refused(
    tmp_path: Path, zones: list[str], served: list[str], lines: list[str]
) -> None:
    file = tmp_path / "topology.yml"
    first = ["APJ", "EMEA"] if zones else []
    file.write_text(yaml.safe_dump(changed(zones=zones, shards__0__zones=first, shards__1__zones=served)))
    with pytest.raises(topology.TopologyError) as caught:
        topology.load(file)
    assert str(caught.value).splitlines() == [f"{file}: {line}" for line in lines]


def test_a_topology_that_names_no_version_takes_the_first_that_is_pinned() -> None:
    document = changed()
    del document["mongodb"]
    assert topology.parse(document, "topology.yml").mongodb.version == versions.load().mongodb
    document["mongodb"] = {"version": "6.0.5"}
    assert topology.parse(document, "topology.yml").mongodb.version == "6.0.5"


def test_member_cache_overrides_set_and_topology() -> None:
    document = changed(shards__0__cache_mb=300, shards__0__members=[{"cache_mb": 400}, {}, {}])
    cluster = topology.parse(document, "topology.yml").resolve()
    assert [m.cache_mb for m in cluster.shards[0].members] == [400, 300, 300]
    assert {m.cache_mb for m in cluster.shards[1].members} == {256}


def test_appending_a_shard_moves_no_other_member() -> None:
    before = topology.parse(DEFAULT, "topology.yml").resolve()
    document = changed(shards=[*DEFAULT["shards"], {"name": "shard3ReplSet", "members": 3}])
    after = topology.parse(document, "topology.yml").resolve()
    assert after.shards[:2] == before.shards
    assert [m.name for m in after.shards[2].members] == ["shard3-1", "shard3-2", "shard3-3"]


def test_servers_speak_plainly_unless_the_topology_says_otherwise() -> None:
    assert topology.parse(DEFAULT, "topology.yml").resolve().tls == TlsSettings("disabled")


def test_certificate_is_for_loopback_every_server_and_more_names() -> None:
    document = changed(tls={"mode": "requireTLS", "names": ["db.example", "10.0.0.1"]})
    names = topology.parse(document, "topology.yml").resolve().tls.names
    assert names[:3] == ("localhost", "127.0.0.1", "configsvr1")
    assert names[-3:] == ("mongos1", "db.example", "10.0.0.1")
    assert len(names) == len(set(names)) == 2 + 10 + 2


@pytest.mark.parametrize(
    "file", sorted((ROOT / "inventories" / "topologies").glob("*.yml")), ids=lambda file: file.stem
)
def test_every_topology_we_ship_is_right(file: Path) -> None:
    assert topology.load(file).resolve().shards
