"""Administration that moves data, and two routers that must not disagree about where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymongo import MongoClient

from shardmart.cluster.protocol.connection import Deadline, connect
from tests.integration.router.sharded import chunks, failing, move_chunk, shard
from tests.support.clusters import EmbeddedCluster, free_ports, small_topology

Client = MongoClient[dict[str, Any]]


@pytest.fixture(scope="module")
def other(cluster: EmbeddedCluster) -> Iterator[Client]:
    """A client of a second router of the same cluster."""
    (port,) = free_ports(1)
    first = cluster.processes["mongos1"]
    changed = {str(first.port): str(port), str(first.log_file): str(cluster.folder / "logs" / "mongos2.log")}
    command = tuple(changed.get(argument, argument) for argument in first.command)
    if first.configuration:
        pytest.skip("a second mongos is not made here")
    pid_file, log_file = cluster.folder / "run" / "mongos2.pid", cluster.folder / "logs" / "mongos2.log"
    second = replace(first, name="mongos2", command=command, port=port, pid_file=pid_file, log_file=log_file)
    cluster.processes["mongos2"] = replace(second, marker=str(log_file))
    cluster.start("mongos2")
    with MongoClient(f"127.0.0.1:{port}", **cluster.admin.options()) as client:
        yield client
    cluster.kill("mongos2")
    del cluster.processes["mongos2"]


@pytest.fixture
def things(database: Any) -> Any:
    """200 documents over both shards, whose chunks the first router knows."""
    shard(database.client, f"{database.name}.things", {"_id": "hashed"})
    database.things.insert_many([{"_id": i, "n": 0} for i in range(200)], ordered=False)
    assert database.things.count_documents({}) == 200
    return database.things


def test_a_router_that_missed_a_move_misroutes_nothing(cluster: EmbeddedCluster, things: Any, other: Client) -> None:
    name = things.full_name
    for index in range(len(chunks(other, name))):
        move_chunk(other, name, index)  # every chunk changes its owner, and only the other router knows
    fresh = list(range(1000, 1200))
    things.insert_many([{"_id": i, "n": 0} for i in fresh[:100]], ordered=False)
    things.insert_many([{"_id": i, "n": 0} for i in fresh[100:]], ordered=True)
    for index in range(len(chunks(other, name))):
        move_chunk(other, name, index)
    assert [things.update_one({"_id": i}, {"$inc": {"n": 1}}).modified_count for i in fresh[:20]] == [1] * 20
    for index in range(len(chunks(other, name))):
        move_chunk(other, name, index)
    assert things.update_many({}, {"$inc": {"n": 1}}).modified_count == 400
    move_chunk(other, name)
    assert things.find_one_and_update({"_id": 1000}, {"$inc": {"n": 1}}, return_document=True)["n"] == 3
    move_chunk(other, name)
    assert sum(things.delete_one({"_id": i}).deleted_count for i in range(100)) == 100
    move_chunk(other, name)
    assert things.find_one({"_id": 1000})["n"] == 3
    for reader in (things, other[things.database.name].things):
        found = {d["_id"]: d["n"] for d in reader.find()}
        assert found == dict.fromkeys(range(100, 200), 1) | {i: 1 + (i < 1020) + (i == 1000) for i in fresh}
        assert reader.count_documents({}) == 300
    for declared in cluster.description.shards:
        with connect(declared.members[0].address, cluster.members_credentials) as direct:
            owned = {c["shard"] for c in chunks(other, name)}
            if declared.name not in owned:
                pytest.fail("every shard should own a chunk here")
            assert direct[things.database.name].things.count_documents({}) > 0


def test_a_router_notices_that_a_collection_was_sharded_anew_by_another_key(things: Any, other: Client) -> None:
    again = other[things.database.name].things
    again.drop()
    shard(other, things.full_name, {"region": 1})
    other.admin.command("split", things.full_name, middle={"region": "M"})
    move_chunk(other, things.full_name, 1)
    things.insert_many([{"_id": i, "region": "AZ"[i % 2]} for i in range(100)], ordered=False)
    assert again.count_documents({"region": "A"}) == things.count_documents({"region": "Z"}) == 50
    assert things.update_one({"region": "Z", "_id": 1}, {"$set": {"n": 1}}).modified_count == 1


def test_a_router_notices_that_a_database_has_another_primary(database: Any, other: Client) -> None:
    database.plain.insert_one({"_id": 1})
    for to in ("shard1ReplSet", "shard2ReplSet", "shard1ReplSet"):
        other.admin.command("movePrimary", database.name, to=to)
        assert database.plain.update_one({"_id": 1}, {"$set": {"to": to}}).modified_count == 1
        assert other[database.name].plain.find_one({"_id": 1})["to"] == to
    assert database.list_collection_names() == ["plain"]


def test_a_range_is_moved(things: Any) -> None:
    client = things.database.client
    first = chunks(client, things.full_name)[0]
    to = next(s["_id"] for s in client.config.shards.find() if s["_id"] != first["shard"])
    client.admin.command("moveRange", things.full_name, min=first["min"], max=first["max"], toShard=to)
    assert chunks(client, things.full_name)[0]["shard"] == to
    assert things.count_documents({}) == 200


def test_a_shard_key_is_refined(database: Any) -> None:
    shard(database.client, f"{database.name}.refined", {"a": 1})
    database.refined.create_index([("a", 1), ("b", 1)])
    database.refined.insert_many([{"a": i, "b": -i} for i in range(50)])
    database.client.admin.command("refineCollectionShardKey", f"{database.name}.refined", key={"a": 1, "b": 1})
    entry = database.client.config.collections.find_one({"_id": f"{database.name}.refined"})
    assert entry["key"] == {"a": 1, "b": 1}
    assert database.refined.update_one({"a": 7, "b": -7}, {"$set": {"c": 1}}).modified_count == 1
    database.refined.insert_one({"a": 100, "b": 1})
    assert database.refined.count_documents({}) == 51


def test_a_collection_is_resharded_and_both_routers_follow(
    cluster: EmbeddedCluster, things: Any, other: Client
) -> None:
    config = cluster.description.config_servers.members[0].address
    with connect(config, cluster.members_credentials) as direct:  # by default it takes at least five minutes
        direct.admin.command("setParameter", 1, reshardingMinimumOperationDurationMillis=0)
    things.database.client.admin.command(
        "reshardCollection", things.full_name, key={"n": 1, "_id": 1}, numInitialChunks=1
    )
    assert things.database.client.config.collections.find_one({"_id": things.full_name})["key"] == {"n": 1, "_id": 1}
    for through in (things, other[things.database.name].things):
        through.insert_one({"_id": through.count_documents({}) + 1000, "n": 7})
        assert through.count_documents({"n": 0}) == 200
    assert things.count_documents({"n": 7}) == 2


def test_a_shard_is_added_filled_and_removed(cluster: EmbeddedCluster, things: Any) -> None:
    admin, name = things.database.client.admin, things.full_name
    declared = small_topology(shards=3).shards[2]
    wider = EmbeddedCluster(
        cluster.folder, replace(cluster.description, shards=(*cluster.description.shards, declared))
    )
    spare = declared.members[0].name
    admin.command("balancerStop")  # it would move the same chunks at the same time
    stream = things.watch([{"$match": {"operationType": "insert"}}], max_await_time_ms=500)
    cluster.processes[spare] = wider.processes[spare]  # ended with the cluster
    wider.start(spare)
    wider.form(declared)
    assert admin.command("addShard", declared.connection_string, name="spare")["shardAdded"] == "spare"
    first = chunks(things.database.client, name)[0]
    admin.command("moveChunk", name, bounds=[first["min"], first["max"]], to="spare", _waitForDelete=True)
    assert things.count_documents({}) == 200
    assert "spare" in {c["shard"] for c in chunks(things.database.client, name)}
    with stream:  # opened before the shard was there
        for number in range(1000, 1040):
            things.insert_one({"_id": number})
        assert [stream.next()["documentKey"]["_id"] for _ in range(40)] == list(range(1000, 1040))
    with connect(declared.members[0].address, cluster.members_credentials) as there:
        assert there[things.database.name].things.count_documents({"_id": {"$gte": 1000}}), (
            "no event was the new shard's"
        )
    things.delete_many({"_id": {"$gte": 1000}})

    failing(70, lambda: admin.command("removeShard", "nowhere"))
    assert admin.command("removeShard", "spare")["state"] == "started"
    ongoing = admin.command("removeShard", "spare")
    assert ongoing["state"] == "ongoing"
    deadline = Deadline(60)
    while (state := admin.command("removeShard", "spare")["state"]) != "completed":
        assert state == "ongoing"
        deadline.pause("the shard to be drained")
        for chunk in things.database.client.config.chunks.find({"shard": "spare"}):
            entry = things.database.client.config.collections.find_one({"uuid": chunk["uuid"]})
            bounds = {"bounds": [chunk["min"], chunk["max"]], "to": first["shard"]}
            admin.command("moveChunk", entry["_id"], **bounds)
    assert {s["_id"] for s in admin.command("listShards")["shards"]} == {"shard1ReplSet", "shard2ReplSet"}
    assert things.count_documents({}) == 200
    admin.command("balancerStart")
    wider.kill(spare)


def test_what_is_not_served_in_a_transaction_is_refused_by_name(things: Any) -> None:
    database = things.database
    with database.client.start_session() as session:
        for code, work in [
            (263, lambda: things.create_index("n", session=session)),
            (263, lambda: database.command("count", "things", session=session)),
            (
                263,
                lambda: list(
                    things.aggregate(
                        [{"$lookup": {"from": "things", "localField": "n", "foreignField": "_id", "as": "o"}}],
                        session=session,
                    )
                ),
            ),
            (263, lambda: database.client.admin.command("moveRange", things.full_name, session=session)),
        ]:
            session.start_transaction()
            things.insert_one({"n": 1}, session=session)
            failing(code, work)
            session.abort_transaction()
    assert things.count_documents({}) == 200
