"""Protocol, reads, writes, transactions and administration through the router, as any client of mongos has them."""

from __future__ import annotations

import socket
import struct
from typing import Any

import bson
import pymongo
import pytest
from bson import MinKey
from pymongo import DeleteMany, InsertOne, MongoClient, UpdateMany, UpdateOne, WriteConcern
from pymongo.errors import BulkWriteError, WriteError
from pymongo.read_concern import ReadConcern

from shardmart.cluster.protocol.connection import connect
from tests.integration.router.sharded import chunks, failing, move_chunk, shard
from tests.support.clusters import EmbeddedCluster

# Protocol


def test_hello_is_a_routers(client: MongoClient[dict[str, Any]]) -> None:
    hello = client.admin.command("hello")
    assert hello["msg"] == "isdbgrid"
    assert "setName" not in hello
    assert hello["maxWireVersion"] >= 17
    assert hello["logicalSessionTimeoutMinutes"] == 30
    assert client.is_mongos


def test_the_legacy_hello_is_answered(cluster: EmbeddedCluster) -> None:
    host, _, port = cluster.router.partition(":")
    body = struct.pack("<i", 0) + b"admin.$cmd\0" + struct.pack("<ii", 0, -1) + bson.encode({"isMaster": 1})
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(struct.pack("<iiii", len(body) + 16, 7, 0, 2004) + body)
        length, _, answers, opcode = struct.unpack("<iiii", connection.recv(16))
        reply = connection.recv(length)
    assert (answers, opcode) == (7, 1)
    assert bson.decode(reply[20:])["msg"] == "isdbgrid"


def test_an_unknown_command_is_refused_by_name(client: MongoClient[dict[str, Any]]) -> None:
    assert "frobnicate" in str(failing(59, lambda: client.admin.command("frobnicate")))


def test_an_unacknowledged_write_arrives_and_gets_no_reply(database: Any) -> None:
    quiet = database.things.with_options(write_concern=WriteConcern(w=0))
    quiet.insert_one({"_id": 1})
    quiet.update_one({"_id": 1}, {"$set": {"a": 1}})
    assert database.command("ping")["ok"] == 1
    for _ in range(100):
        if database.things.find_one({"_id": 1, "a": 1}):
            return
    pytest.fail("the write did not arrive")


# Reads


@pytest.fixture
def people(database: Any) -> Any:
    """600 documents over both shards, in two chunks each."""
    shard(database.client, f"{database.name}.people", {"_id": "hashed"})
    documents = [{"_id": i, "n": 599 - i, "group": i % 3, "tags": [i % 5, i % 7]} for i in range(600)]
    database.people.insert_many(documents, ordered=False)
    owners = {chunk["shard"] for chunk in chunks(database.client, f"{database.name}.people")}
    assert len(owners) == 2
    return database.people


def test_a_find_over_both_shards_is_whole_sorted_and_cut(people: Any) -> None:
    assert {d["_id"] for d in people.find({}, batch_size=7)} == set(range(600))
    ordered = [d["n"] for d in people.find({}, {"n": 1}, batch_size=50).sort("n", -1)]
    assert ordered == list(range(599, -1, -1))
    page = list(people.find({"group": 1}, {"_id": 0, "n": 1}).sort([("group", 1), ("n", 1)]).skip(10).limit(5))
    assert page == [{"n": 31 + 3 * i} for i in range(5)]
    assert next(iter(people.find().sort("tags", -1).limit(1)))["_id"] % 7 == 6


def test_counts_and_distinct_values_are_merged(people: Any) -> None:
    assert people.count_documents({}) == people.estimated_document_count() == 600
    assert people.count_documents({"group": 2}, skip=50, limit=100) == 100
    assert people.database.command("count", "people", query={"group": 2}, skip=150, limit=100)["n"] == 50
    assert people.distinct("group") == [0, 1, 2]
    assert people.distinct("tags") == [0, 1, 2, 3, 4, 5, 6]


