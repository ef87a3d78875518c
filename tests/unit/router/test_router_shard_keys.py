"""Hashes and order of values as mongod has them, and the key of documents and queries.

The numbers are mongod 6.0.5's: tests/integration/router/test_router_hash_and_order.py compares this module with real
members on values that nobody chose, and in those runs they were equal.
"""

from __future__ import annotations

import datetime
from itertools import pairwise
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

from shardmart.router.protocol import rawbson
from shardmart.router.protocol.errors import RouterError
from shardmart.router.routing.shard_key import KeyPattern, Value, comparable, hash_value, range_of_prefix


def located(value: Any) -> Value:
    document = rawbson.encode({"v": value})
    ((_, kind, start, end),) = rawbson.walk(document)
    return Value(document, kind, start, end)


def ordered(value: Any) -> tuple[Any, ...]:
    found = located(value)
    return comparable(found.data, found.kind, found.start, found.end)


@pytest.mark.parametrize(
    ("value", "hashed"),
    [
        (None, 2338878944348059895),
        (1, 5902408780260971510),
        (Int64(1), 5902408780260971510),
        (1.0, 5902408780260971510),
        (1.9, 5902408780260971510),
        (-1.9, 1140205862565771219),
        (Decimal128("1.5"), 848411777775835583),
        (Decimal128("2.5"), 848411777775835583),
        (Decimal128("-2.5"), 4563317049361071164),
        (float("nan"), 4854801880128277513),
        (Decimal128("NaN"), 4854801880128277513),
        (Decimal128("sNaN"), 4854801880128277513),
        (float("inf"), 921523596458303250),
        (float("-inf"), 4532067210535695462),
        (2.0**63, 4532067210535695462),
        (-(2.0**63), 4532067210535695462),
        (2.0**64, 921523596458303250),
        (-(2.0**64), 4532067210535695462),
        (Decimal128("1E+30"), 921523596458303250),
        (Decimal128("-1E+30"), 4532067210535695462),
        (2**31 - 1, 1143184177162245883),
        (Int64(2**63 - 1), 921523596458303250),
        (Int64(-(2**63)), 4532067210535695462),
        ("text", -1947863280617072965),
        ("", 2049396243249673340),
        (True, 6405873908747105701),
        (False, 6289544573401934092),
        (ObjectId("0123456789abcdef01234567"), 2741278085215419733),
        (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), -8085640265431180924),
        (Timestamp(5, 6), -6832991088748649283),
        (Binary(b"ab"), -5211738885555603998),
        (Binary(b"ab", 128), -7675671019412016479),
        (Regex("^a", "i"), -4002937104504074689),
        ({}, 7980500913326740417),
        ({"a": 1}, -8705610352600103477),
        ({"b": 1}, 8344889663970221592),
        ({"a": {"b": 2.0}}, 2043699980253017995),
        (Code("f()"), 4802594429104294857),
        (Code("f()", {"a": 1}), 2513261769778128428),
        (MinKey(), 7961148599568647290),
        (MaxKey(), 5504842513779440750),
    ],
)
def test_hash_of_a_value_is_the_servers(value: Any, hashed: int) -> None:
    assert hash_value(located(value)) == hashed


def test_missing_value_hashes_like_null() -> None:
    assert hash_value(None) == hash_value(located(None))


ASCENDING = [
    MinKey(), None,
    float("nan"), float("-inf"), -(2.0**64), Int64(-(2**63)), -1.5, -1,
    0, 0.5, Decimal128("0.75"), 1, Int64(2), 2.0**64, Decimal128("1E+30"), float("inf"),
    "", "A", "a", "aa", "b",
    {}, {"a": 1}, {"a": 1, "b": 1}, {"b": 1}, {"a": "x"},
    [], [1], [1, 2], [2],
    Binary(b""), Binary(b"z"), Binary(b"ab"), Binary(b"ab", 128), Binary(b"abc"),
    ObjectId("000000000000000000000000"), ObjectId("0123456789abcdef01234567"),
    False, True,
    datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    Timestamp(1, 2), Timestamp(2, 1), Timestamp(2**31 + 1, 0),
    Regex("a"), Regex("a", "i"), Regex("b"),
    Code("f()"), Code("g()"),
    Code("f()", {"a": 1}), Code("f()", {"a": 2}), Code("g()", {"a": 1}),
    MaxKey(),
]  # fmt: skip


@pytest.mark.parametrize(("less", "greater"), [p for p in pairwise(ASCENDING) if {type(v) for v in p} != {dict}])
def test_values_sort_as_the_servers_sort_them(less: Any, greater: Any) -> None:
    assert ordered(less) < ordered(greater)


def test_documents_sort_by_type_then_name_then_value_of_each_field() -> None:
    documents = [{}, {"a": 1}, {"a": 1, "b": 1}, {"a": 2}, {"b": 0}, {"a": "x"}]
    assert sorted(documents, key=ordered) == documents


@pytest.mark.parametrize(
    "same",
    [(1, Int64(1), 1.0, Decimal128("1"), Decimal128("1.0")), (float("nan"), Decimal128("NaN")), (0.0, -0.0)],
)
def test_numbers_that_are_equal_sort_alike_whatever_their_type(same: tuple[Any, ...]) -> None:
    assert len({ordered(value) for value in same}) == 1


