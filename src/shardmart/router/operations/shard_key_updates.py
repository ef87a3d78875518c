"""Updates that give a document to another shard: a delete there and an insert here, in one transaction.

A member refuses such an update with WouldChangeOwningShard (283) and says what the document was and would be.  In
the client's transaction the document moves within it; a retryable write becomes a transaction of the same number, as
mongos has it.  Any other write is refused by the member (20).  Source: MongoDB 6.0 manual, "Change a Document's
Shard Key Value".
"""

from __future__ import annotations

import asyncio
from typing import Any

from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson
from ..protocol.errors import Code, RouterError
from .context import Context, Handler, Reply
from .send import ask, routing_for

_SESSION = ("lsid", "txnNumber")


async def serve(context: Context, error: RouterError, again: Handler) -> Reply:
    """Serve an update or findAndModify that failed with `error`; `again` is its handler.  Raises RouterError."""
    if context.in_transaction:
        return await _move(context, error.extra)
    if not context.retryable:
        raise error
    transactions = context.service.transactions
    session = {name: context.head[name] for name in _SESSION} | {"autocommit": False}
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
    before, after = images.get("preImage"), images["postImage"]
    routing = await routing_for(context)
    assert routing.pattern is not None
    upserts = bool(images.get("shouldUpsert"))
    document = rawbson.encode(after)
    if not upserts:
        assert before is not None
        owner = routing.owner(routing.pattern.key_of_document(rawbson.encode(before)))
        names = [b".".join(path).decode() for path, _ in routing.pattern.fields]
        query = {"_id": before["_id"], **{name: _at(before, name) for name in names}}
        delete = {"delete": context.collection, **routing.versions(owner)}
        statement = rawbson.encode({"q": query, "limit": 1})
        _, reply = await ask(context, owner, delete, {"deletes": [statement]}, write=True)
        if rawbson.decode(reply.body).get("n") != 1:
            raise RouterError(Code.WriteConflict, "the document to be moved was changed in the meantime")
    to = routing.owner(routing.pattern.key_of_document(document))
    insert = {"insert": context.collection, **routing.versions(to)}
    _, reply = await ask(context, to, insert, {"documents": [document]}, write=True)
    errors = rawbson.decode(reply.body).get("writeErrors")
    if errors:
        raise RouterError(errors[0]["code"], errors[0]["errmsg"])
    return _reply(context, before, after, upserts)


def _at(document: dict[str, Any], name: str) -> Any:
    value: Any = document
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _reply(context: Context, before: Any, after: dict[str, Any], upserts: bool) -> dict[str, Any]:
    if context.name == "update":
        upserted = {"upserted": [{"index": 0, "_id": after["_id"]}]} if upserts else {}
        return {"n": 1, "nModified": 0 if upserts else 1, **upserted, "ok": 1.0}
    last: dict[str, Any] = {"n": 1, "updatedExisting": not upserts}
    if upserts:
        last["upserted"] = after["_id"]
    shown = after if context.head.get("new") else (None if upserts else before)
    return {"lastErrorObject": last, "value": shown, "ok": 1.0}
