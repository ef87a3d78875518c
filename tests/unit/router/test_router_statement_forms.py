"""What a statement of a batch must look like, and which shards a query asks."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from bson import Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.raw_bson import RawBSONDocument

from shardmart.router.operations import targeting
from shardmart.router.operations.authorization import Need, Users
from shardmart.router.operations.targeting import check_statement, owners_of, routing_of
from shardmart.router.protocol import rawbson
from shardmart.router.protocol.errors import Code, RouterError
from shardmart.router.routing.catalog import Database, Routing

DATABASE = Database("shop", "home", {})
SET = {"$set": {"a": 1}}


def refused(name: str, statement: dict[str, Any]) -> tuple[int | None, str]:
    with pytest.raises(RouterError) as failure:
        check_statement(name, rawbson.encode(statement))
    return failure.value.code, failure.value.message


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("update", {"q": {}, "u": SET}),
        ("update", {"q": {}, "u": [SET], "multi": True, "upsert": False, "collation": {"locale": "en"}}),
        ("update", {"q": {}, "u": SET, "multi": 1, "upsert": Int64(0), "hint": "a_1", "arrayFilters": [{"x": 1}]}),
        ("update", {"q": {}, "u": SET, "hint": {"a": 1}, "c": {"x": 1}, "multi": 1.0}),
        ("delete", {"q": {}, "limit": 0}),
        ("delete", {"q": {}, "limit": Int64(1), "hint": {"a": 1}, "collation": {"locale": "en"}}),
        ("delete", {"q": {}, "limit": 1.0, "hint": "a_1"}),
        # null stands for a field that is not there
        ("update", {"q": {}, "u": SET, "multi": None, "hint": None}),
        ("delete", {"q": {}, "limit": 0, "collation": None}),
    ],
)
def test_statement_of_the_right_form_is_taken(name: str, statement: dict[str, Any]) -> None:
    check_statement(name, rawbson.encode(statement))


@pytest.mark.parametrize(
    ("name", "statement", "code", "message"),
    [
        ("update", {"q": {}, "u": SET, "limit": 1}, Code.UnknownField,
         "BSON field 'update.updates.limit' is an unknown field."),
        ("delete", {"q": {}, "limit": 1, "multi": None}, Code.UnknownField,
         "BSON field 'delete.deletes.multi' is an unknown field."),
        ("delete", {"limit": 1}, Code.MissingField,
         "BSON field 'delete.deletes.q' is missing but a required field"),
        ("delete", {"q": {}}, Code.MissingField, "BSON field 'delete.deletes.limit' is missing but a required field"),
        ("update", {"q": {}}, Code.MissingField, "BSON field 'update.updates.u' is missing but a required field"),
        ("update", {"u": SET}, Code.MissingField, "BSON field 'update.updates.q' is missing but a required field"),
    ],
)  # fmt: skip
def test_statement_of_the_wrong_form_is_refused_in_a_members_words(
    name: str, statement: dict[str, Any], code: int, message: str
) -> None:
    assert refused(name, statement) == (code, message)


def table(**collection: Any) -> Routing:
    """{region, number}: A… on one, the rest on two; everything was on "old" until time 50."""
    found = Routing("shop.things", DATABASE)
    bounds = [
        {"region": MinKey(), "number": MinKey()},
        {"region": "B", "number": MinKey()},
        {"region": MaxKey(), "number": MaxKey()},
    ]
    chunks = [
        {"min": low, "max": high, "shard": shard, "lastmod": Timestamp(1, 0), "history": [
            {"validAfter": Timestamp(50, 0), "shard": shard}, {"validAfter": Timestamp(1, 0), "shard": "old"},
        ]}
        for low, high, shard in zip(bounds, bounds[1:], ("one", "two"), strict=False)
    ]  # fmt: skip
    key = {"key": {"region": 1, "number": 1}, "uuid": b"", "lastmodEpoch": ObjectId(), "timestamp": Timestamp(1, 1)}
    found.load(key | collection, chunks)
    return found


def context(head: dict[str, Any] | None = None) -> Any:
    fields = rawbson.head(rawbson.encode(head or {}))
    return SimpleNamespace(head=fields, in_transaction=fields.get("autocommit") is False)


def document(value: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(rawbson.encode(value))


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (document({"region": "A"}), ["one"]),
        (document({"region": "A", "number": 3}), ["one"]),
        (document({"region": "B"}), ["two"]),
        (document({"number": 3}), ["one", "two"]),
        (document({}), ["one", "two"]),
        (None, ["one", "two"]),
        ("no document", ["one", "two"]),
    ],
)
def test_query_asks_the_shards_that_may_hold_what_it_looks_for(query: Any, asked: list[str]) -> None:
    assert owners_of(context(), table(), query) == asked


def test_query_of_a_collection_that_is_not_sharded_asks_the_primary_shard() -> None:
    assert owners_of(context(), Routing("shop.plain", DATABASE), document({"region": "A"})) == ["home"]


def test_query_under_a_collation_asks_every_shard() -> None:
    query = document({"region": "A"})
    assert owners_of(context({"find": "x", "collation": {"locale": "en"}}), table(), query) == ["one", "two"]
    assert owners_of(context(), table(defaultCollation={"locale": "en"}), query) == ["one", "two"]
    own = {"find": "x", "collation": {"locale": "simple"}}
    assert owners_of(context(own), table(defaultCollation={"locale": "en"}), query) == ["one", "two"]


def looked_up(
    monkeypatch: pytest.MonkeyPatch,
    answer: Routing | RouterError,
    shards: tuple[str, ...] = (),
    **head: Any,
) -> Routing:
    async def routing_for(_: Any) -> Routing:
        if isinstance(answer, RouterError):
            raise answer
        return answer

    async def load_shards() -> dict[str, Any]:
        return dict.fromkeys(shards)

    async def run() -> Routing:
        asked = context(head)
        asked.service = SimpleNamespace(catalog=SimpleNamespace(load_shards=load_shards, shards={}))
        asked.db, asked.namespace = "nowhere", "nowhere.c"
        return await routing_of(asked)

    monkeypatch.setattr(targeting, "routing_for", routing_for)
    return asyncio.run(run())


def test_what_is_in_no_database_is_asked_of_any_shard_while_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = RouterError(Code.NamespaceNotFound, "no such database")
    found = looked_up(monkeypatch, nowhere, shards=("two", "one"))
    assert (owners_of(context(), found, None), found.versions("one")) == (["one"], {})
    with pytest.raises(RouterError) as failure:
        looked_up(monkeypatch, nowhere)
    assert failure.value.code == Code.ShardNotFound
    with pytest.raises(RouterError, match="away") as failure:
        looked_up(monkeypatch, RouterError(Code.HostUnreachable, "away"))
    assert failure.value.code == Code.HostUnreachable


def test_privileges_are_asked_for_with_their_user() -> None:
    """The server leaves them out unless it is told to show them."""

    class Config:
        async def read(self, command: dict[str, Any], _seconds: float) -> dict[str, Any]:
            assert command["usersInfo"] == {"user": "shopper", "db": "admin"}
            entry = {"resource": {"db": "shop", "collection": ""}, "actions": ["find"]}
            privileges = {"inheritedPrivileges": [entry]} if command["showPrivileges"] else {}
            return {"users": [{"user": "shopper", **privileges}]}

    async def run() -> bool:
        users = Users(Config(), enabled=True)  # type: ignore[arg-type]
        _, privileges = await users.load("shopper", "admin")
        return privileges.allow(Need("find", "shop", "orders"))

    assert asyncio.run(run())
