"""Change streams: every event once and in order, over shards, moving chunks, dead primaries and routers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from bson import Int64, Timestamp
from pymongo import MongoClient, WriteConcern
from pymongo.errors import OperationFailure, PyMongoError

from shardmart.cluster.protocol.connection import connect
from tests.integration.router.sharded import chunks, failing, move_chunk, shard
from tests.integration.router.test_router_survival import wait_until
from tests.support.clusters import EmbeddedCluster

pytestmark = pytest.mark.timeout(180)


class Watcher(threading.Thread):
    """Collects the numbers of a stream's events until `last` has come; resumes as drivers do."""

    def __init__(self, collection: Any, last: int, **options: Any) -> None:
        super().__init__()
        self.stream = collection.watch(max_await_time_ms=500, **options)
        self.last = last
        self.numbers: list[int] = []
        self.failure: PyMongoError | None = None

    def run(self) -> None:
        deadline = time.monotonic() + 120
        try:
            with self.stream:
                while time.monotonic() < deadline and (not self.numbers or self.numbers[-1] != self.last):
                    if event := self.stream.try_next():
                        self.numbers.append(event["documentKey"]["_id"])
        except PyMongoError as error:
            self.failure = error

    def assert_in_order(self) -> None:
        self.join(130)
        assert self.failure is None, self.failure
        assert self.numbers == list(range(self.last + 1))


@pytest.fixture
def things(database: Any) -> Any:
    """A collection over both shards."""
    shard(database.client, f"{database.name}.things", {"_id": "hashed"})
    return database.things.with_options(write_concern=WriteConcern("majority"))


def test_events_of_both_shards_come_once_and_in_order_while_chunks_move(things: Any) -> None:
    watchers = [Watcher(things, 299), Watcher(things.database, 299), Watcher(things, 299, full_document="updateLookup")]
    for watcher in watchers:
        watcher.start()
    moves: list[int] = []

    def move() -> None:
        for index in (0, 1, 0, 2):
            move_chunk(things.database.client, things.full_name, index)
            moves.append(index)

    mover = threading.Thread(target=move)
    mover.start()
    for number in range(299):
        things.insert_one({"_id": number})
    mover.join(120)
    things.insert_one({"_id": 299})
    for watcher in watchers:
        watcher.assert_in_order()
    assert len(moves) == 4


def test_no_event_is_lost_when_a_primary_or_the_router_dies(replicated: EmbeddedCluster) -> None:
    with replicated.client(retryWrites=True, serverSelectionTimeoutMS=30_000) as client:
        client.drop_database("streams")
        shard(client, "streams.things", {"_id": "hashed"})
        things = client.streams.things.with_options(write_concern=WriteConcern("majority"))
        watcher = Watcher(things, 199)
        watcher.start()
        for number in range(200):
            if number == 60:
                dead = replicated.primary_of("shard1ReplSet")
                replicated.kill(dead)
            if number == 120:
                replicated.start(dead)
                replicated.kill("mongos1")
                replicated.start("mongos1")
            things.insert_one({"_id": number})
        watcher.assert_in_order()


def test_a_stream_goes_on_where_it_was_left(things: Any) -> None:
    begun = things.database.command("ping")["operationTime"]
    with things.watch() as stream:
        things.insert_many([{"_id": n} for n in range(10)])
        events = [stream.next() for _ in range(10)]
    numbers = [event["documentKey"]["_id"] for event in events]
    assert sorted(numbers) == list(range(10))
    with things.watch(resume_after=events[3]["_id"]) as stream:
        assert [stream.next()["documentKey"]["_id"] for _ in range(6)] == numbers[4:]
    with things.watch(start_after=events[3]["_id"]) as stream:
        assert [stream.next()["documentKey"]["_id"] for _ in range(6)] == numbers[4:]
    with things.watch(start_at_operation_time=Timestamp(begun.time, begun.inc + 1)) as stream:
        assert [stream.next()["documentKey"]["_id"] for _ in range(10)] == numbers
    with things.watch() as stream:
        token = stream.resume_token
    things.insert_one({"_id": 10})
    with things.watch(resume_after=token) as stream:  # a mark, not an event
        assert stream.next()["documentKey"]["_id"] == 10


def test_streams_that_resume_after_the_same_event_both_go_on(things: Any) -> None:
    with things.watch() as stream:
        things.insert_many([{"_id": n} for n in range(5)])
        events = [stream.next() for _ in range(5)]
    numbers, token = [event["documentKey"]["_id"] for event in events], events[1]["_id"]
    options: list[dict[str, Any]] = [{"resume_after": token}, {"resume_after": token}, {"start_after": token}]
    streams = [things.watch(max_await_time_ms=200, **each) for each in options]
    read: list[list[int]] = [[] for _ in streams]
    things.insert_one({"_id": 5})
    for stream, found in reversed(list(zip(streams, read, strict=True))):  # the last one first: it reads over the event
        wait_until(lambda s=stream, f=found: take([s], [f])[0][-1:] == [5], "the last event")
    assert read == [[*numbers[2:], 5]] * 3
    for stream in streams:
        stream.close()


