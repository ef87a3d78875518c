"""Batches of writes over two shards that a script plays: what is tried after a refusal, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shardmart.router.client import Client
from shardmart.router.operations import send
from shardmart.router.operations.context import COMMANDS, Context
from shardmart.router.operations.service import Service
from shardmart.router.protocol import rawbson, wire
from shardmart.router.routing.member import Credentials
from shardmart.router.routing.replica_set import ReplicaSet
from tests.unit.router.test_router_merged_cursors import TRANSACTION, Shard, play, told
from tests.unit.router.test_router_transactions import LSID


class Writing(Shard):
    """A shard where every statement changes one document; it refuses the first command with `stale`, if that is set."""

    def __init__(self, name: str, stale: int = 0, late: float = 0) -> None:
        super().__init__(name, [])
        self.stale, self.late = stale, late  # `late`: seconds

    async def reply(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        if name != "update":
            return {}
        code, self.stale = self.stale, 0
        await asyncio.sleep(self.late)
        if code:
            return {"ok": 0.0, "code": code, "errmsg": "stale"}
        return {"n": len(asked["updates"]), "nModified": len(asked["updates"])}


def change(query: dict[str, Any], *, multi: bool = False) -> dict[str, Any]:
    return {"q": query, "u": {"$inc": {"by": 1}}, "multi": multi}


TOO_LITTLE = change({"colour": "red"})  # names neither the shard key nor _id


@pytest.mark.parametrize("fields", [TRANSACTION, {}])
def test_an_unordered_batch_stops_at_a_refused_statement_in_a_transaction_alone(fields: dict[str, Any]) -> None:
    one, two = Writing("one"), Writing("two")
    updates = [change({"n": -1}), TOO_LITTLE, change({"n": 1}), change({}, multi=True)]

    async def scene(service: Service) -> dict[str, Any]:
        return await told(service, update="things", updates=updates, ordered=False, **fields)

    reply = play(one, two, scene)
    assert [(error["index"], error["code"]) for error in reply["writeErrors"]] == [(1, 72)]
    assert reply["n"] == (1 if fields else 4), "what comes first was done, what comes later was not"
    assert [update["q"] for asked in one.got("update") for update in asked["updates"]][:1] == [{"n": -1}]
    assert bool(two.got("update")) is not bool(fields)


@pytest.mark.parametrize("late", [(0, 0.1), (0.1, 0)])  # whoever answers first
@pytest.mark.parametrize("code", [13388, 249])
def test_a_broadcast_is_done_once_where_one_shard_calls_the_router_stale(late: tuple[float, float], code: int) -> None:
    one, two = Writing("one", 0, late[0]), Writing("two", code, late[1])

    async def scene(service: Service) -> dict[str, Any]:
        updates = [change({}, multi=True)]
        return await told(service, update="things", updates=updates, lsid=LSID)

    reply = play(one, two, scene)
    assert len(one.got("update")) == 1
    assert [error["code"] for error in reply["writeErrors"]] == [code]
    assert reply["n"] == 1


def test_a_long_batch_goes_on_after_a_move_however_long_it_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "STALE_SECONDS", 0.05)
    one, two = Writing("one", late=0.2), Writing("two", 13388)

    async def scene(service: Service) -> dict[str, Any]:
        return await told(service, update="things", updates=[change({"n": -1}), change({"n": 1})])

    assert play(one, two, scene) == {"n": 2, "nModified": 2, "ok": 1.0}
    assert len(one.got("update")) == 1


@pytest.mark.parametrize(("upsert", "needed"), [(False, ["update"]), (True, ["update", "insert"])])
def test_an_update_needs_the_right_to_insert_where_it_may_insert(*, upsert: bool, needed: list[str]) -> None:
    credentials = Credentials(None)  # drivers send `upsert` where it is false, too
    service = Service(ReplicaSet("none", ["127.0.0.1:9"], credentials), credentials, {})
    body = {"update": "things", "updates": [{**change({"n": 1}), "upsert": upsert}], "$db": "shop"}
    context = Context(service, Client(service), wire.Message(1, 0, rawbson.encode(body)))
    assert [need.action for need in COMMANDS["update"].access(context)] == needed


def test_a_time_limit_below_zero_leaves_no_command_running() -> None:
    async def scene(service: Service) -> Client:
        client = Client(service)
        assert (await told(service, client, find="things", maxTimeMS=-1))["code"] == 2
        return client

    assert play(Shard("one", []), Shard("two", []), scene).running is None
