"""find, count, distinct, getMore and killCursors; aggregate and explain are in `aggregation`.

One owner: the client's command with the shard's version. Several: every owner is asked and the answers are merged
here, as mongos does it.  `config` and `admin` are read on the config servers.
"""

from __future__ import annotations

from typing import Any

from bson import Int64

from ..protocol import rawbson
from ..protocol.errors import RouterError
from ..routing.shard_key import comparable
from .authorization import on_collection, public
from .context import Context, Reply, command
from .cursors import keep_cursor
from .send import ask, ask_all
from .several_shards import find_over_several
from .targeting import owners_of, routing_of
from .views import on_view, read

_VALUES = frozenset({b"values"})


@command("find", access=on_collection("find"), transaction=True, cancel=True)
@read
async def find(context: Context) -> Reply:
    """A query."""
    concern = context.read_concern()
    routing = await routing_of(context)
    owners = owners_of(context, routing, context.head.get("filter"))
    partial = bool(context.head.get("allowPartialResults")) and not context.in_transaction
    if context.of_snapshot and routing.newest_move > concern["readConcern"].get("atClusterTime", routing.newest_move):
        owners = sorted(await context.service.catalog.load_shards())  # the owners of then may have been any
    if len(owners) == 1 and not partial:
        fields = {**context.options(), **concern, **routing.versions(owners[0])}
        return keep_cursor(context, *await ask(context, owners[0], {"find": context.collection, **fields}))
    return await find_over_several(context, routing, owners, concern, partial=partial)


@command("count", access=on_collection("find"), cancel=True)
@read
async def count(context: Context) -> Reply:
    """Every owner counts; limit and skip are applied to the sum, as mongos does."""
    concern = context.read_concern()
    skip, limit = context.integer("skip"), abs(context.integer("limit", negative=True))
    fields = {k: v for k, v in context.options().items() if k not in ("skip", "limit")} | concern
    if limit:
        fields["limit"] = Int64(limit + skip)
    routing = await routing_of(context)
    owners = owners_of(context, routing, context.head.get("query"))
    answers = await ask_all(context, owners, {"count": context.collection, **fields}, routing)
    total = max(0, sum(int(reply.document["n"]) for _, reply in answers.values()) - skip)
    return {"n": min(total, limit) if limit else total, "ok": 1.0}


@command("distinct", access=on_collection("find"), transaction=True, cancel=True)
@read
async def distinct(context: Context) -> Reply:
    """Every owner finds its values; equal ones are merged."""
    concern = context.read_concern()
    routing = await routing_of(context)
    owners = owners_of(context, routing, context.head.get("query"))
    if len(owners) > 1 and "collation" in context.head:  # which values are equal, a member has to say
        return await on_view(context, {"ns": context.namespace, "pipeline": []})
    fields = {"distinct": context.collection, **context.options(), **concern}
    answers = await ask_all(context, owners, fields, routing)
    if len(owners) == 1:
        return answers[owners[0]][1].body
    values: dict[Any, Any] = {}
    for _, reply in answers.values():
        for _, kind, start, end in rawbson.walk(reply.body, rawbson.find(reply.body, _VALUES)[b"values"][1]):
            values.setdefault(comparable(reply.body, kind, start, end), (reply.body, (kind, start, end)))
    return {"values": [rawbson.value_of(*values[key]) for key in sorted(values)], "ok": 1.0}


# A cursor belongs to the user who opened it, and that user was allowed to.
@command("getMore", access=public, transaction=True, cancel=True)
async def get_more(context: Context) -> Reply:
    """The next batch of a cursor."""
    context.service.counters["getmore"] += 1
    return await context.service.cursors.more(context)


@command("killCursors", access=public, transaction=True)
async def kill_cursors(context: Context) -> Reply:
    """Close cursors of the client's user."""
    killed, missing = [], []
    for identity in context.array("cursors", int):
        try:
            cursor = context.service.cursors.get(context, identity)
        except RouterError:
            missing.append(Int64(identity))
            continue
        await cursor.close()
        killed.append(Int64(identity))
    return {"cursorsKilled": killed, "cursorsNotFound": missing, "cursorsAlive": [], "cursorsUnknown": [], "ok": 1.0}
