"""What the router remembers of a transaction."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from bson import Binary, Int64, MaxKey, MinKey, ObjectId, Timestamp

from shardmart.router.client import Client
from shardmart.router.operations import transactions, writes
from shardmart.router.operations.context import Context
from shardmart.router.operations.service import Service
from shardmart.router.protocol import rawbson, wire
from shardmart.router.protocol.errors import Code, RouterError
from shardmart.router.routing.catalog import Database, Routing
from shardmart.router.routing.member import Credentials
from shardmart.router.routing.replica_set import ReplicaSet

LSID = {"id": Binary(bytes(16), 4)}


def heard(seconds: int) -> wire.Message:
    return wire.Message(1, 0, rawbson.encode({"$clusterTime": {"clusterTime": Timestamp(seconds, 0)}}))


@pytest.fixture
def service() -> Service:
    """A service that has heard of cluster time 100, and never talks to anybody here."""
    credentials = Credentials(None)
    found = Service(ReplicaSet("none", ["127.0.0.1:9"], credentials), credentials, {})
    found.clock.observe(heard(100))
    return found


def statement(service: Service, number: int, *, first: bool = False, **fields: Any) -> Context:
    body = {"find": "things", "lsid": LSID, "txnNumber": Int64(number), "autocommit": False, "$db": "shop", **fields}
    if first:
        body["startTransaction"] = True
    context = Context(service, Client(service), wire.Message(1, 0, rawbson.encode(body)))
    service.transactions.begin(context)
    return context


def routing(moved: Timestamp) -> Routing:
    table = Routing("shop.things", Database("shop", "one", {}))
    table.newest_move = moved
    return table


def test_a_transaction_keeps_its_routing_table(service: Service) -> None:
    # A shard whose snapshot is older than a move does not show what moved there: looking for a document at its new
    # owner would find nothing, change nothing, and commit the other half of a transfer.
    old, new = routing(Timestamp(90, 0)), routing(Timestamp(110, 0))
    assert service.transactions.pin(statement(service, 1, first=True), old) is old
    assert service.transactions.pin(statement(service, 1), new) is old


def test_a_move_after_the_begin_makes_the_transaction_run_again(service: Service) -> None:
    first = statement(service, 1, first=True)
    other = Routing("shop.others", Database("shop", "one", {}))
    service.transactions.pin(first, other)
    with pytest.raises(RouterError) as failure:
        service.transactions.pin(statement(service, 1), routing(Timestamp(110, 0)))
    assert failure.value.code == 246


def test_a_snapshot_has_one_time_for_all_shards(service: Service) -> None:
    context = statement(service, 1, first=True, readConcern={"level": "snapshot"})
    service.clock.observe(heard(120))
    service.transactions.pin(context, routing(Timestamp(115, 0)))
    transaction = service.transactions.known(context)
    assert transaction
    assert transaction.read_concern == {"readConcern": {"level": "snapshot", "atClusterTime": Timestamp(120, 0)}}


def test_numbers_only_grow_and_unknown_transactions_may_be_run_again(service: Service) -> None:
    statement(service, 5, first=True)
    with pytest.raises(RouterError) as failure:
        statement(service, 4, first=True)
    assert failure.value.code == 225
    with pytest.raises(RouterError) as failure:
        statement(service, 6)
    assert failure.value.code == 251
    assert "TransientTransactionError" in failure.value.labels


def test_the_first_shard_that_wrote_tells_the_outcome(service: Service) -> None:
    context = statement(service, 1, first=True)
    transaction = service.transactions.known(context)
    assert transaction
    transaction.participants += ["one", "two", "three"]
    assert service.transactions.recovery_token(context) == {"recoveryToken": {}}
    transaction.wrote |= {"three", "two"}
    assert service.transactions.recovery_token(context) == {"recoveryToken": {"recoveryShardId": "two"}}


def test_a_transaction_that_is_forgotten_is_ended_on_its_shards(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    async def end(shard: str, fields: dict[str, Any]) -> bytes:
        ended.append(f"{next(iter(fields))} on {shard}")
        return b""

    async def scene() -> None:
        first = service.transactions.known(statement(service, 1, first=True))
        assert first
        first.participants.append("one")
        statement(service, 1, first=True, lsid={"id": Binary(bytes(15) + b"2", 4)})
        again = statement(service, 2, first=True)  # before the other's end was carried out
        await asyncio.sleep(0)
        await asyncio.gather(*service._background)
        assert service.transactions.known(again)

    monkeypatch.setattr(transactions, "SESSIONS_AT_MOST", 1)
    monkeypatch.setattr(service.transactions, "_end", end)
    asyncio.run(scene())
    assert ended == ["abortTransaction on one"]


@pytest.mark.parametrize(
    ("wrote", "sent"),
    [
        ([], ["commitTransaction on three, two, one", "commitTransaction on one"]),
        (["two"], ["commitTransaction on one, three, two", "commitTransaction on two"]),
        (["two", "three"], ["coordinateCommitTransaction on one", "coordinateCommitTransaction on one"]),
    ],
)
def test_no_coordinator_waits_for_shards_that_were_only_read(
    service: Service, monkeypatch: pytest.MonkeyPatch, wrote: list[str], sent: list[str]
) -> None:
    # mongod's coordinator waits without limit for a participant that is silent. Sent again, the commit that decides is
    # asked alone: the others may have forgotten theirs.
    asked: list[list[str]] = []

    async def end(shard: str, fields: dict[str, Any]) -> bytes:
        asked[-1] += [*([] if asked[-1] else [f"{next(iter(fields))} on"]), shard]
        await asyncio.sleep(0)
        if len(asked) == 1 and shard == (wrote or ["one"])[0]:
            raise RouterError(Code.HostUnreachable, "the answer was lost")
        return b""

    async def commit() -> None:
        context = statement(service, 1, first=True)
        transaction = service.transactions.known(context)
        assert transaction
        transaction.participants += ["one", "two", "three"]
        transaction.wrote |= set(wrote)
        for _ in range(2):
            asked.append([])
            with suppress(RouterError):
                await service.transactions.commit(context)
        assert transaction.state == "committed"

    monkeypatch.setattr(service.transactions, "_end", end)
    asyncio.run(commit())
    found = [f"{words[0]} {', '.join(sorted(words[1:-1]) + words[-1:])}" for words in asked]
    assert found == sent


def two_shards() -> Routing:
    """`shop.things` by {n: 1}: below 0 on shard "one", the rest on shard "two"."""
    table = Routing("shop.things", Database("shop", "one", {}))
    whole = {"key": {"n": 1}, "uuid": Binary(bytes(16), 4), "lastmodEpoch": ObjectId(), "timestamp": Timestamp(1, 0)}
    bounds = [(MinKey(), 0, "one"), (0, MaxKey(), "two")]
    chunks = [{"min": {"n": a}, "max": {"n": b}, "shard": s, "lastmod": Timestamp(1, 0)} for a, b, s in bounds]
    table.load(whole, chunks)
    return table


def test_a_batch_that_begins_a_transaction_begins_anew_with_it(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One shard did its part, the other refused because the router was stale: the abort undoes the part that was done.
    sent: list[tuple[str, int]] = []

    async def ask(_: Context, shard: str, __: Any, sequences: dict[str, list[bytes]], **___: Any) -> Any:
        sent.append((shard, len(sequences["documents"])))
        if shard == "two" and len(sent) == 2:
            raise RouterError(Code.StaleConfig, "moved")
        return None, wire.Message(1, 0, rawbson.encode({"n": len(sequences["documents"]), "ok": 1.0}))

    async def given(*_: Any) -> Any:
        return two_shards()

    monkeypatch.setattr(writes, "ask", ask)
    monkeypatch.setattr(service.catalog, "routing", given)
    monkeypatch.setattr(service.catalog, "create_database", given)
    fields = {"insert": "things", "documents": [{"n": -1}, {"n": -2}, {"n": 1}], "$db": "shop"}
    body = {**fields, "lsid": LSID, "txnNumber": Int64(1), "autocommit": False, "startTransaction": True}
    context = Context(service, Client(service), wire.Message(1, 0, rawbson.encode(body)))
    service.transactions.begin(context)

    async def write() -> Any:
        return await writes.write(context)

    assert asyncio.run(write())["n"] == 3
    assert sent == [("one", 2), ("two", 1), ("one", 2), ("two", 1)]