def test_a_stream_may_begin_in_the_future(things: Any) -> None:
    now = things.database.command("ping")["operationTime"]
    begin = Timestamp(now.time + 3, 1)
    numbers = iter(range(10_000))
    with things.watch(start_at_operation_time=begin, max_await_time_ms=200) as stream:
        events: list[Any] = []

        def seen() -> bool:
            things.insert_one({"_id": next(numbers)})
            if event := stream.try_next():
                events.append(event)
            return bool(events)

        wait_until(seen, "an event after that time")
    assert events[0]["clusterTime"] >= begin
    assert events[0]["documentKey"]["_id"] > 0  # those before it were not shown


def test_a_stream_is_opened_once_on_each_shard(cluster: EmbeddedCluster, things: Any) -> None:
    primary = cluster.description.shards[0].members[0].address
    with connect(primary, cluster.members_credentials) as shard_itself:

        def opened_so_far() -> int:
            metrics = shard_itself.admin.command("serverStatus")["metrics"]
            return int(metrics["commands"]["aggregate"]["total"])

        before = opened_so_far()
        for number in range(5):
            with things.watch(max_await_time_ms=100, comment=str(number)) as stream:
                assert stream.try_next() is None
        assert 5 <= opened_so_far() - before < 10


def test_an_update_shows_the_document_and_the_clients_stages_see_it(things: Any) -> None:
    things.insert_many([{"_id": n, "kind": n % 2} for n in range(10)])
    stages = [{"$match": {"fullDocument.kind": 1}}, {"$addFields": {"seen": "$fullDocument.a"}}]
    with things.watch(stages, full_document="updateLookup") as stream:
        for number in range(10):
            things.update_one({"_id": number}, {"$set": {"a": number}})
        events = [stream.next() for _ in range(5)]
    assert [event["seen"] for event in events] == [1, 3, 5, 7, 9]
    assert events[0]["fullDocument"] == {"_id": 1, "kind": 1, "a": 1}


def test_an_update_shows_the_document_where_it_is_now_or_that_it_is_gone(things: Any) -> None:
    things.insert_many([{"_id": n} for n in range(20)])
    with things.watch([{"$match": {"operationType": "update"}}], full_document="updateLookup") as stream:
        things.update_many({}, {"$set": {"a": 1}})
        for index in range(len(chunks(things.database.client, things.full_name))):
            move_chunk(things.database.client, things.full_name, index)
        things.delete_one({"_id": 0})
        found = {event["documentKey"]["_id"]: event["fullDocument"] for event in (stream.next() for _ in range(20))}
    assert found == {0: None} | {n: {"_id": n, "a": 1} for n in range(1, 20)}


def test_a_dropped_collection_ends_its_stream(things: Any) -> None:
    things.insert_one({"_id": 1})
    with things.watch() as stream, things.database.watch() as whole:
        things.drop()
        kinds = [event["operationType"] for event in stream]
        assert kinds[-1] == "invalidate"
        assert set(kinds[:-1]) == {"drop"}
        assert whole.next()["operationType"] == "drop"
        token = stream.resume_token
    things.database.things.insert_one({"_id": 2})
    failing(260, lambda: things.watch(resume_after=token))
    with things.watch(start_after=token) as stream:
        event = stream.next()
        while event["operationType"] == "drop":  # the other shard's
            event = stream.next()
        assert event["documentKey"]["_id"] == 2


def test_events_are_not_held_back_by_a_shard_where_nothing_happens(things: Any) -> None:
    with things.watch(max_await_time_ms=8000) as stream:
        began = time.monotonic()
        things.insert_one({"_id": 1})
        assert stream.next()["documentKey"]["_id"] == 1
        assert time.monotonic() - began < 5  # 10 s, without the notes; usually 0.2


def test_what_cannot_be_streamed_is_refused_with_mongoss_codes(things: Any) -> None:
    things.insert_one({"_id": 0})
    with things.watch([{"$project": {"_id": 0}}]) as stream:
        things.insert_one({"_id": 1})
        error = failing(280, stream.next)
    assert not error.has_error_label("ResumableChangeStreamError")
    with things.watch() as stream:
        things.insert_one({"_id": 2})
        token = stream.next()["_id"]["_data"]
    missing = {"_data": token[:-12] + ("0" * 6 if token[-12:-6] != "0" * 6 else "1" * 6) + token[-6:]}
    with pytest.raises(OperationFailure), things.watch(resume_after=missing) as stream:
        stream.next()
    failing(73, lambda: things.database.client.config.watch())
    failing(40324, lambda: things.watch([{"$frobnicate": {}}]))


