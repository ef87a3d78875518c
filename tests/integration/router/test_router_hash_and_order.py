"""The hash and the order of shard key values are the servers' own, for every BSON type."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from shardmart.router.protocol import rawbson
from shardmart.router.routing.shard_key import KeyPattern, Value, comparable, hash_value
from tests.support.clusters import EmbeddedCluster

numbers = st.one_of(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(width=64),
    st.sampled_from([2.0**63, -(2.0**63), 2.0**64, 1e300, -1e300, -0.0, 1.5, -1.5, 2.5]),
    st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    st.decimals(places=3, min_value=-(10**25), max_value=10**25).map(Decimal128),
    st.sampled_from(["0.5", "1.5", "2.5", "-0.5", "-2.5", "9.3E+18", "-9.3E+18"]).map(Decimal128),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "1E-6176", "1E+6000"]).map(Decimal128),
)
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
names = st.text("abcxyz_", min_size=1, max_size=6)
scalars = st.one_of(
    numbers,
    text,
    st.none(),
    st.booleans(),
    st.binary(max_size=20).map(Binary),
    st.binary(min_size=16, max_size=16).map(lambda b: Binary(b, 4)),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.integers(-(2**40), 2**42).map(DatetimeMS),
    st.builds(Timestamp, st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.builds(Regex, st.text("ab.*", max_size=5), st.sampled_from(["", "i", "m", "ix"])),
    st.text("abc()", max_size=10).map(Code),
    st.builds(Code, st.text("abc", max_size=5), st.dictionaries(names, st.integers(0, 9), max_size=2)),
    st.just(MinKey()),
    st.just(MaxKey()),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.dictionaries(names, inner, max_size=3),
        st.dictionaries(names, st.lists(inner, max_size=3), max_size=2),
    ),
    max_leaves=6,
)
CHECKS: Any = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.generate),  # shrinking against real servers takes minutes
    "database": None,
}
many = settings(max_examples=10, **CHECKS)


def located(value: Any) -> Value:
    data = rawbson.encode({"v": value})
    ((_, kind, start, end),) = rawbson.walk(data)
    return Value(data, kind, start, end)


@pytest.fixture(scope="module")
def scratch(cluster: EmbeddedCluster) -> Any:
    """A collection straight on the config server, whose indexes are no business of any router."""
    member = cluster.description.config_servers.members[0].address
    host, _, port = member.partition(":")
    with MongoClient(
        host, int(port), directConnection=True, retryWrites=False, **cluster.members_credentials.options()
    ) as direct:
        yield direct.local.hashes


@many
@given(st.lists(values, min_size=40, max_size=60))
def test_the_hash_of_every_value_is_the_servers(scratch: Any, drawn: list[Any]) -> None:
    scratch.drop()
    index = [("v", "hashed"), ("i", 1)]
    scratch.create_index(index)
    scratch.insert_many([{"i": i, "v": value} for i, value in enumerate(drawn)])
    found = {entry["i"]: entry["v"] for entry in scratch.find({}, hint=index, return_key=True)}
    assert len(found) == len(drawn)
    for i, hashed in found.items():
        assert hash_value(located(drawn[i])) == hashed, drawn[i]


@many
@given(st.lists(values, min_size=40, max_size=60))
def test_values_sort_as_the_servers_sort_them(scratch: Any, drawn: list[Any]) -> None:
    scratch.drop()
    scratch.insert_many([{"_id": i, "v": value} for i, value in enumerate(drawn)])
    found = [entry["_id"] for entry in scratch.find({}, {"_id": 1}).sort([("v", 1), ("_id", 1)])]
    keys = [comparable(v.data, v.kind, v.start, v.end) for v in map(located, drawn)]
    expected = sorted(range(len(drawn)), key=lambda i: (keys[i], i))
    for ours, theirs in zip(expected, found, strict=True):
        assert ours == theirs, (drawn[ours], drawn[theirs])


@settings(max_examples=3, **CHECKS)
@given(st.lists(values, min_size=100, max_size=150))
def test_documents_land_on_the_shard_that_owns_them(cluster: EmbeddedCluster, drawn: list[Any]) -> None:
    # A member hides documents it does not own: one that was placed wrongly would be missing here.
    with cluster.client() as client:
        keys = {"hashed": {"v": "hashed"}, "compound": {"v": 1, "w": "hashed"}, "nested": {"n.v": "hashed"}}
        for name, key in keys.items():
            namespace = f"placement.{name}"
            client.placement[name].drop()
            client.admin.command("shardCollection", namespace, key=key)
            if name == "compound":
                entry = client.config.collections.find_one({"_id": namespace})
                middle = {"v": "m", "w": Int64(0)}
                client.admin.command("split", namespace, middle=middle)
                bounds = [middle, {"v": MaxKey(), "w": MaxKey()}]
                owner = client.config.chunks.find_one({"uuid": entry["uuid"]})["shard"]
                to = "shard1ReplSet" if owner == "shard2ReplSet" else "shard2ReplSet"
                client.admin.command("moveChunk", namespace, bounds=bounds, to=to)
            documents = [{"_id": i, "v": v, "w": i, "n": {"v": v}} for i, v in enumerate(drawn)]
            client.placement[name].insert_many(documents, ordered=False)
            assert {d["_id"] for d in client.placement[name].find({}, {"_id": 1})} == set(range(len(drawn)))


def test_a_missing_field_and_a_null_have_the_same_key() -> None:
    pattern = KeyPattern({"a": "hashed"})
    assert pattern.key_of_document(rawbson.encode({})) == pattern.key_of_document(rawbson.encode({"a": None}))
