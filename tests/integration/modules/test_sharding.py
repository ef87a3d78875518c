"""The modules `shards`, `zones`, `balancer`, `sharded_collections`, facts and verification through a real router."""

from __future__ import annotations

from typing import Any

import pytest
from bson import MaxKey, MinKey
from pymongo.errors import WriteError

from shardmart.cluster import module
from shardmart.cluster.converge import sharding
from shardmart.cluster.protocol.connection import Deadline
from tests.support.clusters import EmbeddedCluster
from tests.support.modules import run_module

PRODUCTS = {"name": "things", "shard_key": {"region": 1, "_id": "hashed"}}


def login(cluster: EmbeddedCluster, **more: Any) -> dict[str, Any]:
    password_file = str(cluster.folder / "secrets" / "admin.password")
    return {"router": cluster.router, "login_password_file": password_file, "wait_seconds": 30} | more


def shards(cluster: EmbeddedCluster, **more: Any) -> dict[str, Any]:
    return login(cluster, shards=[shard.as_document() for shard in cluster.description.shards], **more)


def test_shards_that_are_there_are_not_added_again(cluster: EmbeddedCluster) -> None:
    result = run_module("shards", **shards(cluster))
    assert not result["changed"]
    assert sorted(result["diff"]["before"]["shards"]) == ["shard1ReplSet", "shard2ReplSet"]


def test_shard_names_are_compared_whole(cluster: EmbeddedCluster) -> None:
    lookalike = [{"name": "shard1ReplSe", "members": [{"host": "127.0.0.1", "port": 9}]}]
    planned = run_module("shards", check=True, **login(cluster, shards=lookalike))
    assert planned["changes"] == ["add shard shard1ReplSe"]


def test_shard_that_cannot_be_reached_is_named(cluster: EmbeddedCluster) -> None:
    absent = [{"name": "shard9ReplSet", "members": [{"host": "127.0.0.1", "port": 9}]}]
    result = run_module("shards", **login(cluster, shards=absent, wait_seconds=2))
    assert result["failed"]
    assert "shard9ReplSet" in result["msg"]
    assert "\n" not in result["msg"]


def test_drifted_zones_are_repaired(cluster: EmbeddedCluster) -> None:
    assert not run_module("zones", **shards(cluster))["changed"]
    drifted = [{"name": "shard1ReplSet", "zones": ["APJ", "LATAM"]}]
    planned = run_module("zones", check=True, **login(cluster, shards=drifted))
    changed = run_module("zones", **login(cluster, shards=drifted))
    assert planned["changes"] == changed["changes"]
    assert changed["changes"] == ["shard1ReplSet: serve zone LATAM", "shard1ReplSet: leave zone EMEA"]
    assert run_module("zones", **shards(cluster))["changes"] == [
        "shard1ReplSet: serve zone EMEA",
        "shard1ReplSet: leave zone LATAM",
    ]
    assert not run_module("zones", **shards(cluster))["changed"]
    unknown = run_module("zones", **login(cluster, shards=[{"name": "shard9ReplSet", "zones": ["APJ"]}]))
    assert "shard9ReplSet is not in the cluster" in unknown["msg"]


def test_a_zone_moves_from_one_shard_to_another_and_back(cluster: EmbeddedCluster) -> None:
    """The last shard of a zone that has ranges cannot leave it, so the new one is added before the old one goes."""
    here, there = ({"name": "shard1ReplSet", "zones": zones} for zones in (["EMEA"], ["APJ", "EMEA"]))
    moved = [here, {"name": "shard2ReplSet", "zones": ["APJ", "EMEA", "LATAM"]}]
    assert run_module("zones", **login(cluster, shards=moved))["changes"] == [
        "shard2ReplSet: serve zone APJ",
        "shard1ReplSet: leave zone APJ",
    ]
    back = [there, {"name": "shard2ReplSet", "zones": ["EMEA", "LATAM"]}]
    assert run_module("zones", **login(cluster, shards=back))["changes"] == [
        "shard1ReplSet: serve zone APJ",
        "shard2ReplSet: leave zone APJ",
    ]
    assert not run_module("zones", **shards(cluster))["changed"]


def test_balancer_is_switched_and_said(cluster: EmbeddedCluster) -> None:
    assert not run_module("balancer", **login(cluster))["changed"]
    assert run_module("balancer", check=True, **login(cluster, enabled=False))["changes"] == ["balancer off"]
    assert run_module("balancer", **login(cluster, enabled=False))["changes"] == ["balancer off"]
    assert run_module("balancer", **login(cluster))["changes"] == ["balancer on"]


