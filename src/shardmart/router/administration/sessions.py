"""Logical sessions and the ends of transactions."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from bson import Binary
from bson.raw_bson import RawBSONDocument

from ..operations.authorization import on_cluster, public
from ..operations.context import Context, Reply, command
from ..protocol import rawbson
from ..protocol.errors import Code, RouterError


def _ids(context: Context) -> list[Binary]:
    sessions = context.head[context.name]
    if not isinstance(sessions, list) or not all(isinstance(s, RawBSONDocument) for s in sessions):
        raise RouterError(Code.TypeMismatch, f"BSON field '{context.name}' must be an array of session ids")
    found: list[Binary] = []
    for session in sessions:
        identity = rawbson.decode(session).get("id")
        if not isinstance(identity, bytes):
            raise RouterError(Code.TypeMismatch, f"BSON field '{context.name}.id' must be a UUID")
        found.append(Binary(bytes(identity), 4))
    return found


@command("startSession", access=public)
async def start_session(_: Context) -> Reply:
    """A new session id; the members learn of it with its first command."""
    return {"id": {"id": Binary.from_uuid(uuid.uuid4())}, "timeoutMinutes": 30, "ok": 1.0}


@command("refreshSessions", access=public)
async def refresh_sessions(context: Context) -> Reply:
    """Members refresh the sessions they see used."""
    _ids(context)
    return {"ok": 1.0}


@command("endSessions", access=public)
async def end_sessions(context: Context) -> Reply:
    """Close the cursors and abort the transactions of sessions the client is done with."""
    for identity in _ids(context):
        # A session is an id and a user: nobody ends another's.
        cursors, transactions = context.service.cursors, context.service.transactions
        context.service.in_background(cursors.end_session(bytes(identity), context.client.user, context.service))
        context.service.in_background(transactions.end_session((bytes(identity), bytes(context.client.digest))))
    return {"ok": 1.0}


async def _on_all_shards(context: Context, fields: dict[str, Any]) -> None:
    shards = await context.service.catalog.load_shards()
    sends = [shard.command({**fields, "$db": "admin"}, seconds=5.0) for shard in shards.values()]
    for result in await asyncio.gather(*sends, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


@command("killSessions", access=public)
async def kill_sessions(context: Context) -> Reply:
    """Kill the client's own sessions on every shard."""
    identities = [{"id": identity, "uid": context.client.digest} for identity in _ids(context)]
    patterns = [{"lsid": identity} for identity in identities]
    await _on_all_shards(context, {"killAllSessionsByPattern": patterns})
    return {"ok": 1.0}


@command("killAllSessions", access=on_cluster("killAnySession"))
async def kill_all_sessions(context: Context) -> Reply:
    """Kill the sessions of some users, or of all."""
    await _on_all_shards(context, {"killAllSessions": context.head["killAllSessions"]})
    return {"ok": 1.0}
