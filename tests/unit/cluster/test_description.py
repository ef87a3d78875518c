"""What a description says, and that it is read back as it was written, in its version and in the one before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster.description import (
    Cluster,
    DescriptionError,
    Election,
    Kubernetes,
    Member,
    Node,
    Pod,
    ReplicaSet,
    Role,
    TlsSettings,
    host_and_port,
    parse,
    parse_set,
    read,
)


def cluster(platform: str = "embedded") -> Cluster:
    def pod(name: str, workload: str) -> Pod | None:
        return Pod(name, workload, "shop") if platform == "kubernetes" else None

    def members(role: Role, group: str, workload: str) -> tuple[Member, ...]:
        return tuple(
            Member(
                f"{workload}-{n}",
                role,
                group,
                f"shop-{workload}-{n}.shop-{workload}.shop.svc.cluster.local",
                27017,
                pod(f"shop-{workload}-{n}", f"shop-{workload}"),
                priority=n,
                tags={"use": "report"},
            )
            for n in (1, 2, 3)
        )

    host = "shop-mongos-1.shop-mongos.shop.svc.cluster.local"
    return Cluster(
        name="shop",
        platform=platform,
        config_servers=ReplicaSet("configReplSet", Role.CONFIG, members(Role.CONFIG, "configReplSet", "configsvr")),
        shards=(ReplicaSet("s1", Role.SHARD, members(Role.SHARD, "s1", "s1"), ("APJ",)),),
        routers=(Node("mongos1", Role.ROUTER, "routers", host, 27017, pod("shop-mongos-1", "shop-mongos")),),
        zones=("APJ",),
        election=Election(2000, 500),
        tls=TlsSettings("requireTLS", ("localhost",), 80, 20),
        kubernetes=Kubernetes("shop", "shop", "shop-toolbox") if platform == "kubernetes" else None,
    )


@pytest.mark.parametrize("platform", ["embedded", "kubernetes"])
def test_what_was_written_is_read_back_equal(platform: str, tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text(cluster(platform).dumps())
    assert read(tmp_path / "cluster.json") == cluster(platform)


def as_version_1(document: dict[str, Any]) -> dict[str, Any]:
    """What Shardmart 0.1 wrote: no version, platform `kind`, no pods."""
    old = json.loads(json.dumps(document))
    for key in ("version", "kubernetes"):
        old.pop(key)
    old["platform"] = "kind"
    for node in [*old["config_servers"]["members"], *old["shards"][0]["members"], *old["routers"]]:
        node.pop("pod")
    return dict(old)


def test_a_file_of_the_version_before_is_read_as_the_same_cluster() -> None:
    assert parse(as_version_1(cluster("kubernetes").as_document())) == cluster("kubernetes")


def test_a_file_of_a_newer_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        DescriptionError, match=r"cluster\.json has version 4, this Shardmart reads up to 3: use a newer"
    ):
        parse(cluster().as_document() | {"version": 4}, "cluster.json")


def test_a_missing_fact_is_named() -> None:
    document = cluster().as_document()
    del document["routers"]
    with pytest.raises(DescriptionError, match="lacks 'routers'"):
        parse(document)


def test_a_wrong_name_is_answered_with_the_names_there_are() -> None:
    assert cluster().node("s1-2").group == "s1"
    with pytest.raises(DescriptionError, match="no replica set 's2'; there are configReplSet, s1"):
        cluster().replica_set("s2")


@pytest.mark.parametrize(
    ("mode", "spoken", "required"),
    [("disabled", False, False), ("allowTLS", True, False), ("preferTLS", True, False), ("requireTLS", True, True)],
)
def test_clients_speak_tls_wherever_servers_answer_it(mode: str, spoken: bool, required: bool) -> None:
    tls = TlsSettings(mode)
    assert (tls.spoken, tls.required) == (spoken, required)


def test_description_without_a_word_on_tls_is_plain() -> None:
    document = cluster().as_document()
    del document["tls"]
    assert not parse(document).tls.spoken


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:27017"),
        ("pod-1.pod.shop.svc.cluster.local", "pod-1.pod.shop.svc.cluster.local:27017"),
        ("fd00::1", "[fd00::1]:27017"),
    ],
)
def test_address_is_unambiguous_and_says_host_and_port_again(host: str, address: str) -> None:
    node = Node("mongos1", Role.ROUTER, "routers", host, 27017)
    assert node.address == address
    assert host_and_port(address) == (host, 27017)


def test_connection_string_has_the_members_in_order() -> None:
    members = tuple(Member(f"m{n}", Role.SHARD, "rs", f"fd00::{n}", 27017) for n in (2, 1))
    assert ReplicaSet("rs", Role.SHARD, members).connection_string == "rs/[fd00::2]:27017,[fd00::1]:27017"


def test_members_are_described_without_a_cluster_and_called_by_their_address() -> None:
    document = {"name": "rs", "members": [{"host": "127.0.0.1", "port": "27201"}], "zones": ["APJ"]}
    expected = ReplicaSet(
        "rs", Role.SHARD, (Member("127.0.0.1:27201", Role.SHARD, "rs", "127.0.0.1", 27201),), ("APJ",)
    )
    assert parse_set(document) == expected
    with pytest.raises(DescriptionError, match="lacks 'host'"):
        parse_set({"name": "rs", "members": [{"port": 27201}]})
    with pytest.raises(DescriptionError, match=r"cannot be understood: .*'cash_mb'"):
        parse_set({"name": "rs", "members": [{"host": "h", "port": 1, "cash_mb": 2}]})


def test_config_servers_come_first_and_routers_last() -> None:
    assert [s.name for s in cluster().replica_sets] == ["configReplSet", "s1"]
    names = ["configsvr-1", "configsvr-2", "configsvr-3", "s1-1", "s1-2", "s1-3"]
    assert [m.name for m in cluster().members] == names
    assert [n.name for n in cluster().nodes] == [*names, "mongos1"]


def test_the_way_to_the_api_is_kept_in_the_file() -> None:
    made = cluster("kubernetes").reached_by("/home/me/.kube/config", "staging")
    assert made.kubernetes == Kubernetes("shop", "shop", "shop-toolbox", "/home/me/.kube/config", "staging")
    assert parse(made.as_document()) == made
    assert cluster().reached_by("/home/me/.kube/config", None) == cluster()
