"""Updates that give a document to another shard: a delete there and an insert here, in one transaction.

A member refuses such an update with WouldChangeOwningShard (283) and says what the document was and would be.  In
the client's transaction the document moves within it; a retryable write becomes a transaction of the same number, as
mongos has it.  Any other write is refused by the member (20).  Source: MongoDB 6.0 manual, "Change a Document's
Shard Key Value".
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson
from ..protocol.errors import Code, RouterError
from .context import Context, Handler, Reply
from .send import ask, routing_for


def serves_moves(handler: Handler) -> Handler:
    """A handler of updates that also serves those which give their document to another shard."""

    @functools.wraps(handler)
    async def wrapped(context: Context) -> Reply:
        try:
            return await handler(context)
        except RouterError as error:
            if error.code != Code.WouldChangeOwningShard:
                raise
            return await serve(context, error, wrapped)

    return wrapped


async def serve(context: Context, error: RouterError, again: Handler) -> Reply:
    """Serve an update or findAndModify that failed with `error`; `again` is its handler.  Raises RouterError."""
    if context.in_transaction:
        return await _move(context, error.extra)
    if not context.retryable:
        raise error
    transactions = context.service.transactions
    session = {name: context.head[name] for name in ("lsid", "txnNumber")} | {"autocommit": False}
    left_out = ("writeConcern", "stmtId", "stmtIds", "$db")
    fields = {k: v for k, v in context.head.items() if k not in left_out} | session | {"startTransaction": True}
    if context.name == "update":
        fields["updates"] = [RawBSONDocument(statement) for statement in context.documents("updates")]
    inner = context.with_fields(fields)
    transactions.begin(inner)
    try:
        reply = await again(inner)
        concern = context.write_concern()
        await transactions.commit(context.with_fields({"commitTransaction": 1, **session, **concern}))
    except (RouterError, asyncio.CancelledError):
        transactions.failed(inner)
        raise
    return reply


async def _move(context: Context, images: dict[str, Any]) -> Reply:
    """Delete the document from its owner, and insert it, changed, where it belongs."""
    before, after = images.get("preImage") or {}, images["postImage"]
    routing = await routing_for(context)
    pattern = routing.pattern
    assert pattern is not None
    upserts = bool(images.get("shouldUpsert"))

    async def on_owner(name: str, document: bytes, batch: str, statement: bytes) -> dict[str, Any]:
        owner = routing.owner(pattern.key_of_document(document))
        fields = {name: context.collection, **routing.versions(owner)}
        return rawbson.decode((await ask(context, owner, fields, {batch: [statement]}, write=True))[1].body)

    if not upserts:
        raw = rawbson.encode(before)
        key = {b".".join(path).decode(): rawbson.get(raw, *path) for path, _ in pattern.fields}
        statement = rawbson.encode({"q": {"_id": before["_id"], **key}, "limit": 1})
        if (await on_owner("delete", raw, "deletes", statement)).get("n") != 1:
            raise RouterError(Code.WriteConflict, "the document to be moved was changed in the meantime")
    document = rawbson.encode(after)
    if errors := (await on_owner("insert", document, "documents", document)).get("writeErrors"):
        raise RouterError(errors[0]["code"], errors[0]["errmsg"])
    return _reply(context, before, after, upserts)


def _reply(context: Context, before: Any, after: dict[str, Any], upserts: bool) -> dict[str, Any]:
    if context.name == "update":
        upserted = {"upserted": [{"index": 0, "_id": after["_id"]}]} if upserts else {}
        return {"n": 1, "nModified": 0 if upserts else 1, **upserted, "ok": 1.0}
    last: dict[str, Any] = {"n": 1, "updatedExisting": not upserts}
    if upserts:
        last["upserted"] = after["_id"]
    shown = after if context.head.get("new") else (None if upserts else before)
    return {"lastErrorObject": last, "value": shown, "ok": 1.0}
