"""Finds over several shards: they belong to their client, end when it says so, and outlive a primary or a shard."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bson import Decimal128, Int64
from pymongo import MongoClient

from tests.integration.router.sharded import failing, shard
from tests.integration.router.test_router_survival import wait_until
from tests.support.clusters import EmbeddedCluster

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def things(database: Any) -> Any:
    """400 documents over both shards."""
    shard(database.client, f"{database.name}.things", {"_id": "hashed"})
    texts = ["tea " * (i % 7 + 1) for i in range(400)]
    places = [[i / 10, 0] for i in range(400)]
    database.things.insert_many([{"_id": i, "text": texts[i], "at": places[i]} for i in range(400)])
    return database.things


def more_of(things: Any, cursor: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """The next ten documents."""
    fields = {"collection": things.name, "batchSize": 10, **options}
    reply = things.database.command("getMore", Int64(cursor["id"]), **fields)
    return list(reply["cursor"]["nextBatch"])


def test_killing_its_session_ends_a_find(things: Any) -> None:
    database = things.database
    with database.client.start_session() as session:
        cursor = database.command("find", "things", batchSize=10, sort={"_id": 1}, session=session)["cursor"]
        assert len(more_of(things, cursor, session=session)) == 10
        assert session.session_id
        database.client.admin.command("killSessions", [{"id": session.session_id["id"]}])
        failing(43, lambda: [more_of(things, cursor, session=session) for _ in range(20)])


def test_its_user_sees_a_find_among_the_current_operations(things: Any) -> None:
    mark = "sleep(20) || 'a find over both shards'"
    reader = threading.Thread(target=lambda: list(things.find({"$where": mark})))
    reader.start()
    try:
        admin = things.database.client.admin
        wait_until(lambda: mark in str(list(admin.aggregate([{"$currentOp": {}}]))), "the find to be seen", 20)
    finally:
        reader.join()


def test_a_find_ends_on_the_shards_with_its_time(things: Any) -> None:
    mark = "sleep(100) || 'too slow'"
    failing(50, lambda: list(things.find({"$where": mark}, max_time_ms=500)))
    own = [{"$currentOp": {"allUsers": True}}, {"$match": {"command.filter.$where": mark}}]
    wait_until(lambda: not list(things.database.client.admin.aggregate(own)), "the find to end", 5)  # else 20 s


def test_a_find_is_in_the_order_of_text_scores_decimals_and_distances(things: Any) -> None:
    things.create_index({"text": "text"})
    things.create_index({"at": "2d"})
    for options in ({}, {"allowPartialResults": True}):
        ask = {"batchSize": 400, **options}
        score = {"s": {"$meta": "textScore"}}
        found = things.database.command("find", "things", filter={"$text": {"$search": "tea"}}, sort=score,
                                        projection=score, **ask)["cursor"]["firstBatch"]  # fmt: skip
        assert [d["s"] for d in found] == sorted((d["s"] for d in found), reverse=True)
        found = things.database.command("find", "things", sort={"_id": Decimal128("-1")}, **ask)["cursor"]["firstBatch"]
        assert [d["_id"] for d in found] == list(range(400))[::-1]
        found = things.database.command("find", "things", filter={"at": {"$near": [0, 0]}}, **ask)["cursor"][
            "firstBatch"
        ]
        assert [d["_id"] for d in found] == list(range(len(found)))


@pytest.fixture
def without_shard_2(cluster: EmbeddedCluster, things: Any) -> Iterator[Any]:
    """A function that kills shard 2; it is back afterwards."""
    killed: list[str] = []

    def kill() -> None:
        killed.append("shard2-1")
        cluster.kill("shard2-1")

    yield kill
    for name in killed:
        cluster.start(name)
    wait_until(lambda: things.count_documents({}) == 400, "the shard to be back")


def test_a_shard_that_dies_between_batches_is_missing_in_a_partial_result(things: Any, without_shard_2: Any) -> None:
    ask = {"batchSize": 10, "allowPartialResults": True}
    cursor = things.database.command("find", "things", sort={"_id": 1}, **ask)["cursor"]
    assert "partialResultsReturned" not in cursor
    without_shard_2()
    more = {"collection": "things", "batchSize": 400}
    rest = things.database.command("getMore", Int64(cursor["id"]), **more)["cursor"]
    assert rest["partialResultsReturned"] is True
    assert rest["id"] == 0
    assert 10 < len(rest["nextBatch"]) < 390
    whole = things.database.command("find", "things", sort={"_id": 1}, **ask)["cursor"]
    assert whole["partialResultsReturned"] is True


def test_an_unsharded_collection_of_a_dead_shard_is_a_partial_result(things: Any, without_shard_2: Any) -> None:
    client = things.database.client
    client.drop_database("of_two")
    client.admin.command("enableSharding", "of_two", primaryShard="shard2ReplSet")
    client.of_two.things.insert_one({})
    without_shard_2()
    cursor = client.of_two.command("find", "things", allowPartialResults=True)["cursor"]
    assert cursor["firstBatch"] == []
    assert cursor["partialResultsReturned"] is True


@pytest.mark.long
def test_reads_over_both_shards_outlive_primaries_that_step_down(replicated: EmbeddedCluster) -> None:
    with replicated.client(retryReads=False) as client:
        client.drop_database("stepping")
        shard(client, "stepping.things", {"_id": "hashed"})
        client.stepping.things.insert_many([{"_id": i} for i in range(400)])
        for declared in replicated.description.shards:
            assert len(list(client.stepping.things.find().sort("_id"))) == 400  # with connections open
            primary = replicated.primary_of(declared.name)
            address = next(m.address for m in declared.members if m.name == primary)
            options = replicated.members_credentials.options()
            with MongoClient(address, directConnection=True, **options) as direct:
                direct.admin.command("replSetStepDown", 20, secondaryCatchUpPeriodSecs=10)
            began = time.monotonic()
            if declared is replicated.description.shards[0]:  # its member merges
                (whole,) = client.stepping.things.aggregate([{"$group": {"_id": None, "n": {"$sum": 1}}}])
                assert whole["n"] == 400
            assert [d["_id"] for d in client.stepping.things.find(batch_size=50).sort("_id")] == list(range(400))
            assert time.monotonic() - began < 20
        client.drop_database("stepping")
