"""Reads over two shards that a script plays: what they are asked, and what is left open on them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bson import Decimal128, Int64

from shardmart.router import commands
from shardmart.router.client import Client
from shardmart.router.operations.context import NOBODY
from shardmart.router.operations.service import Service
from shardmart.router.operations.several_shards import _directions, _is_near
from shardmart.router.protocol import rawbson, wire
from shardmart.router.routing.member import Credentials
from shardmart.router.routing.replica_set import ReplicaSet
from tests.unit.router.test_router_members import member
from tests.unit.router.test_router_transactions import LSID, two_shards

assert commands
SECONDS = 10.0
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
TRANSACTION = {"lsid": LSID, "txnNumber": Int64(1), "autocommit": False, "startTransaction": True}


class Shard:
    """A shard that holds `documents`, and `asked`: all commands it got but hello, in their order."""

    def __init__(self, name: str, documents: list[dict[str, Any]]) -> None:
        self.name, self.documents = name, documents
        self.asked: list[dict[str, Any]] = []
        self.heard = asyncio.Event()

    def got(self, command: str) -> list[dict[str, Any]]:
        return [asked for asked in self.asked if command in asked]

    async def until(self, command: str) -> None:
        """Until it gets `command`."""
        async with asyncio.timeout(SECONDS):
            while not self.got(command):
                self.heard.clear()
                await self.heard.wait()

    async def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "hello" in asked:
            return {"setName": self.name, "isWritablePrimary": True, "setVersion": 1}
        self.asked.append(asked)
        self.heard.set()
        return await self.reply(next(iter(asked)), asked)

    async def reply(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if name not in ("find", "aggregate", "getMore"):
            return {}
        size = asked.get("batchSize", asked.get("cursor", {}).get("batchSize", 10_000 if name == "getMore" else 101))
        batch, self.documents = self.documents[:size], self.documents[size:]
        field = "nextBatch" if name == "getMore" else "firstBatch"
        return {"cursor": {"id": Int64(7 if self.documents else 0), "ns": "shop.things", field: batch}}


class Refusing(Shard):
    """Says the same error to `refused`, once the other shard was asked."""

    def __init__(self, name: str, refused: str, other: Shard, code: int) -> None:
        super().__init__(name, [])
        self.refused, self.other, self.code = refused, other, code

    async def reply(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if name != self.refused:
            return {}
        await self.other.until(name)
        return {"ok": 0.0, "code": self.code, "errmsg": "no"}


class Silent(Shard):
    """Answers a getMore never, or once it was told to kill the cursor."""

    async def reply(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if name == "getMore":
            await self.until("killCursors")
        return await super().reply(name, asked)


Scene = Callable[[Service], Awaitable[Any]]


def play(one: Shard, two: Shard, scene: Scene) -> Any:
    """Run `scene` with a router before the two shards of `shop.things`, whose chunks meet at n = 0."""

    async def run() -> Any:
        async with member(one.answer) as first, member(two.answer) as second:
            credentials = Credentials(None)
            service = Service(ReplicaSet("none", ["127.0.0.1:9"], credentials), credentials, {})

            async def routing(_: str) -> Any:
                return two_shards()

            async def shards() -> Any:
                return service.catalog.shards

            service.catalog.shards = {
                s.name: ReplicaSet(s.name, [a], credentials) for s, a in [(one, first), (two, second)]
            }
            for name, stub in {"routing": routing, "load_shards": shards, "create_database": routing}.items():
                setattr(service.catalog, name, stub)
            try:
                async with asyncio.timeout(SECONDS):
                    return await scene(service)
            finally:
                service.close()

    return asyncio.run(run())


async def told(service: Service, client: Client | None = None, **command: Any) -> dict[str, Any]:
    """The router's answer to a command."""
    message = wire.Message(1, 0, rawbson.encode({**command, "$db": "shop"}))
    return rawbson.decode(await (client or Client(service))._answer(message))


def numbered(*numbers: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"_id": n, "n": n, **fields} for n in numbers]


def test_what_one_shard_opened_is_closed_when_another_refuses() -> None:
    one = Shard("one", numbered(*range(-300, 0)))
    two = Refusing("two", "find", one, 2)

    async def scene(service: Service) -> None:
        assert (await told(service, find="things", **TRANSACTION))["code"] == 2
        await one.until("killCursors")

    play(one, two, scene)
    assert one.got("killCursors")[0]["cursors"] == [7]


