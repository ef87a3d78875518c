"""Whose turn it is: a session of the router's own for the next cursor, a shard that need not be waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from bson import Int64

from shardmart.router.client import Client
from shardmart.router.operations.context import Context
from shardmart.router.operations.cursors import ClusterCursor
from shardmart.router.operations.service import Service
from shardmart.router.operations.targeting import first_heard
from shardmart.router.protocol import rawbson, wire
from shardmart.router.routing.member import Credentials, Member
from shardmart.router.routing.replica_set import ReplicaSet


@pytest.mark.parametrize("killed", [False, True])
def test_a_session_is_free_when_its_cursor_ended_and_nothing_is_killing_it(killed: bool) -> None:
    # killCursors while a getMore is under way: killSessions is on its way when the getMore comes back with the end.
    credentials = Credentials(None)
    service = Service(ReplicaSet("none", ["127.0.0.1:9"], credentials), credentials, {})
    message = wire.Message(1, 0, rawbson.encode({"aggregate": "things", "pipeline": [], "$db": "shop"}))
    context = Context(service, Client(service), message)
    session = service.cursors.take_session()
    reply = rawbson.encode({"cursor": {"id": Int64(7), "ns": "shop.things", "firstBatch": []}, "ok": 1.0})
    cursor = ClusterCursor(context, Member("127.0.0.1:9", credentials), reply, session=session)
    service.cursors.add(cursor)
    if killed:
        service.cursors.forget(cursor)
    cursor.ended()
    assert cursor.id not in service.cursors.open
    assert (service.cursors.take_session() == session) is not killed


def test_a_shard_that_answered_lately_comes_before_one_that_did_not() -> None:
    def asked(**heard: bool) -> Any:
        shards = {name: SimpleNamespace(states={"host": 1} if known else {}) for name, known in heard.items()}
        return SimpleNamespace(service=SimpleNamespace(catalog=SimpleNamespace(shards=shards)))

    assert first_heard(asked(one=False, two=True), ["one", "two"]) == "two"
    assert first_heard(asked(one=True, two=True), ["two", "one"]) == "one"
    assert first_heard(asked(one=False, two=False), ["two", "one"]) == "one"
    assert first_heard(asked(), ["config"]) == "config"
