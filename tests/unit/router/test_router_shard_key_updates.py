"""An update that gives a document to another shard: what is deleted, inserted, answered, in whose transaction."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from bson import Binary, Int64, MaxKey, MinKey, ObjectId, Timestamp

from shardmart.router.client import Client
from shardmart.router.operations import shard_key_updates
from shardmart.router.operations.context import Context
from shardmart.router.operations.service import Service
from shardmart.router.protocol import rawbson, wire
from shardmart.router.protocol.errors import Code, RouterError
from shardmart.router.routing.catalog import Database, Routing
from shardmart.router.routing.member import Credentials
from shardmart.router.routing.replica_set import ReplicaSet

LSID = {"id": Binary(bytes(16), 4)}
MAJORITY = {"w": "majority", "wtimeout": 500}
STATEMENT = {"q": {"_id": 7}, "u": {"$set": {"a.n": 5}}}
BEFORE, AFTER = {"_id": 7, "a": {"n": -5}, "x": "b"}, {"_id": 7, "a": {"n": 5}, "x": "c"}


@pytest.fixture
def service() -> Service:
    """A service that never talks to anybody here."""
    credentials = Credentials(None)
    return Service(ReplicaSet("none", ["127.0.0.1:9"], credentials), credentials, {})


def command(service: Service, name: str = "update", **fields: Any) -> Context:
    batch = {"updates": [STATEMENT]} if name == "update" else {"query": {"_id": 7}, "update": STATEMENT["u"]}
    body = {name: "things", **batch, "$db": "shop", **fields}
    return Context(service, Client(service), wire.Message(1, 0, rawbson.encode(body)))


def table() -> Routing:
    """{a.n, x}: below 0 on "low", the rest on "high"."""
    found = Routing("shop.things", Database("shop", "low", {}))
    bounds = [{"a.n": MinKey(), "x": MinKey()}, {"a.n": 0, "x": MinKey()}, {"a.n": MaxKey(), "x": MaxKey()}]
    chunks = [
        {"min": bounds[n], "max": bounds[n + 1], "shard": shard, "lastmod": Timestamp(n + 1, 0)}
        for n, shard in enumerate(("low", "high"))
    ]
    key = {"a.n": 1, "x": 1}
    whole = {"key": key, "uuid": Binary(bytes(16), 4), "lastmodEpoch": ObjectId(), "timestamp": Timestamp(1, 0)}
    found.load(whole, chunks)
    return found


class Shards:
    """Answers as it is told to, by the command's name, and keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, list[Any]]] = []
        self.versions: dict[str, Any] = {}
        self.writes: list[bool] = []
        self.answers: dict[str, Any] = {"delete": {"n": 1, "ok": 1.0}, "insert": {"n": 1, "ok": 1.0}}

    async def ask(
        self, _: Context, shard: str, command: dict[str, Any], sequences: dict[str, list[bytes]], *, write: bool = False
    ) -> Any:
        name = next(iter(command))
        assert command[name] == "things"
        (documents,) = sequences.values()
        self.sent.append((name, shard, [rawbson.decode(one) for one in documents]))
        self.versions[shard] = command["shardVersion"]["v"]
        self.writes.append(write)
        return None, SimpleNamespace(body=rawbson.encode(self.answers[name]))


@pytest.fixture
def shards(monkeypatch: pytest.MonkeyPatch) -> Shards:
    found = Shards()

    async def routing_for(_: Context) -> Routing:
        return table()

    monkeypatch.setattr(shard_key_updates, "ask", found.ask)
    monkeypatch.setattr(shard_key_updates, "routing_for", routing_for)
    return found


def would_change(**images: Any) -> RouterError:
    error = RouterError(283, "the document would change its owning shard")
    error.extra = images
    return error


async def never(_: Context) -> Any:
    raise AssertionError("the statement is not run again")


def served(context: Context, error: RouterError, again: Any = never) -> Any:
    async def run() -> Any:
        return await shard_key_updates.serve(context, error, again)

    return asyncio.run(run())


IN_TRANSACTION: dict[str, Any] = {"lsid": LSID, "txnNumber": Int64(3), "autocommit": False}


def test_document_moves_within_the_transaction_of_its_client(service: Service, shards: Shards) -> None:
    reply = served(command(service, **IN_TRANSACTION), would_change(preImage=BEFORE, postImage=AFTER))
    assert shards.sent == [
        ("delete", "low", [{"q": {"_id": 7, "a.n": -5, "x": "b"}, "limit": 1}]),
        ("insert", "high", [AFTER]),
    ]
    assert shards.versions == {"low": Timestamp(1, 0), "high": Timestamp(2, 0)}
    assert shards.writes == [True, True]
    assert reply == {"n": 1, "nModified": 1, "ok": 1.0}


def test_document_without_a_field_of_the_key_is_deleted_as_one_that_has_null(service: Service, shards: Shards) -> None:
    served(command(service, **IN_TRANSACTION), would_change(preImage={"_id": 7, "a": 1}, postImage=AFTER))
    assert shards.sent[0] == ("delete", "low", [{"q": {"_id": 7, "a.n": None, "x": None}, "limit": 1}])


def test_upsert_deletes_nothing_and_inserts_where_its_document_belongs(service: Service, shards: Shards) -> None:
    reply = served(command(service, **IN_TRANSACTION), would_change(postImage=AFTER, shouldUpsert=True))
    assert shards.sent == [("insert", "high", [AFTER])]
    assert reply == {"n": 1, "nModified": 0, "upserted": [{"index": 0, "_id": 7}], "ok": 1.0}