def test_aggregations_are_merged_joined_and_written(people: Any) -> None:
    groups = people.aggregate([{"$group": {"_id": "$group", "n": {"$avg": "$n"}}}, {"$sort": {"_id": 1}}])
    assert [g["_id"] for g in groups] == [0, 1, 2]
    lookup = {"from": "people", "localField": "n", "foreignField": "_id", "as": "other"}
    joined = list(people.aggregate([{"$match": {"group": 0}}, {"$lookup": lookup}]))
    assert len(joined) == 200
    assert all(d["other"][0]["_id"] == d["n"] for d in joined)
    people.aggregate([{"$match": {"group": 0}}, {"$out": "copied"}])
    assert people.database.copied.count_documents({}) == 200
    people.aggregate([{"$set": {"merged": True}}, {"$merge": {"into": "people", "on": "_id"}}])
    assert people.count_documents({"merged": True}) == 600


def test_explain_names_the_shards(people: Any) -> None:
    one = people.find({"_id": 1}).explain()["queryPlanner"]["winningPlan"]
    both = people.find({"n": {"$gt": 1}}).explain()["queryPlanner"]["winningPlan"]
    assert one["stage"] == "SINGLE_SHARD"
    assert len(one["shards"]) == 1
    assert len(both["shards"]) == 2


def test_a_query_that_takes_too_long_is_ended(people: Any) -> None:
    failing(50, lambda: list(people.find({"$where": "sleep(50) || true"}, max_time_ms=300)))


# Writes


def test_results_of_both_shards_keep_the_clients_indexes(people: Any) -> None:
    documents = [{"_id": i} for i in (1000, 5, 1001, 7, 1002)]
    with pytest.raises(BulkWriteError) as failure:
        people.insert_many(documents, ordered=False)
    assert failure.value.details["nInserted"] == 3
    assert [e["index"] for e in failure.value.details["writeErrors"]] == [1, 3]
    with pytest.raises(BulkWriteError) as failure:
        people.insert_many([{"_id": i} for i in (2000, 2001, 5, 2002, 2003)], ordered=True)
    assert failure.value.details["nInserted"] == 2
    assert [e["index"] for e in failure.value.details["writeErrors"]] == [2]
    assert people.find_one({"_id": 2002}) is None


def test_a_mixed_bulk_does_what_it_says(people: Any) -> None:
    result = people.bulk_write([
        InsertOne({"_id": 3000}),
        UpdateOne({"_id": 1}, {"$set": {"x": 1}}),
        UpdateOne({"_id": 4000}, {"$set": {"x": 1}}, upsert=True),
        UpdateMany({"group": 0}, {"$set": {"y": 1}}),
        DeleteMany({"group": 1}),
    ])  # fmt: skip
    counts = (result.inserted_count, result.modified_count, result.deleted_count)
    assert counts == (1, 201, 200)
    assert result.upserted_ids == {2: 4000}


def test_statements_without_the_shard_key_are_broadcast_or_refused(database: Any) -> None:
    shard(database.client, f"{database.name}.orders", {"region": 1, "user": "hashed"})
    database.client.admin.command("split", f"{database.name}.orders", middle={"region": "B", "user": MinKey()})
    move_chunk(database.client, f"{database.name}.orders")
    orders = database.orders
    orders.insert_many([{"_id": i, "region": "AB"[i % 2], "user": i, "a": 0} for i in range(40)])
    assert orders.update_one({"_id": 3}, {"$set": {"a": 1}}).modified_count == 1
    assert orders.delete_one({"_id": 3}).deleted_count == 1
    failing(72, lambda: orders.update_one({"a": 0}, {"$set": {"a": 1}}))
    assert orders.update_one({"region": "A", "a": 8}, {"$set": {"a": 1}}).matched_count == 0  # one shard is enough
    failing(61, lambda: orders.delete_one({"a": 0}))
    failing(61, lambda: orders.update_one({"a": 9}, {"$set": {"b": 1}}, upsert=True))
    failing(61, lambda: orders.find_one_and_update({"a": 0}, {"$set": {"a": 1}}))
    found = orders.find_one_and_update({"region": "A", "user": 2}, {"$inc": {"a": 5}}, return_document=True)
    assert found["a"] == 5
    assert orders.update_many({"region": "A"}, {"$set": {"b": 1}}).modified_count == 20
    assert orders.delete_many({"region": "B"}).deleted_count == 19