def test_collection_is_sharded_zoned_and_split_before_it_holds_anything(cluster: EmbeddedCluster) -> None:
    declared = PRODUCTS | {
        "zone_ranges": [
            {"zone": "APJ", "min": {"region": "APJ"}, "max": {"region": "EMEA"}},
            {"zone": "LATAM", "min": {"region": "LATAM"}, "max": {"region": "NA"}},
        ],
        "indexes": [{"name": "by_name", "keys": {"name": 1, "price": -1}}],
        "validator": {"$jsonSchema": {"required": ["name"]}},
    }
    arguments = login(cluster, database="shop", collections=[declared])
    planned = run_module("sharded_collections", check=True, **arguments)
    made = run_module("sharded_collections", **arguments)
    assert made["changes"] == planned["changes"]
    assert len(made["changes"]) == 5
    assert not run_module("sharded_collections", **arguments)["changed"]
    with cluster.client() as client:
        entry = client.config.collections.find_one({"_id": "shop.things"})
        assert entry
        owners = {
            c["min"]["region"]: c["shard"]
            for c in client.config.chunks.find({"uuid": entry["uuid"]})
            if c["min"]["region"] in ("APJ", "LATAM")
        }
        assert owners == {"APJ": "shard1ReplSet", "LATAM": "shard2ReplSet"}

        # The same index under another name is the same index; a weakened validator is repaired.
        client.shop.things.drop_index("by_name")
        client.shop.things.create_index([("name", 1), ("price", -1)], name="another_name")
        client.shop.command("collMod", "things", validator={})
    assert run_module("sharded_collections", **arguments)["changes"] == ["shop.things: set the validator"]

    rekeyed = declared | {"shard_key": {"_id": "hashed"}, "zone_ranges": []}
    refused = run_module("sharded_collections", **login(cluster, database="shop", collections=[rekeyed]))
    assert "a shard key is changed by reshardCollection, never by the bootstrap" in refused["msg"]


def test_a_second_run_changes_nothing_where_the_databases_primary_shard_holds_no_part(cluster: EmbeddedCluster) -> None:
    """listCollections is answered by that shard, and collMod does not reach it: the validator was set each time."""
    everything = {"zone": "LATAM", "min": {"region": MinKey()}, "max": {"region": MaxKey(), "_id": MaxKey()}}
    declared = {
        "name": "elsewhere", "shard_key": {"region": 1, "_id": 1}, "zone_ranges": [everything],
        "validator": {"$jsonSchema": {"required": ["name"]}},
    }  # fmt: skip
    with cluster.client() as client:
        client.admin.command({"enableSharding": "apart", "primaryShard": "shard1ReplSet"})
        [spec] = module.collection_specs([declared])
        made = sharding.converge_collections("apart", [spec], client, Deadline(30))
        assert made.changes[-1] == "apart.elsewhere: set the validator"
        entry = client.config.collections.find_one({"_id": "apart.elsewhere"})
        assert entry
        assert {c["shard"] for c in client.config.chunks.find({"uuid": entry["uuid"]})} == {"shard2ReplSet"}
        assert sharding.converge_collections("apart", [spec], client, Deadline(30)).changes == []
        with pytest.raises(WriteError, match="Document failed validation"):
            client.apart.elsewhere.insert_one({"region": "APJ"})
        # And one that was weakened is repaired.
        client.apart.command("collMod", "elsewhere", validator={})
        again = sharding.converge_collections("apart", [spec], client, Deadline(30))
        assert again.changes == ["apart.elsewhere: set the validator"]


def test_collection_with_documents_is_not_sharded_behind_its_owners_back(cluster: EmbeddedCluster) -> None:
    with cluster.client() as client:
        client.shop.filled.insert_one({"region": "APJ"})
    filled = [PRODUCTS | {"name": "filled"}]
    refused = run_module("sharded_collections", **login(cluster, database="shop", collections=filled))
    assert "shop.filled holds documents and is not sharded" in refused["msg"]


def test_facts_name_what_is_wrong(cluster: EmbeddedCluster) -> None:
    arguments = {
        "cluster": cluster.description.as_document(),
        "keyfile": str(cluster.state.keyfile),
        "login_password_file": str(cluster.folder / "secrets" / "admin.password"),
    }
    healthy = run_module("cluster_facts", **arguments)
    assert healthy["problems"] == []
    states = {member["name"]: member["state"] for s in healthy["sets"] for member in s["members"]}
    assert states == {"configsvr1": "PRIMARY", "shard1-1": "PRIMARY", "shard2-1": "PRIMARY"}
    namespaces = [c["namespace"] for c in healthy["sharding"]["collections"]]
    assert {"ecommerce.users", "ecommerce.products", "ecommerce.orders"} <= set(namespaces)

    cluster.kill("shard2-1")
    try:
        ill = run_module("cluster_facts", **arguments)
        assert any(problem.startswith("shard2-1 (") for problem in ill["problems"])
        assert "shard2ReplSet has no primary" in ill["problems"]
    finally:
        cluster.start("shard2-1")
        cluster.form(cluster.set_of("shard2ReplSet"))


def test_verification_passes_a_whole_cluster_and_fails_an_ill_one(cluster: EmbeddedCluster) -> None:
    from shardmart.declare import data_model

    model = data_model.load()
    arguments = {
        "cluster": cluster.description.as_document(),
        "database": model.database,
        "collections": [collection.as_task_argument() for collection in model.collections],
        "keyfile": str(cluster.state.keyfile),
        "login_password_file": str(cluster.folder / "secrets" / "admin.password"),
    }
    verified = run_module("cluster_verification", **arguments)
    assert len(verified["verified"]) == 13, verified

    with cluster.client() as client:
        client.admin.command("balancerStop")
        client.ecommerce.orders.drop_index("user_date")
    try:
        ill = run_module("cluster_verification", **arguments)
    finally:
        cluster.bootstrap()
    assert "2 of 13 checks failed" in ill["msg"]
    assert "the balancer is on: it is off" in ill["msg"]
    assert "create index user_date" in ill["msg"]


def test_wrong_administrator_password_is_one_line(cluster: EmbeddedCluster, tmp_path: Any) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    result = run_module("shards", **shards(cluster) | {"login_password_file": str(wrong)})
    assert "Authentication failed" in result["msg"]
    assert "\n" not in result["msg"]