@pytest.mark.parametrize("value", [value for value in ASCENDING if value == value])
def test_value_sorts_alike_wherever_it_lies(value: Any) -> None:
    """What stands before and after it in its document is no part of it."""
    document = rawbson.encode({"before": "x" * 9, "v": value, "after": "y" * 9})
    (found,) = ((kind, start, end) for name, kind, start, end in rawbson.walk(document) if name == b"v")
    assert comparable(document, *found) == ordered(value)


def test_code_sorts_by_its_scope_and_not_by_the_scopes_length() -> None:
    longer, shorter = Code("f()", {"a": 1, "b": 1}), Code("f()", {"a": 2})
    assert ordered(longer) < ordered(shorter)


HASHED_ONE = (10, 1, 5902408780260971510)
NULL = (5,)


@pytest.mark.parametrize(
    ("pattern", "document", "key"),
    [
        ({"a": 1}, {"a": 7, "b": 8}, ((10, 1, 7),)),
        ({"a": 1}, {"b": 8}, (NULL,)),
        ({"a": "hashed"}, {"a": 1}, (HASHED_ONE,)),
        ({"a": 1, "b": "hashed"}, {"b": 1, "a": "x"}, ((15, b"x"), HASHED_ONE)),
        ({"a.b": 1}, {"a": {"b": 7}}, ((10, 1, 7),)),
        ({"a.b": "hashed", "c": 1}, {"a": {"b": 1}, "c": None}, (HASHED_ONE, NULL)),
        ({"a.b": 1}, {"a": 7}, (NULL,)),
    ],
)
def test_key_of_a_document(pattern: dict[str, Any], document: dict[str, Any], key: Any) -> None:
    assert KeyPattern(pattern).key_of_document(rawbson.encode(document)) == key


@pytest.mark.parametrize("pattern", [{"a": 1}, {"a": "hashed"}])
def test_array_in_the_key_is_refused(pattern: dict[str, Any]) -> None:
    with pytest.raises(RouterError, match="cannot contain array values"):
        KeyPattern(pattern).key_of_document(rawbson.encode({"a": [1]}))


A7, B8 = (10, 1, 7), (10, 1, 8)


@pytest.mark.parametrize(
    ("query", "prefix"),
    [
        ({"a": 7, "b": 8}, (A7, B8)),
        ({"b": 8, "a": 7, "c": 1}, (A7, B8)),
        ({"a": 7}, (A7,)),
        ({"b": 8}, ()),
        ({}, ()),
        ({"a": {"$eq": 7}, "b": {"$in": [8]}}, (A7, B8)),
        ({"a": {"$in": [7, 9]}}, ()),
        ({"a": {"$in": []}}, ()),
        ({"a": {"$nin": [7]}}, ()),
        ({"a": {"$ne": 7}}, ()),
        ({"a": {"$gt": 7}}, ()),
        ({"a": {"$gt": 1, "$eq": 7}}, (A7,)),
        ({"a": {"$eq": Regex("x")}}, ()),
        ({"a": {"$in": [Regex("x")]}}, ()),
        ({"a": Regex("x")}, ()),
        ({"a": [7]}, ()),
        ({"a": {"$eq": [7]}}, ()),
        ({"a": None}, (NULL,)),
        ({"a": {}}, ((20, ()),)),
        ({"a": {"x": 1}}, ((20, ((10, b"x", 1, 1),)),)),
        ({"$and": [{"a": 7}, {"b": 8}]}, (A7, B8)),
        ({"$and": [{"$and": [{"a": 7}]}], "b": 8}, (A7, B8)),
        ({"$or": [{"a": 7}]}, ()),
        ({"$and": [{"a": {"$gt": 1}}, {"a": 7}]}, (A7,)),
        ({"a": 7, "$and": [{"a": 9}]}, (A7,)),
    ],
)
def test_equalities_of_a_query_are_the_prefix_of_its_key(query: dict[str, Any], prefix: Any) -> None:
    assert KeyPattern({"a": 1, "b": 1}).prefix_of_query(rawbson.encode(query)) == prefix


@pytest.mark.parametrize(("value", "fixed"), [("x", 0), ({"x": 1}, 0), (7, 1), (None, 1), (ObjectId(), 1)])
def test_another_collation_hides_text_and_documents_only(value: Any, fixed: int) -> None:
    pattern = KeyPattern({"a": 1})
    assert len(pattern.prefix_of_query(rawbson.encode({"a": value}), simple_collation=False)) == fixed
    assert len(pattern.prefix_of_query(rawbson.encode({"a": value}))) == 1


def test_hashed_component_of_a_query_is_its_hash() -> None:
    assert KeyPattern({"a": "hashed"}).prefix_of_query(rawbson.encode({"a": 1})) == (HASHED_ONE,)
    assert KeyPattern({"a.b": "hashed"}).prefix_of_query(rawbson.encode({"a.b": 1})) == (HASHED_ONE,)


def test_range_of_a_prefix_holds_every_key_that_begins_with_it() -> None:
    low, high = range_of_prefix((A7,), 2)
    for second in ASCENDING:
        assert low <= (A7, ordered(second)) < high
    assert ((10, 1, 6), ordered(MaxKey())) < low
    assert high < (B8, ordered(MinKey()))
    assert low == (A7, ordered(MinKey()))
    whole, after = range_of_prefix((A7, B8), 2)
    assert whole == (A7, B8) < after