def test_a_retryable_write_sent_twice_counts_once(people: Any) -> None:
    # The same statement in one session with the same number, once before and once after its chunk has moved.
    database = people.database
    with database.client.start_session() as session:
        database.command("ping", session=session)
        session._server_session.inc_transaction_id()
        number = session._server_session.transaction_id
        update = {"updates": [{"q": {"_id": 1}, "u": {"$inc": {"hits": 1}}}], "txnNumber": number}
        assert database.command("update", "people", **update, session=session)["n"] == 1
        for index in range(len(chunks(database.client, people.full_name))):
            move_chunk(database.client, people.full_name, index)
        reply = database.command("update", "people", **update, session=session)
    assert reply["retriedStmtIds"] == [0]
    assert people.find_one({"_id": 1})["hits"] == 1


def test_validators_hold_and_their_details_come_through(database: Any) -> None:
    database.create_collection("strict", validator={"$jsonSchema": {"required": ["name"]}})
    error = failing(121, lambda: database.strict.insert_one({"a": 1}))
    assert isinstance(error, WriteError)
    assert "name" in str(error.details)
    database.command("collMod", "strict", validator={})
    database.strict.insert_one({"a": 1})


# Transactions


def two_phase_commits(cluster: EmbeddedCluster) -> int:
    total = 0
    for declared in cluster.description.shards:
        with connect(declared.members[0].address, cluster.members_credentials) as direct:
            total += direct.admin.command("serverStatus")["twoPhaseCommitCoordinator"]["totalCommittedTwoPhaseCommit"]
    return total


def test_a_transaction_over_both_shards_is_all_or_nothing(cluster: EmbeddedCluster, people: Any) -> None:
    before = two_phase_commits(cluster)
    with people.database.client.start_session() as session:
        session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority"))
        people.update_many({}, {"$inc": {"n": 1000}}, session=session)
        assert people.count_documents({"n": {"$gte": 1000}}, session=session) == 600
        assert people.count_documents({"n": {"$gte": 1000}}) == 0
        session.abort_transaction()
        assert people.count_documents({"n": {"$gte": 1000}}) == 0
        with pymongo.timeout(10):
            assert people.update_many({}, {"$set": {"free": True}}).modified_count == 600  # nothing is held any more
        with session.start_transaction():
            people.update_many({}, {"$inc": {"n": 1000}}, session=session)
            total = people.aggregate([{"$group": {"_id": None, "n": {"$sum": "$n"}}}], session=session)
            assert list(total) == [{"_id": None, "n": sum(range(600)) + 600_000}]
        session.commit_transaction()  # once more: the same outcome
    assert people.count_documents({"n": {"$gte": 1000}}) == 600
    assert two_phase_commits(cluster) > before


def test_a_transaction_sees_one_moment_of_both_shards(people: Any) -> None:
    with people.database.client.start_session() as session:
        with session.start_transaction(read_concern=ReadConcern("snapshot")):
            before = people.find_one({"_id": 1}, session=session)
            people.update_many({}, {"$set": {"late": True}})
            assert not any("late" in d for d in people.find({}, session=session).sort("n", 1))
        assert before


def test_a_snapshot_stays_whole_when_a_shard_gives_its_last_chunk_away(people: Any) -> None:
    connected = people.database.client
    group = [{"$group": {"_id": None, "n": {"$sum": 1}}}]
    parts = [{"$sort": {"n": 1}}, {"$group": {"_id": "$group", "all": {"$push": "$n"}}}, {"$sort": {"_id": 1}}]
    with connected.start_session(snapshot=True) as session:
        before = list(people.aggregate(parts, session=session))
        for index, chunk in enumerate(chunks(connected, people.full_name)):
            if chunk["shard"] == "shard1ReplSet":
                move_chunk(connected, people.full_name, index)
        assert {chunk["shard"] for chunk in chunks(connected, people.full_name)} == {"shard2ReplSet"}
        assert [d["n"] for d in people.aggregate(group, session=session)] == [600]
        assert list(people.aggregate(parts, session=session)) == before
        assert len(list(people.aggregate([{"$match": {"n": {"$gte": 0}}}], session=session, batchSize=7))) == 600
        failing(72, lambda: people.distinct("_id", session=session))  # as mongos: not on a sharded collection
        assert len(list(people.find(session=session))) == 600
    lookup = {"from": "people", "localField": "n", "foreignField": "_id", "as": "other"}
    with connected.start_session(snapshot=True) as session:  # nothing has moved since: the shards do all of it
        assert [d["n"] for d in people.aggregate([{"$lookup": lookup}, *group], session=session)] == [600]


