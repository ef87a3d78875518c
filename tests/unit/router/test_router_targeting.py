"""Which shard owns a key, and which shards a query has to ask."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Int64, MaxKey, MinKey, ObjectId, Timestamp

from shardmart.router.protocol import rawbson
from shardmart.router.protocol.errors import RouterError
from shardmart.router.routing.catalog import Database, Routing
from shardmart.router.routing.shard_key import KeyPattern

DATABASE = Database("shop", "one", {})


def routing(key: dict[str, Any], *bounds_and_owners: Any) -> Routing:
    """A routing table: bound, owner, bound, owner, ..., bound."""
    table = Routing("shop.things", DATABASE)
    chunks = [
        {
            "min": bounds_and_owners[i],
            "max": bounds_and_owners[i + 2],
            "shard": bounds_and_owners[i + 1],
            "lastmod": Timestamp(i + 1, 0),
            "history": [
                {"validAfter": Timestamp(5, 0), "shard": bounds_and_owners[i + 1]},
                {"validAfter": Timestamp(1, 0), "shard": "old"},
            ],
        }
        for i in range(0, len(bounds_and_owners) - 1, 2)
    ]
    collection = {"key": key, "uuid": b"", "lastmodEpoch": ObjectId(), "timestamp": Timestamp(1, 1)}
    table.load(collection, chunks)
    return table


ORDERS = routing(
    {"region": 1, "_id": "hashed"},
    {"region": MinKey(), "_id": MinKey()},
    "one",
    {"region": "EMEA", "_id": MinKey()},
    "one",
    {"region": "EMEA", "_id": Int64(0)},
    "two",
    {"region": "LATAM", "_id": MinKey()},
    "three",
    {"region": MaxKey(), "_id": MaxKey()},
)


def owners(query: dict[str, Any], table: Routing = ORDERS, **options: bool) -> list[str]:
    assert table.pattern
    return table.owners_of_prefix(table.pattern.prefix_of_query(rawbson.encode(query), **options))


def test_a_query_of_many_kilobytes_is_targeted_like_a_short_one() -> None:
    """PyMongo gives views of large embedded documents, and bytes of small ones."""
    query = {"region": "APJ", "_id": {"$in": ["x" * 1000] * 20}}
    asked = rawbson.raw(rawbson.head(rawbson.encode({"find": "things", "filter": query}))["filter"])
    assert ORDERS.pattern
    assert ORDERS.owners_of_prefix(ORDERS.pattern.prefix_of_query(asked)) == ["one"]


def test_a_prefix_of_the_key_narrows_the_shards() -> None:
    assert owners({"region": "APJ"}) == ["one"]
    assert owners({"region": "EMEA"}) == ["one", "two"]
    assert owners({"region": "LATAM"}) == ["three"]
    assert owners({}) == ["one", "three", "two"]


def test_a_whole_key_names_one_shard() -> None:
    for identity in range(50):
        assert len(owners({"region": "EMEA", "_id": identity})) == 1
    assert {tuple(owners({"region": "EMEA", "_id": i})) for i in range(50)} == {("one",), ("two",)}


@pytest.mark.parametrize(
    "query",
    [
        {"region": {"$eq": "LATAM"}},
        {"region": {"$in": ["LATAM"]}},
        {"$and": [{"total": 1}, {"region": "LATAM"}]},
    ],
)
def test_equality_is_seen_in_every_form(query: dict[str, Any]) -> None:
    assert owners(query) == ["three"]


@pytest.mark.parametrize(
    "query",
    [
        {"region": {"$gt": "LATAM"}},
        {"region": {"$in": ["LATAM", "APJ"]}},
        {"region": {"$regex": "^LAT"}},
        {"region": {"$not": {"$eq": "LATAM"}}},
        {"$or": [{"region": "LATAM"}]},
        {"region": ["LATAM"]},
    ],
)
def test_what_is_no_equality_asks_every_shard(query: dict[str, Any]) -> None:
    assert owners(query) == ["one", "three", "two"]


def test_text_under_a_collation_asks_every_shard() -> None:
    assert owners({"region": "latam"}, simple_collation=False) == ["one", "three", "two"]


def test_an_array_in_the_key_is_refused() -> None:
    with pytest.raises(RouterError) as failure:
        KeyPattern({"a": 1}).key_of_document(rawbson.encode({"a": [1]}))
    assert failure.value.code == 61
    with pytest.raises(RouterError):
        KeyPattern({"a.b": "hashed"}).key_of_document(rawbson.encode({"a": [{"b": 1}]}))


def test_a_bound_keeps_the_order_of_its_fields_when_one_is_called_id() -> None:
    pattern = KeyPattern({"region": 1, "_id": "hashed"})
    assert pattern.key_of_bound({"region": "A", "_id": Int64(3)}) == ((15, b"A"), (10, 1, 3))


def test_the_version_of_a_shard_is_that_of_its_newest_chunk() -> None:
    assert ORDERS.versions("one")["shardVersion"]["v"] == Timestamp(3, 0)
    assert ORDERS.versions("three")["shardVersion"]["v"] == Timestamp(7, 0)
    assert ORDERS.versions("nobody")["shardVersion"]["v"] == Timestamp(0, 0)
