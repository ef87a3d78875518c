"""What the router survives: dead primaries, moving chunks, clients that vanish, its own death."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import bson
import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError
from pymongo.read_preferences import ReadPreference, Secondary

from tests.integration.router.sharded import chunks, move_chunk, shard
from tests.support.clusters import EmbeddedCluster

pytestmark = pytest.mark.long


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.05)


class Writer(threading.Thread):
    """Inserts numbered documents one after the other, and remembers which were acknowledged."""

    def __init__(self, collection: Any) -> None:
        super().__init__()
        self.collection = collection
        self.acknowledged: list[int] = []
        self.unknown: list[int] = []
        self.stop = threading.Event()

    def run(self) -> None:
        number = 0
        while not self.stop.is_set():
            try:
                self.collection.insert_one({"_id": number})
                self.acknowledged.append(number)
            except PyMongoError:
                self.unknown.append(number)
            number += 1

    def finish(self) -> None:
        self.stop.set()
        self.join(60)
        assert not self.is_alive()

    def assert_nothing_lost(self, collection: Any) -> None:
        found = [d["_id"] for d in collection.find({}, {"_id": 1})]
        assert len(found) == len(set(found)), "a document is there twice"
        lost = set(self.acknowledged) - set(found)
        assert not lost, f"{len(lost)} acknowledged documents are lost"


@pytest.fixture
def collection(replicated: EmbeddedCluster) -> Any:
    with replicated.client(retryWrites=True, serverSelectionTimeoutMS=30_000) as client:
        client.drop_database("survival")
        shard(client, "survival.things", {"_id": "hashed"})
        yield client.survival.things.with_options(write_concern=WriteConcern("majority", wtimeout=30_000))


def test_killing_the_router_loses_no_acknowledged_write(replicated: EmbeddedCluster, collection: Any) -> None:
    writer = Writer(collection)
    writer.start()
    for kills in range(1, 4):
        wait_until(lambda kills=kills: len(writer.acknowledged) >= 25 * kills, "writes")  # type: ignore[misc]
        replicated.kill("mongos1")
        replicated.start("mongos1")
    wait_until(lambda: len(writer.acknowledged) >= 100, "writes after the last restart")
    writer.finish()
    writer.assert_nothing_lost(collection)


def test_a_transaction_whose_router_died_can_be_run_again(replicated: EmbeddedCluster, collection: Any) -> None:
    with collection.database.client.start_session() as session:
        session.start_transaction()
        collection.insert_many([{"_id": f"before {i}"} for i in range(10)], session=session)
        replicated.kill("mongos1")
        replicated.start("mongos1")
        with pytest.raises(PyMongoError) as failure:
            session.commit_transaction()
        assert failure.value.has_error_label("TransientTransactionError")
        session.with_transaction(
            lambda s: collection.insert_many([{"_id": f"after {i}"} for i in range(10)], session=s)
        )
    assert collection.count_documents({"_id": {"$regex": "^before"}}) == 0
    assert collection.count_documents({"_id": {"$regex": "^after"}}) == 10


def test_retryable_writes_survive_the_death_of_a_shards_primary(replicated: EmbeddedCluster, collection: Any) -> None:
    writer = Writer(collection)
    writer.start()
    wait_until(lambda: len(writer.acknowledged) >= 25, "writes")
    primary = replicated.primary_of("shard1ReplSet")
    replicated.kill(primary)
    try:
        before = len(writer.acknowledged)
        wait_until(lambda: len(writer.acknowledged) >= before + 50, "writes by the next primary")
        writer.finish()
    finally:
        replicated.start(primary)
    assert not writer.unknown, f"{len(writer.unknown)} writes failed although they could be sent again"
    writer.assert_nothing_lost(collection)


def test_reads_and_writes_go_on_without_a_config_primary(replicated: EmbeddedCluster, collection: Any) -> None:
    collection.insert_one({"_id": "before"})
    primary = replicated.primary_of("configReplSet")
    replicated.kill(primary)
    try:
        collection.insert_one({"_id": "meanwhile"})
        assert collection.count_documents({}) == 2
        with replicated.client() as newcomer:  # authentication and routing from the secondaries
            assert newcomer.survival.things.find_one({"_id": "before"})
    finally:
        replicated.start(primary)


def test_a_bulk_over_a_moving_chunk_arrives_once(collection: Any) -> None:
    client = collection.database.client
    numbers = range(20_000)
    failures: list[BaseException] = []

    def load() -> None:
        try:
            for start in range(0, len(numbers), 500):
                collection.insert_many([{"_id": i} for i in numbers[start : start + 500]], ordered=False)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    moves = 0
    while thread.is_alive():
        try:
            move_chunk(client, "survival.things", moves % len(chunks(client, "survival.things")))
            moves += 1
        except OperationFailure as error:
            assert error.code in (96, 112, 117, 209, 84), error  # noqa: PT017  # the balancer was faster
    thread.join()
    assert not failures, failures
    assert moves > 0
    assert collection.count_documents({}) == len(numbers)


def test_secondaries_serve_reads_when_asked(replicated: EmbeddedCluster, collection: Any) -> None:
    collection.insert_many([{"_id": i} for i in range(100)], ordered=False)
    reader = collection.with_options(read_preference=ReadPreference.SECONDARY)
    before = secondary_queries(replicated)
    with collection.database.client.start_session(causal_consistency=True) as session:
        collection.insert_one({"_id": "last"}, session=session)
        assert reader.find_one({"_id": "last"}, session=session), "a causally consistent read misses its own write"
        assert len(list(reader.find({}, session=session))) == 101
    assert secondary_queries(replicated) > before
    nowhere = collection.with_options(read_preference=Secondary(tag_sets=[{"rack": "none"}]))
    with pytest.raises(OperationFailure) as failure:
        nowhere.find_one({}, max_time_ms=1500)
    assert failure.value.code in (50, 133)


def secondary_queries(cluster: EmbeddedCluster) -> int:
    total = 0
    for declared in cluster.description.shards:
        for member in declared.members:
            if member.name != cluster.primary_of(declared.name):
                options = cluster.members_credentials.options()
                with MongoClient(member.address, directConnection=True, **options) as direct:
                    total += direct.admin.command("serverStatus")["opcounters"]["query"]
    return total


def open_cursors(cluster: EmbeddedCluster) -> int:
    total = 0
    for declared in cluster.description.shards:
        for member in declared.members:
            with MongoClient(member.address, directConnection=True, **cluster.members_credentials.options()) as direct:
                pipeline = [{"$currentOp": {"idleCursors": True, "allUsers": True}}, {"$match": {"type": "idleCursor"}}]
                ours = [op for op in direct.admin.aggregate(pipeline) if str(op.get("ns")).startswith("survival.")]
                total += len(ours)
    return total


@pytest.mark.parametrize("kind", ["find", "sorted", "aggregate", "one shard"])
def test_a_closed_cursor_is_closed_on_the_shards(replicated: EmbeddedCluster, collection: Any, kind: str) -> None:
    filler = "x" * (40_000 if kind == "aggregate" else 10)  # clusterAggregate fetches ahead, up to 16 MB
    collection.insert_many([{"_id": i, "v": -i, "filler": filler} for i in range(1000)], ordered=False)
    collection.database.plain.insert_many([{"_id": i} for i in range(1000)])
    cursor = {
        "find": lambda: collection.find({}, batch_size=10),
        "sorted": lambda: collection.find({}, batch_size=10).sort("v", 1),
        "aggregate": lambda: collection.aggregate([{"$match": {}}], batchSize=10),
        "one shard": lambda: collection.database.plain.find({}, batch_size=10),
    }[kind]()
    for _ in range(25):
        next(cursor)
    assert open_cursors(replicated) > 0
    cursor.close()
    wait_until(lambda: open_cursors(replicated) == 0, "the cursors on the shards to go")


def test_a_client_that_vanishes_leaves_no_cursor(replicated: EmbeddedCluster, collection: Any) -> None:
    collection.insert_many([{"_id": i} for i in range(1000)], ordered=False)
    replicated.kill("mongos1")
    start_with_grace(replicated, 0.2)
    try:
        vanishing = replicated.client()
        cursors = [
            vanishing.survival.things.find({}, batch_size=5),
            vanishing.survival.things.aggregate([], batchSize=5),
        ]
        for cursor in cursors:
            next(cursor)
        assert open_cursors(replicated) > 0
        for server in vanishing._topology._servers.values():
            for connection in list(server.pool.conns):
                connection.conn.get_conn.shutdown(socket.SHUT_RDWR)  # no killCursors, no endSessions
        wait_until(lambda: open_cursors(replicated) == 0, "the cursors of the client that is gone")
        vanishing.close()
    finally:
        replicated.kill("mongos1")
        replicated.start("mongos1")


def start_with_grace(cluster: EmbeddedCluster, seconds: float) -> None:
    process = cluster.processes["mongos1"]
    if "shardmart.router" not in process.command:
        pytest.skip("mongos keeps cursors for ten minutes; the development router's setting is tested here")
    command = (*process.command, "--setParameter", f"cursorGraceSeconds={seconds}")
    cluster.processes["mongos1"] = type(process)(**{**vars(process), "command": command})
    cluster.start("mongos1")
    cluster.processes["mongos1"] = process


def test_a_read_ends_on_the_shards_when_its_client_is_gone(replicated: EmbeddedCluster, collection: Any) -> None:
    collection.insert_many([{"_id": i} for i in range(20)], ordered=False)
    mark = "a mark in the slow query"
    slow = {"$where": f"sleep(4000) || '{mark}'"}

    def running() -> int:
        pipeline = [{"$currentOp": {"allUsers": True}}, {"$match": {"command.filter.$where": {"$regex": mark}}}]
        return len(list(collection.database.client.admin.aggregate(pipeline)))

    with replicated.client(socketTimeoutMS=1500, retryReads=False) as impatient, pytest.raises(AutoReconnect):
        impatient.survival.things.find_one(slow)
    wait_until(lambda: running() == 0, "the query to be interrupted", 30)  # by itself it takes 40 s


def test_500_idle_connections_cost_nobody_anything(replicated: EmbeddedCluster) -> None:
    host, _, port = replicated.router.partition(":")
    message = bson.encode({"hello": 1, "$db": "admin"})
    hello = struct.pack("<iiiiIb", 21 + len(message), 1, 0, 2013, 0, 0) + message
    idle = []
    try:
        for _ in range(500):
            connection = socket.create_connection((host, int(port)), timeout=10)
            connection.sendall(hello)
            idle.append(connection)
        assert all(connection.recv(65536) for connection in idle)
        with replicated.client() as client:
            assert client.admin.command("ping")["ok"] == 1
            assert client.admin.command("serverStatus")["connections"]["current"] >= 500
    finally:
        for connection in idle:
            connection.close()