@pytest.mark.parametrize("deleted", [{"n": 0, "ok": 1.0}, {"ok": 1.0}])
def test_document_that_was_changed_meanwhile_is_not_inserted_twice(
    service: Service, shards: Shards, deleted: dict[str, Any]
) -> None:
    shards.answers["delete"] = deleted
    with pytest.raises(RouterError, match="was changed in the meantime") as failure:
        served(command(service, **IN_TRANSACTION), would_change(preImage=BEFORE, postImage=AFTER))
    assert failure.value.code == Code.WriteConflict
    assert [name for name, _, _ in shards.sent] == ["delete"]


def test_what_the_new_shard_refuses_is_the_clients_error(service: Service, shards: Shards) -> None:
    shards.answers["insert"] = {"n": 0, "writeErrors": [{"index": 0, "code": 11000, "errmsg": "E11000"}], "ok": 1.0}
    with pytest.raises(RouterError, match="E11000") as failure:
        served(command(service, **IN_TRANSACTION), would_change(preImage=BEFORE, postImage=AFTER))
    assert failure.value.code == 11000


@pytest.mark.parametrize(
    ("new", "upserts", "value", "last"),
    [
        (False, False, BEFORE, {"n": 1, "updatedExisting": True}),
        (True, False, AFTER, {"n": 1, "updatedExisting": True}),
        (False, True, None, {"n": 1, "updatedExisting": False, "upserted": 7}),
        (True, True, AFTER, {"n": 1, "updatedExisting": False, "upserted": 7}),
    ],
)
def test_find_and_modify_shows_the_document_before_or_after(
    service: Service, shards: Shards, new: bool, upserts: bool, value: Any, last: dict[str, Any]
) -> None:
    context = command(service, "findAndModify", new=new, **IN_TRANSACTION)
    images = {"preImage": None if upserts else BEFORE, "postImage": AFTER, "shouldUpsert": upserts}
    assert served(context, would_change(**images)) == {"lastErrorObject": last, "value": value, "ok": 1.0}


RETRYABLE: dict[str, Any] = {"lsid": LSID, "txnNumber": Int64(3)}


def test_write_that_cannot_be_repeated_keeps_its_members_error(service: Service, shards: Shards) -> None:
    error = would_change(preImage=BEFORE, postImage=AFTER)
    with pytest.raises(RouterError) as failure:
        served(command(service, lsid=LSID), error)
    assert failure.value is error
    assert shards.sent == []


@pytest.mark.parametrize("sequence", [True, False])
def test_retryable_write_runs_again_as_a_transaction_of_its_number(
    service: Service, monkeypatch: pytest.MonkeyPatch, sequence: bool
) -> None:
    inner: list[dict[str, Any]] = []
    committed: list[dict[str, Any]] = []
    states: list[str] = []

    def plain(context: Context) -> dict[str, Any]:
        return dict(rawbson.decode(context.message.body))

    async def again(context: Context) -> Any:
        known = service.transactions.known(context)
        assert known
        states.append(known.state)
        inner.append(plain(context))
        return {"n": 1, "ok": 1.0}

    async def commit(context: Context) -> Any:
        committed.append(plain(context))

    monkeypatch.setattr(service.transactions, "commit", commit)
    context = command(service, writeConcern=MAJORITY, stmtId=4, ordered=True, **RETRYABLE)
    if sequence:
        fields = {k: v for k, v in plain(context).items() if k != "updates"}
        batch = {"updates": [rawbson.encode(STATEMENT)]}
        context = Context(service, context.client, wire.Message(1, 0, rawbson.encode(fields), batch))
    assert served(context, would_change(), again) == {"n": 1, "ok": 1.0}
    session = {"lsid": LSID, "txnNumber": 3, "autocommit": False}
    assert inner == [
        {
            "update": "things",
            "updates": [STATEMENT],
            "ordered": True,
            **session,
            "startTransaction": True,
            "$db": "shop",
        }
    ]
    assert states == ["open"]
    assert committed == [{"commitTransaction": 1, **session, "writeConcern": MAJORITY, "$db": "shop"}]


def test_find_and_modify_runs_again_with_its_own_fields(service: Service) -> None:
    inner: list[dict[str, Any]] = []

    async def again(context: Context) -> Any:
        inner.append(rawbson.decode(context.message.body))
        return {"ok": 1.0}

    context = command(service, "findAndModify", writeConcern=MAJORITY, new=True, **RETRYABLE)
    assert served(context, would_change(), again) == {"ok": 1.0}
    (fields,) = inner
    assert (fields["query"], fields["update"], fields["new"]) == ({"_id": 7}, STATEMENT["u"], True)
    assert "updates" not in fields
    transaction = service.transactions.known(context)
    assert transaction
    assert transaction.state == "committed"


def test_transaction_of_a_write_that_fails_again_is_aborted(service: Service) -> None:
    async def again(_: Context) -> Any:
        raise RouterError(Code.WriteConflict, "somebody else was first")

    context = command(service, writeConcern=MAJORITY, **RETRYABLE)
    with pytest.raises(RouterError, match="somebody else was first"):
        served(context, would_change(), again)
    transaction = service.transactions.known(context)
    assert transaction
    assert transaction.state == "aborted"
