"""Logical sessions and their ends."""

from __future__ import annotations

from typing import Any

from bson import Binary

from ..operations.authorization import on_cluster, public
from ..operations.context import Context, Reply, command
from ..operations.send import everywhere
from ..protocol import rawbson
from ..protocol.errors import Code, RouterError


def _ids(context: Context) -> list[Binary]:
    found = [rawbson.decode(session).get("id") for session in context.array(context.name)]
    if not all(isinstance(identity, bytes) for identity in found):
        raise RouterError(Code.TypeMismatch, f"BSON field '{context.name}.id' must be a UUID")
    return [Binary(bytes(identity), 4) for identity in found if identity is not None]


@command("endSessions", access=public)
async def end_sessions(context: Context) -> Reply:
    """Close the cursors and abort the transactions of sessions the client is done with."""
    service, client = context.service, context.client
    for identity in _ids(context):
        # A session is an id and a user: nobody ends another's.
        service.in_background(service.cursors.end_session(bytes(identity), client.user, service))
        service.in_background(service.transactions.end_session((bytes(identity), bytes(client.digest))))
    return {"ok": 1.0}


async def _on_all_shards(context: Context, fields: dict[str, Any]) -> Reply:
    shards = (await context.service.catalog.load_shards()).values()
    await everywhere(shard.command({**fields, "$db": "admin"}, seconds=5.0) for shard in shards)
    return {"ok": 1.0}


@command("killSessions", access=public)
async def kill_sessions(context: Context) -> Reply:
    """Kill the client's own sessions on every shard."""
    patterns = [{"lsid": {"id": identity, "uid": context.client.digest}} for identity in _ids(context)]
    return await _on_all_shards(context, {"killAllSessionsByPattern": patterns})


@command("killAllSessions", access=on_cluster("killAnySession"))
async def kill_all_sessions(context: Context) -> Reply:
    """Kill the sessions of some users, or of all."""
    return await _on_all_shards(context, {"killAllSessions": context.head["killAllSessions"]})