def test_what_does_not_fit_a_transaction_is_closed() -> None:
    one = Shard("one", numbered(*range(-40, 0), filler="x" * 1_000_000))
    two = Shard("two", [])
    stages = [{"$sort": {"n": 1}}]

    async def reply(name: str, asked: dict[str, Any]) -> dict[str, Any]:
        asked["batchSize"] = 10
        return await Shard.reply(one, name, asked)

    one.reply = reply  # type: ignore[method-assign]

    async def scene(service: Service) -> None:
        assert (await told(service, aggregate="things", pipeline=stages, cursor={}, **TRANSACTION))["code"] == 10334
        await one.until("killCursors")

    play(one, two, scene)


def test_what_a_client_that_is_gone_was_reading_is_closed() -> None:
    one = Silent("one", numbered(*range(-300, 0)))
    two = Shard("two", numbered(*range(300)))
    stages = [{"$sort": {"n": 1}}]

    async def scene(service: Service) -> None:
        reading = asyncio.ensure_future(told(service, aggregate="things", pipeline=stages, cursor={}, **TRANSACTION))
        await one.until("getMore")
        reading.cancel()
        await one.until("killCursors")
        with pytest.raises(asyncio.CancelledError):
            await reading

    play(one, two, scene)


def test_a_cursor_killed_while_it_fetches_does_not_come_back() -> None:
    one = Silent("one", numbered(*range(-300, 0)))
    two = Silent("two", numbered(*range(300)))

    async def scene(service: Service) -> None:
        client = Client(service)
        first = await told(service, client, find="things", batchSize=5, **TRANSACTION)
        identity = Int64(first["cursor"]["id"])
        again = {k: v for k, v in TRANSACTION.items() if k != "startTransaction"}
        more = {"getMore": identity, "collection": "things", "batchSize": 50, **again}
        while not (one.got("getMore") or two.got("getMore")):
            reading = asyncio.ensure_future(told(service, client, **more))
            while not (reading.done() or one.got("getMore") or two.got("getMore")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        killed = await told(service, killCursors="things", cursors=[identity], **again)
        assert killed["cursorsKilled"] == [identity]
        await reading
        assert (await told(service, **more))["code"] == 43

    play(one, two, scene)


@pytest.mark.parametrize("skip", [0, 50])
def test_a_single_batch_has_as_many_as_were_asked_for(skip: int) -> None:
    one, two = Shard("one", numbered(*range(-400, 0))), Shard("two", numbered(*range(400)))

    async def scene(service: Service) -> dict[str, Any]:
        return await told(service, find="things", batchSize=700, singleBatch=True, skip=skip, **TRANSACTION)

    cursor = play(one, two, scene)["cursor"]
    assert (len(cursor["firstBatch"]), cursor["id"]) == (700, 0)


def test_the_shards_are_asked_in_the_clients_session_and_time() -> None:
    one, two = Shard("one", numbered(-1)), Shard("two", numbered(1))

    async def scene(service: Service) -> dict[str, Any]:
        return await told(service, find="things", maxTimeMS=5000, lsid=LSID)

    assert [d["n"] for d in play(one, two, scene)["cursor"]["firstBatch"]] in ([-1, 1], [1, -1])
    for shard in (one, two):
        (asked,) = shard.got("find")
        assert asked["maxTimeMS"] == 5000
        assert asked["lsid"] == {"id": LSID["id"], "uid": bytes(NOBODY)}


def test_a_query_counts_once_however_often_it_is_sent() -> None:
    class Stale(Shard):
        async def reply(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
            if name == "find" and len(self.got("find")) == 1:
                return {"ok": 0.0, "code": 13388, "errmsg": "stale"}
            return await super().reply(name, asked)

    one = Stale("one", numbered(-1))

    async def scene(service: Service) -> tuple[int, int]:
        found = await told(service, find="things", filter={"n": -1})
        assert [document["n"] for document in found["cursor"]["firstBatch"]] == [-1]
        return len(one.got("find")), service.counters["query"]

    assert play(one, Shard("two", []), scene) == (2, 1)


def test_a_text_score_is_best_first_and_an_order_may_be_a_decimal() -> None:
    sort = {"score": {"$meta": "textScore"}, "a": Decimal128("-1"), "b": Decimal128("1"), "c": -1.0, "d": Int64(1)}
    assert _directions(sort) == [-1, -1, 1, -1, 1]
    assert _directions({"$natural": -1}) == []


@pytest.mark.parametrize("operator", ["$near", "$nearSphere", "$geoNear"])
def test_what_is_near_comes_first(operator: str) -> None:
    assert _is_near({"$and": [{"at": {operator: [0, 0]}}]})
    assert not _is_near({"at": {"$geoWithin": {"$center": [[0, 0], 1]}}})
