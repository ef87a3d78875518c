"""Which shards an insert, update, delete or findAndModify goes to, and which are refused, by their whole wording."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from bson import Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument

from shardmart.router.operations.targeting import owner_of_modification, owners_of_statement
from shardmart.router.protocol import rawbson
from shardmart.router.protocol.errors import RouterError
from shardmart.router.routing.catalog import Database, Routing

DATABASE = Database("shop", "home", {})


def routing(**collection: Any) -> Routing:
    """{region, number}: A… on one, B… to 10 on two, the rest on three."""
    table = Routing("shop.things", DATABASE)
    bounds = [
        {"region": MinKey(), "number": MinKey()},
        {"region": "B", "number": MinKey()},
        {"region": "B", "number": 10},
        {"region": MaxKey(), "number": MaxKey()},
    ]
    chunks = [
        {"min": low, "max": high, "shard": shard, "lastmod": Timestamp(1, 0), "history": []}
        for low, high, shard in zip(bounds, bounds[1:], ("one", "two", "three"), strict=False)
    ]
    key = {"key": {"region": 1, "number": 1}, "uuid": b"", "lastmodEpoch": ObjectId(), "timestamp": Timestamp(1, 1)}
    table.load(key | collection, chunks)
    return table


TABLE = routing()
INSENSITIVE = routing(defaultCollation={"locale": "en", "strength": 2})
EVERY = ["one", "three", "two"]


def context(head: dict[str, Any] | None = None) -> Any:
    return SimpleNamespace(head=RawBSONDocument(rawbson.encode(head or {})))


def owners(name: str, statement: dict[str, Any], table: Routing = TABLE) -> list[str]:
    return owners_of_statement(context(), name, rawbson.encode(statement), table)


def refused(name: str, statement: dict[str, Any], table: Routing = TABLE) -> int | None:
    with pytest.raises(RouterError) as failure:
        owners(name, statement, table)
    return failure.value.code


def update(query: dict[str, Any], change: Any, **options: Any) -> dict[str, Any]:
    return {"q": query, "u": change, **options}


SET = {"$set": {"a": 1}}


@pytest.mark.parametrize("name", ["insert", "update", "delete"])
def test_collection_that_is_not_sharded_lives_on_the_primary_shard(name: str) -> None:
    assert owners(name, {"_id": 1}, Routing("shop.plain", DATABASE)) == ["home"]


def test_document_goes_where_its_key_is() -> None:
    assert owners("insert", {"_id": 1, "region": "A", "number": 5}) == ["one"]
    assert owners("insert", {"_id": 1, "region": "B", "number": 9}) == ["two"]
    assert owners("insert", {"_id": 1, "region": "B", "number": 10}) == ["three"]
    assert owners("insert", {"_id": 1}) == ["one"], "null sorts before text"


@pytest.mark.parametrize("name", ["update", "delete"])
def test_statement_without_a_query_is_refused(name: str) -> None:
    with pytest.raises(RouterError, match=f"'{name}.{name}s.q' is missing") as failure:
        owners(name, {"u": SET, "limit": 1})
    assert failure.value.code == 40414


@pytest.mark.parametrize(
    "statement", [update({"region": "B", "number": 3}, SET), {"q": {"region": "B", "number": 3}, "limit": 1}]
)
def test_whole_key_names_one_shard(statement: dict[str, Any]) -> None:
    assert owners("update" if "u" in statement else "delete", statement) == ["two"]


def test_prefix_of_the_key_asks_those_who_may_own_it() -> None:
    assert owners("delete", {"q": {"region": "B"}, "limit": 0}) == ["three", "two"]
    assert owners("delete", {"q": {"number": 3}, "limit": 0}) == EVERY
    assert owners("update", update({"region": "B"}, SET, multi=True)) == ["three", "two"]


def test_one_document_is_deleted_by_its_id_or_its_key_only() -> None:
    assert owners("delete", {"q": {"_id": 7}, "limit": 1}) == EVERY
    assert owners("delete", {"q": {"_id": 7, "region": "B"}, "limit": 1}) == ["three", "two"]
    assert refused("delete", {"q": {"region": "B"}, "limit": 1}) == 61
    assert owners("delete", {"q": {"region": "B"}, "limit": 0}) == ["three", "two"]


def test_one_document_is_updated_by_its_id_or_its_key_only() -> None:
    assert owners("update", update({"_id": 7}, SET)) == EVERY
    assert refused("update", update({"region": "B"}, SET)) == 72
    assert owners("update", update({"region": "B"}, SET, multi=True)) == ["three", "two"]


def test_upsert_needs_the_whole_key() -> None:
    assert owners("update", update({"region": "A", "number": 1}, SET, upsert=True)) == ["one"]
    assert refused("update", update({"_id": 7, "region": "A"}, SET, upsert=True)) == 61
    assert refused("update", update({"region": "A"}, SET, upsert=True, multi=True)) == 61
    assert owners("update", update({"_id": 7}, SET, upsert=False)) == EVERY


@pytest.mark.parametrize(
    ("identity", "known"),
    [
        (7, True),
        ({"$eq": 7}, True),
        ({"a": 1}, True),
        ({}, True),
        ({"$gt": 7}, False),
        ({"$in": [7, 8]}, False),
        (Regex("^x"), False),
    ],
)
def test_what_names_one_id(identity: Any, known: bool) -> None:
    statement = {"q": {"_id": identity}, "limit": 1}
    if known:
        assert owners("delete", statement) == EVERY
        assert owners("update", update({"_id": identity}, SET)) == EVERY
    else:
        assert refused("delete", statement) == 61
        assert refused("update", update({"_id": identity}, SET)) == 72


def test_collation_takes_away_what_text_and_ids_say() -> None:
    """An insensitive comparison may find a document whose key differs in bytes."""
    whole = {"region": "B", "number": 3}
    assert owners("delete", {"q": whole, "limit": 0, "collation": {"locale": "en"}}) == EVERY
    assert owners("delete", {"q": whole, "limit": 0}, INSENSITIVE) == EVERY
    assert refused("delete", {"q": {"_id": 7}, "limit": 1, "collation": {"locale": "en"}}) == 61
    assert refused("delete", {"q": {"_id": 7}, "limit": 1}, INSENSITIVE) == 61
    assert refused("update", update({"_id": 7}, SET, collation={"locale": "en"})) == 72
    assert refused("update", update({"_id": 7}, SET), INSENSITIVE) == 72


def test_replacement_names_the_key_itself() -> None:
    whole = {"region": "B", "number": 3}
    assert owners("update", update({"a": 1}, whole)) == ["two"]
    assert owners("update", update({"a": 1}, {"number": 10, "region": "B", "_id": 4})) == ["three"]
    assert owners("update", update({"_id": 7}, {"region": "B"})) == EVERY, "half a key names nobody"
    assert refused("update", update({"a": 1}, {"region": "B"})) == 72
    assert refused("update", update({"a": 1}, {})) == 72, "nothing at all is a replacement without a key"


def test_update_operators_and_pipelines_are_no_replacement() -> None:
    assert refused("update", update({"a": 1}, {"$set": {"region": "B", "number": 3}})) == 72
    assert refused("update", update({"a": 1}, [{"$set": {"region": "B", "number": 3}}])) == 72


def test_replacement_takes_the_id_of_its_query() -> None:
    table = Routing("shop.things", DATABASE)
    least, middle, most = {"a": MinKey(), "_id": MinKey()}, {"a": 1, "_id": 10}, {"a": MaxKey(), "_id": MaxKey()}
    chunks = [
        {"min": least, "max": middle, "shard": "low", "lastmod": Timestamp(1, 0), "history": []},
        {"min": middle, "max": most, "shard": "high", "lastmod": Timestamp(1, 0), "history": []},
    ]
    key = {"key": {"a": 1, "_id": 1}, "uuid": b"", "lastmodEpoch": ObjectId(), "timestamp": Timestamp(1, 1)}
    table.load(key, chunks)
    assert owners("update", update({"_id": 11}, {"a": 1, "b": 2}), table) == ["high"]
    assert owners("update", update({"_id": 9}, {"a": 1, "b": 2}), table) == ["low"]
    assert owners("update", update({"_id": 9}, {"_id": 11, "a": 1}), table) == ["high"], "its own id comes first"


def modified(table: Routing = TABLE, **head: Any) -> str:
    return owner_of_modification(context({"findAndModify": "things", **head}), table)


def test_find_and_modify_goes_where_the_whole_key_is() -> None:
    assert modified(query={"region": "B", "number": 3}) == "two"
    assert modified(Routing("shop.plain", DATABASE)) == "home"


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"query": {"_id": 7}},
        {"query": {"region": "B"}},
        {"query": {"region": "B", "number": 3}, "collation": {"locale": "en"}},
    ],
)
def test_find_and_modify_without_the_whole_key_is_refused(head: dict[str, Any]) -> None:
    with pytest.raises(RouterError) as failure:
        modified(**head)
    assert failure.value.code == 61


def test_find_and_modify_under_the_collections_own_collation_is_refused() -> None:
    with pytest.raises(RouterError):
        modified(INSENSITIVE, query={"region": "B", "number": Int64(3)})