def test_conflicting_transactions_may_be_run_again(people: Any) -> None:
    connected = people.database.client
    with connected.start_session() as one, connected.start_session() as two:
        one.start_transaction()
        two.start_transaction()
        people.update_one({"_id": 1}, {"$set": {"by": 1}}, session=one)
        error = failing(112, lambda: people.update_one({"_id": 1}, {"$set": {"by": 2}}, session=two))
        assert error.has_error_label("TransientTransactionError")
        one.commit_transaction()
    assert people.find_one({"_id": 1})["by"] == 1


# Administration


def test_sharding_twice_says_so_and_another_key_is_refused(database: Any) -> None:
    namespace = f"{database.name}.things"
    shard(database.client, namespace, {"a": 1})
    shard(database.client, namespace, {"a": 1})
    failing(23, lambda: shard(database.client, namespace, {"b": 1}))
    failing(23, lambda: shard(database.client, namespace, {"a": 1}, unique=True))
    failing(9, lambda: database.client.admin.command("shardCollection", namespace))


def test_zones_presplit_an_empty_collection(database: Any) -> None:
    namespace = f"{database.name}.zoned"
    for zone, low, high in (("APJ", "A", "E"), ("LATAM", "L", "N")):
        bounds = {"min": {"region": low, "_id": MinKey()}, "max": {"region": high, "_id": MinKey()}}
        database.client.admin.command("updateZoneKeyRange", namespace, zone=zone, **bounds)
    shard(database.client, namespace, {"region": 1, "_id": "hashed"}, presplitHashedZones=True)
    owner = {c["min"]["region"]: c["shard"] for c in chunks(database.client, namespace)}
    assert (owner["A"], owner["L"]) == ("shard1ReplSet", "shard2ReplSet")


def test_chunks_are_split_and_moved(people: Any) -> None:
    admin, namespace = people.database.client.admin, people.full_name
    before = len(chunks(people.database.client, namespace))
    admin.command("split", namespace, find={"_id": 1})
    assert len(chunks(people.database.client, namespace)) == before + 1
    move_chunk(people.database.client, namespace)
    failing(70, lambda: admin.command("moveChunk", namespace, find={"_id": 1}, to="nowhere"))
    assert people.count_documents({}) == 600


def test_indexes_collections_and_databases_come_and_go(people: Any) -> None:
    database = people.database
    people.create_index([("n", 1)], name="by_n")
    assert "by_n" in people.index_information()
    people.drop_index("by_n")
    assert "by_n" not in people.index_information()
    database.plain.insert_one({})
    assert set(database.list_collection_names()) == {"people", "plain"}
    database.plain.rename("renamed")
    assert database.renamed.count_documents({}) == 1
    database.client.admin.command("movePrimary", database.name, to="shard1ReplSet")
    assert database.renamed.count_documents({}) == 1
    database.client.admin.command("movePrimary", database.name, to="shard2ReplSet")
    assert database.renamed.count_documents({}) == 1
    people.drop()
    database.client.drop_database(database.name)
    assert database.name not in database.client.list_database_names()
    assert database.people.count_documents({}) == 0


def test_statistics_add_up(people: Any) -> None:
    failing(59, lambda: people.database.command("collStats", "people"))  # $collStats has the same
    assert sum(part["count"] for part in people.aggregate([{"$collStats": {"count": {}}}])) == 600
    assert people.database.command("dbStats")["objects"] >= 600
    assert people.database.validate_collection("people")["valid"]
    status = people.database.client.admin.command("serverStatus")
    assert status["process"] == "mongos"


def test_the_balancer_is_switched(client: MongoClient[dict[str, Any]]) -> None:
    client.admin.command("balancerStop")
    assert client.admin.command("balancerStatus")["mode"] == "off"
    client.admin.command("balancerStart")
    assert client.admin.command("balancerStatus")["mode"] == "full"
