"""Writes and reads on a sharded collection do what they do on one server: contents, counts, codes, order."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Timestamp
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from tests.integration.router.sharded import chunks, failing, move_chunk, shard

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def halves(database: Any) -> Any:
    """A collection by {k: 1}: below 0 on one shard, the rest on the other."""
    namespace = f"{database.name}.halves"
    shard(database.client, namespace, {"k": 1})
    database.client.admin.command("split", namespace, middle={"k": 0})
    move_chunk(database.client, namespace)
    assert len({chunk["shard"] for chunk in chunks(database.client, namespace)}) == 2
    return database.halves


@pytest.mark.parametrize("key", [{"_id": "hashed"}, {"_id": 1}, {"region": 1, "_id": "hashed"}])
def test_documents_without_an_id_are_found_where_their_id_belongs(database: Any, key: dict[str, Any]) -> None:
    shard(database.client, f"{database.name}.things", key)
    # As PyMongo never sends it: it gives the _id itself. The shell and other drivers leave it to the server.
    reply = database.command("insert", "things", documents=[{"region": "APJ", "n": n} for n in range(40)])
    assert reply["n"] == 40
    found = list(database.things.find())
    assert sorted(document["n"] for document in found) == list(range(40))
    for document in found:
        wanted = {field: document[field] for field in key}
        assert database.things.find_one(wanted) == document
        assert next(iter(document)) == "_id"


def test_an_empty_timestamp_in_the_key_is_set_before_the_document_is_sent(database: Any) -> None:
    shard(database.client, f"{database.name}.things", {"at": "hashed"})
    database.command("insert", "things", documents=[{"_id": n, "at": Timestamp(0, 0)} for n in range(20)])
    for document in database.things.find():
        assert document["at"].time > 0
        assert database.things.find_one({"at": document["at"]}) == document


STATEMENTS = [
    {"q": {"k": -1}, "u": {"$set": {"a": 1}}},
    {"q": {"k": 1}, "u": {"$set": {"a": 1}}},
    {"q": {"k": -2}, "u": {"$set": {"a": 1}}},
    {"q": {"n": 3}, "u": {"$set": {"a": 1}}},  # names no shard
    {"q": {"k": 2}, "u": {"$set": {"a": 1}}},
]


def test_an_ordered_bulk_does_all_that_comes_before_its_first_error_and_nothing_after(halves: Any) -> None:
    halves.insert_many([{"_id": k, "k": k} for k in (-2, -1, 1, 2)])
    reply = halves.database.command("update", "halves", updates=STATEMENTS, ordered=True, check=False)
    assert (reply["n"], reply["nModified"]) == (3, 3)
    assert [(e["index"], e["code"]) for e in reply["writeErrors"]] == [(3, 72)]
    assert {d["k"] for d in halves.find({"a": 1})} == {-1, 1, -2}


def test_an_unordered_bulk_does_all_but_what_is_wrong(halves: Any) -> None:
    halves.insert_many([{"_id": k, "k": k} for k in (-2, -1, 1, 2)])
    reply = halves.database.command("update", "halves", updates=STATEMENTS, ordered=False, check=False)
    assert (reply["n"], reply["nModified"]) == (4, 4)
    assert [(e["index"], e["code"]) for e in reply["writeErrors"]] == [(3, 72)]
    assert halves.count_documents({"a": 1}) == 4


def test_a_statement_refused_by_both_shards_is_one_error(halves: Any) -> None:
    halves.insert_many([{"_id": k, "k": k, "s": "text"} for k in (-1, 1)])
    statement = {"q": {}, "u": {"$inc": {"s": 1}}, "multi": True}
    later = {"q": {"k": 1}, "u": {"$set": {"a": 1}}}
    reply = halves.database.command("update", "halves", updates=[statement, later], check=False)
    assert [(e["index"], e["code"]) for e in reply["writeErrors"]] == [(0, 14)]
    assert halves.count_documents({"a": 1}) == 0


def test_a_malformed_statement_is_refused_before_any_is_done(halves: Any) -> None:
    statements = [{"q": {"k": -1}, "u": {"$set": {"a": 1}}, "upsert": True}, {"q": {"k": 1}, "v": 1}]
    failing(40415, lambda: halves.database.command("update", "halves", updates=statements))
    assert halves.count_documents({}) == 0


def test_documents_come_back_by_their_distance(halves: Any) -> None:
    halves.create_index([("at", "2dsphere")])
    halves.insert_many([{"k": k, "at": [abs(k) / 10 + (k > 0) / 20, 0]} for k in range(-20, 20)])
    near = {"at": {"$near": {"$geometry": {"type": "Point", "coordinates": [0, 0]}}}}
    for query, limit in ((near, 0), (near, 15), ({"$and": [near, {"k": {"$ne": 3}}]}, 0)):
        places = [document["at"][0] for document in halves.find(query, batch_size=4, limit=limit)]
        assert places == sorted(places)
        assert len(places) == (limit or (40 if query is near else 39))
    with halves.database.client.start_session() as session, session.start_transaction():
        places = [document["at"][0] for document in halves.find(near, session=session, batch_size=4)]
    assert places == sorted(places)
    assert len(places) == 40


@pytest.fixture
def views(halves: Any) -> Any:
    """The view `even` of a sharded collection, and a view of that view."""
    halves.insert_many([{"_id": k, "k": k, "half": k // 2, "tags": [k % 3, {"a": k % 5}]} for k in range(-20, 20)])
    halves.database.create_collection("even", viewOn="halves", pipeline=[{"$match": {"k": {"$mod": [2, 0]}}}])
    halves.database.create_collection("few", viewOn="even", pipeline=[{"$match": {"k": {"$gte": 0}}}])
    return halves.database


def test_views_over_sharded_collections_are_read_by_every_command(views: Any) -> None:
    even = views.even
    assert [d["k"] for d in even.find({"k": {"$gt": 3}}, {"k": 1}).sort("k", -1).skip(1).limit(3)] == [16, 14, 12]
    assert [d["k"] for d in even.find().sort("k", 1).batch_size(3)] == list(range(-20, 20, 2))
    assert even.estimated_document_count() == even.count_documents({}) == 20
    assert views.command("count", "even", query={"k": {"$lt": 0}}, skip=2, limit=5)["n"] == 5
    assert sorted(even.distinct("half")) == list(range(-10, 10))
    assert sorted(even.distinct("tags.a")) == [0, 1, 2, 3, 4]
    assert {g["_id"] for g in even.aggregate([{"$group": {"_id": "$half"}}])} == set(range(-10, 10))
    even.aggregate([{"$out": "copied"}])
    assert views.copied.count_documents({}) == 20
    assert [d["k"] for d in views.few.find().sort("k", 1)] == list(range(0, 20, 2))
    joined = list(
        views.few.aggregate([{"$lookup": {"from": "even", "localField": "k", "foreignField": "k", "as": "o"}}])
    )
    assert all(len(d["o"]) == 1 for d in joined)
    assert "ok" in even.find({"k": 4}).explain()
    failing(166, lambda: even.insert_one({"k": 1}))
    failing(168, lambda: list(even.find().sort("$natural", 1)))


def test_values_that_a_collation_makes_equal_are_one(halves: Any) -> None:
    halves.insert_many([{"k": -1, "s": "a"}, {"k": 1, "s": "A"}, {"k": 2, "s": "b"}])
    found = halves.database.command("distinct", "halves", key="s", collation={"locale": "en", "strength": 2})
    assert sorted(value.lower() for value in found["values"]) == ["a", "b"]


def test_views_are_read_in_transactions(views: Any) -> None:
    with views.client.start_session() as session:
        for first in (True, False):
            with session.start_transaction():
                if not first:
                    views.halves.insert_one({"_id": 100, "k": 100}, session=session)
                found = {d["k"] for d in views.even.find({}, session=session)}
                assert found == set(range(-20, 20, 2)) | (set() if first else {100})
                session.abort_transaction()


def test_orphans_are_not_written_by_a_statement_for_all_shards(
    halves: Any, client: MongoClient[dict[str, Any]]
) -> None:
    halves.insert_many([{"_id": k, "k": k, "n": 0} for k in range(-10, 10)])
    chunk = chunks(client, halves.full_name)[0]
    to = next(entry["_id"] for entry in client.config.shards.find() if entry["_id"] != chunk["shard"])
    client.admin.command("moveChunk", halves.full_name, bounds=[chunk["min"], chunk["max"]], to=to)  # leaves orphans
    assert halves.update_many({}, {"$inc": {"n": 1}}).matched_count == 20
    assert halves.update_one({"_id": -3}, {"$inc": {"n": 1}}).matched_count == 1
    assert halves.find_one({"_id": -3})["n"] == 2
    assert halves.count_documents({}) == 20
    assert halves.delete_many({"n": {"$gte": 1}}).deleted_count == 20


def test_what_the_router_refuses_names_the_statement(halves: Any) -> None:
    with pytest.raises(OperationFailure) as failure:
        halves.database.command("delete", "halves", deletes=[{"q": {"n": 1}, "limit": 5}])
    assert failure.value.code == 9


CHANGES = [
    ({"$set": {"k": 5}}, {"_id": 1, "k": 5}),
    ([{"$set": {"k": 6}}], {"_id": 1, "k": 6}),
    ({"_id": 1, "k": 7, "whole": True}, {"_id": 1, "k": 7, "whole": True}),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES, ids=["operators", "pipeline", "replacement"])
@pytest.mark.parametrize("modify", [False, True], ids=["update", "findAndModify"])
@pytest.mark.parametrize("how", ["retryable", "transaction", "aborted"])
def test_a_document_whose_shard_key_changes_moves_to_its_shard(
    halves: Any, change: Any, expected: dict[str, Any], modify: bool, how: str
) -> None:
    halves.insert_one({"_id": 1, "k": -5})

    def apply(session: Any = None) -> None:
        if modify:
            reply = halves.database.command(
                "findAndModify", "halves", query={"k": -5}, update=change, new=True, session=session
            ) if session else {"value": _modify(halves, change)}  # fmt: skip
            assert reply["value"] == expected
        elif isinstance(change, dict) and "whole" in change:
            assert halves.replace_one({"k": -5}, change, session=session).modified_count == 1
        else:
            assert halves.update_one({"k": -5}, change, session=session).modified_count == 1

    if how == "retryable":
        apply()
    else:
        with halves.database.client.start_session() as session, session.start_transaction():
            halves.insert_one({"_id": 2, "k": -6}, session=session)
            apply(session)
            assert halves.find_one({"k": expected["k"]}, session=session) == expected
            if how == "aborted":
                session.abort_transaction()
    if how == "aborted":
        assert list(halves.find()) == [{"_id": 1, "k": -5}]
    else:
        assert halves.find_one({"k": expected["k"]}) == expected
        assert halves.find_one({"k": -5}) is None
        assert halves.count_documents({"_id": 1}) == 1


def _modify(collection: Any, change: Any) -> Any:
    if isinstance(change, dict) and "whole" in change:
        return collection.find_one_and_replace({"k": -5}, change, return_document=True)
    return collection.find_one_and_update({"k": -5}, change, return_document=True)


def test_an_upsert_whose_document_belongs_elsewhere_is_inserted_there(halves: Any) -> None:
    result = halves.update_one({"k": -5}, [{"$set": {"k": 5, "_id": "new"}}], upsert=True)
    assert result.upserted_id == "new"
    assert halves.find_one({"k": 5}) == {"_id": "new", "k": 5}
    statement = {"q": {"k": 5}, "u": {"$set": {"k": -1}}}  # neither in a transaction nor retryable
    reply = halves.database.command("update", "halves", updates=[statement], check=False)
    assert [e["code"] for e in reply["writeErrors"]] == [20]
