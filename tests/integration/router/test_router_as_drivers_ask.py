"""What PyMongo's own test suite asks of a mongos and did not get: documents before and after a change, read concerns
that a command has not, collections made in a transaction, a login that begins with the handshake."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient, monitoring
from pymongo.read_concern import ReadConcern

from tests.integration.router.sharded import failing, move_chunk, shard
from tests.support.clusters import EmbeddedCluster

pytestmark = pytest.mark.timeout(120)
SNAPSHOT = {"level": "snapshot"}
WITH_IMAGES: dict[str, Any] = {"changeStreamPreAndPostImages": {"enabled": True}}


@pytest.fixture
def halves(database: Any) -> Any:
    """A collection that keeps documents before each change: keys below 0 on one shard, the rest on the other."""
    namespace = f"{database.name}.halves"
    shard(database.client, namespace, {"_id": 1})
    database.client.admin.command("split", namespace, middle={"_id": 0})
    move_chunk(database.client, namespace)
    database.command("collMod", "halves", **WITH_IMAGES)
    return database.halves


def changes(collection: Any, wanted: int, **options: Any) -> list[dict[str, Any]]:
    """The next events of a stream while documents on both shards are written, changed, replaced and deleted."""
    with collection.watch(max_await_time_ms=500, **options) as stream:
        for key in (-1, 1):
            collection.insert_one({"_id": key, "n": 1})
            collection.update_one({"_id": key}, {"$set": {"n": 2}})
            collection.replace_one({"_id": key}, {"n": 3})
            collection.delete_one({"_id": key})
        return [next(stream) for _ in range(wanted)]


@pytest.mark.parametrize("wanted", ["required", "whenAvailable"])
def test_a_stream_tells_the_document_before_and_after_each_change(halves: Any, wanted: str) -> None:
    events = changes(halves, 8, full_document=wanted, full_document_before_change=wanted)
    assert [
        (e["operationType"], (e.get("fullDocument") or {}).get("n"), (e.get("fullDocumentBeforeChange") or {}).get("n"))
        for e in events
    ] == [("insert", 1, None), ("update", 2, 1), ("replace", 3, 2), ("delete", None, 3)] * 2
    assert all(not {"preImageId", "rawOplogUpdateSpec"} & set(event) for event in events)


def test_stages_after_it_see_the_document_before_the_change(halves: Any) -> None:
    stages = [{"$match": {"fullDocumentBeforeChange.n": 2}}]
    events = changes(halves, 2, pipeline=stages, full_document_before_change="required")
    assert [(e["operationType"], e["documentKey"]["_id"]) for e in events] == [("replace", -1), ("replace", 1)]


def test_without_kept_documents_a_stream_says_null_or_ends_as_it_was_told(database: Any) -> None:
    database.create_collection("plain")
    with database.plain.watch(
        full_document="whenAvailable", full_document_before_change="whenAvailable", max_await_time_ms=500
    ) as stream:
        database.plain.insert_one({"_id": 1})
        database.plain.update_one({"_id": 1}, {"$set": {"n": 2}})
        assert next(stream)["operationType"] == "insert"
        event = next(stream)
        assert (event["fullDocument"], event["fullDocumentBeforeChange"]) == (None, None)
    with database.plain.watch(full_document_before_change="required", max_await_time_ms=500) as stream:
        database.plain.update_one({"_id": 1}, {"$set": {"n": 3}})
        failing(47, lambda: next(stream))  # NoMatchingDocument


def test_a_stream_with_another_read_concern_than_majority_is_refused(database: Any) -> None:
    failing(72, lambda: database.get_collection("c", read_concern=ReadConcern("local")).watch())
    with database.get_collection("c", read_concern=ReadConcern("majority")).watch():
        pass


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("findAndModify", {"update": {"$set": {"n": 1}}}),
        ("insert", {"documents": [{"_id": 9}]}),
        ("count", {}),
        ("listIndexes", {}),
        ("listCollections", {}),
    ],
)
def test_a_command_is_not_run_with_a_read_concern_that_it_has_not(
    database: Any, name: str, fields: dict[str, Any]
) -> None:
    database.c.insert_one({"_id": 1})
    subject = 1 if name == "listCollections" else "c"
    failing(72, lambda: database.command(name, subject, readConcern=SNAPSHOT, **fields))
    assert list(database.c.find()) == [{"_id": 1}]
    assert database.command(name, subject, readConcern={"level": "local"}, **fields)["ok"] == 1


def test_a_staleness_that_no_secondary_can_keep_is_refused(database: Any) -> None:
    database.c.insert_one({"_id": 1})
    command: dict[str, Any] = {"find": "c", "filter": {}}

    def found(mode: str, seconds: int) -> Any:
        preference = {"mode": mode, "maxStalenessSeconds": seconds}
        return database.command(command | {"$readPreference": preference})["cursor"]["firstBatch"]

    failing(160, lambda: found("secondaryPreferred", 89))
    failing(9, lambda: found("primary", 90))
    assert found("secondaryPreferred", 90) == found("secondaryPreferred", -1) == [{"_id": 1}]


def test_a_query_that_is_wrong_is_refused_where_there_is_no_such_database(client: MongoClient[dict[str, Any]]) -> None:
    nowhere = client["no_such_database"].c
    failing(2, lambda: list(nowhere.find({"$wrong": 1})))
    failing(2, lambda: nowhere.count_documents({"$wrong": 1}))
    failing(40324, lambda: list(nowhere.aggregate([{"$wrong": 1}])))
    assert list(nowhere.find({"a": 1})) == []
    assert nowhere.count_documents({}) == nowhere.estimated_document_count() == 0
    assert nowhere.distinct("a") == []
    assert "no_such_database" not in client.list_database_names()


def test_a_transaction_makes_a_collection_and_its_index_or_neither(database: Any) -> None:
    database.create_collection("other")
    with database.client.start_session() as session:
        with session.start_transaction():
            database.create_collection("made", session=session)
            database.made.create_index("n", name="by_n", session=session)
            database.made.insert_one({"n": 1}, session=session)
            session.abort_transaction()
        assert "made" not in database.list_collection_names()
        with session.start_transaction():
            database.create_collection("made", session=session)
            database.made.create_index("n", name="by_n", session=session)
            database.made.insert_one({"n": 1}, session=session)
    assert database.made.count_documents({"n": 1}) == 1
    assert "by_n" in database.made.index_information()


class Started(monitoring.CommandListener):
    """The names of the commands that were sent, and the times that they brought along."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bool]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        self.sent.append((event.command_name, "$clusterTime" in event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Of no interest."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Of no interest."""


def test_logging_in_begins_with_the_handshake_which_tells_the_cluster_s_time(cluster: EmbeddedCluster) -> None:
    """PyMongo shows no command whose conversation is about a password: saslStart would be one of those it sends."""
    seen = Started()
    with cluster.client(event_listeners=[seen]) as client:
        assert client.admin.command("ping")["ok"] == 1
    sent = [name for name, _ in seen.sent]
    assert "saslStart" not in sent, sent
    assert seen.sent[sent.index("ping")] == ("ping", True)