def test_a_stream_needs_its_own_rights(cluster: EmbeddedCluster, client: MongoClient[dict[str, Any]]) -> None:
    client.admin.command("createUser", "reader", pwd="eyes", roles=[{"role": "read", "db": "own"}])
    try:
        with MongoClient(f"mongodb://reader:eyes@{cluster.router}/") as reader:
            with reader.own.watch() as stream:
                client.own.things.insert_one({"_id": 1})
                assert stream.next()["ns"] == {"db": "own", "coll": "things"}
            failing(13, reader.watch)
            failing(13, reader.other.watch)
            failing(13, reader.other.things.watch)
        with client.watch() as stream:
            client.admin.command("createUser", "hidden", pwd="x", roles=[])
            client.config.settings.find_one()
            client.own.things.insert_one({"_id": 2})
            assert stream.next()["ns"]["db"] == "own"
    finally:
        for name in ("reader", "hidden"):
            client.admin.command("dropUser", name)
        client.drop_database("own")


def test_two_hundred_streams_leave_room_for_others(cluster: EmbeddedCluster, things: Any) -> None:
    things.insert_one({"_id": 0})
    with cluster.client(maxPoolSize=250) as many, ThreadPoolExecutor(200) as pool:
        database = many[things.database.name]
        opening = {"aggregate": "things", "pipeline": [{"$changeStream": {}}], "cursor": {}}
        # Every one has its own comment: streams that ask for the same would be read as one.
        cursors = [database.command({**opening, "comment": n})["cursor"]["id"] for n in range(200)]
        more = {"collection": "things", "maxTimeMS": 20_000}
        waiting = [pool.submit(database.command, "getMore", Int64(cursor), **more) for cursor in cursors]
        wait_until(lambda: sum(future.running() for future in waiting) == 200, "all streams to wait")
        for _ in range(20):
            assert things.find_one({"_id": 0})
        assert not any(future.done() for future in waiting)
        things.insert_one({"_id": 1})
        batches = [future.result(60)["cursor"]["nextBatch"] for future in waiting]
        assert all([event["documentKey"]["_id"] for event in batch] == [1] for batch in batches)
        database.command("killCursors", "things", cursors=[Int64(cursor) for cursor in cursors])


def opened(things: Any) -> int:
    """How many cursors of change streams the members have open on a collection, idle or in use."""
    stage = {"$currentOp": {"allUsers": True, "idleCursors": True}}
    here = {"$match": {"cursor.originatingCommand.aggregate": "things", "ns": things.full_name}}
    return len(list(things.database.client.admin.aggregate([stage, here])))


def cursors_of(streams: int, request: pytest.FixtureRequest) -> int:
    """How many cursors the members of two shards have for streams that ask for the same."""
    return 2 * streams if "mongos" in request.node.name else 2


def test_streams_that_ask_for_the_same_have_one_cursor_on_each_shard(
    things: Any, request: pytest.FixtureRequest
) -> None:
    streams = [things.watch(max_await_time_ms=200) for _ in range(10)]
    read: list[list[int]] = [[] for _ in streams]
    numbers = iter(range(10_000))
    expected = cursors_of(10, request)

    def shared() -> bool:
        things.insert_one({"_id": next(numbers)})
        take(streams, read)
        return opened(things) == expected

    wait_until(shared, "all streams to be read as one")
    resumed = things.watch(resume_after=streams[3].resume_token, max_await_time_ms=200)
    streams, read = [*streams, resumed], [*read, list(read[3])]
    last = next(numbers)
    things.insert_one({"_id": last})
    wait_until(lambda: all(numbers[-1] == last for numbers in take(streams, read)), "the last event")
    assert all(numbers == list(range(last + 1)) for numbers in read)
    for stream in streams[:-1]:
        stream.close()  # the last one reads on
    things.insert_one({"_id": last + 1})
    assert resumed.next()["documentKey"]["_id"] == last + 1
    resumed.close()
    wait_until(lambda: opened(things) == 0, "the cursors to be closed", 60)


def take(streams: list[Any], read: list[list[int]]) -> list[list[int]]:
    """Read what each stream has; returns what was read in all."""
    for stream, numbers in zip(streams, read, strict=True):
        while event := stream.try_next():
            numbers.append(event["documentKey"]["_id"])
    return read


def test_a_stream_that_others_have_left_far_behind_misses_nothing(things: Any, request: pytest.FixtureRequest) -> None:
    with things.watch(max_await_time_ms=200) as quick, things.watch(max_await_time_ms=200) as slow:
        read: list[list[int]] = [[], []]
        things.insert_one({"_id": 0})
        expected = cursors_of(2, request)
        wait_until(lambda: all(take([quick, slow], read)) and opened(things) == expected, "both to be one")
        for number in range(1, 31):
            things.insert_one({"_id": number, "pad": "x" * 900_000})
            take([quick], read[:1])
        wait_until(lambda: take([quick], read[:1])[0][-1] == 30, "the quick one")
        wait_until(lambda: take([slow], read[1:])[0][-1] == 30, "the slow one")
    assert read == [list(range(31))] * 2


def test_the_cursors_of_a_dead_client_are_closed(cluster: EmbeddedCluster, things: Any) -> None:
    dying = cluster.client()
    dying[things.database.name].command(
        {"aggregate": "things", "pipeline": [{"$changeStream": {}}], "cursor": {"batchSize": 0}}
    )
    wait_until(lambda: opened(things) == 2, "the stream's cursors")
    dying.close()
    wait_until(lambda: opened(things) == 0, "the cursors to be closed", 60)
