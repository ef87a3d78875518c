"""find, count, distinct, getMore and killCursors; aggregate and explain are in `aggregation`.

One owner: the client's command with the shard's version. Several: every owner is asked and the answers are merged
here, as mongos does it.  `config` and `admin` are read on the config servers.
"""

from __future__ import annotations

from typing import Any

from bson import Int64
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson
from ..protocol.errors import UNREACHABLE, Code, RouterError
from ..routing.catalog import Routing
from ..routing.shard_key import comparable
from .authorization import Need, on_collection
from .context import Context, Reply, command
from .cursors import FIRST_BATCH, MergedCursor, Part, keep_cursor
from .send import ask, empty_cursor, everywhere, until_fresh
from .targeting import owners_of, routing_of
from .views import on_view, serves_views


@command("find", access=on_collection("find"), transaction=True, cancel=True)
@serves_views
async def find(context: Context) -> Reply:
    """A query."""
    context.service.counters["query"] += 1
    concern = await context.read_concern()

    async def attempt() -> Reply:
        routing = await routing_of(context, concern)
        if routing is None:
            return empty_cursor(context.namespace)
        owners = owners_of(context, routing, context.head.get("filter"))
        if len(owners) == 1 and not context.head.get("allowPartialResults"):
            fields = {**context.options(), **concern, **routing.versions(owners[0])}
            return keep_cursor(context, *await ask(context, owners[0], {"find": context.collection, **fields}))
        return await _merged_find(context, routing, owners, concern)

    return await until_fresh(context, context.namespace, attempt)


PARTIAL_SECONDS = 2.0


def sort_directions(sort: Any) -> list[int]:
    """1 or -1 for each field of a sort specification; empty without one, or for the natural order."""
    if not isinstance(sort, RawBSONDocument):
        return []
    specification = rawbson.decode(sort)
    if "$natural" in specification:
        return []
    if not all(isinstance(order, int | float | dict) for order in specification.values()):
        raise RouterError(Code.IllegalSortKey, f"Illegal key in $sort specification: {specification}")
    return [-1 if isinstance(order, dict) or order < 0 else 1 for order in specification.values()]


async def _merged_find(context: Context, routing: Routing, owners: list[str], concern: dict[str, Any]) -> Reply:
    options = context.options()
    skip, limit = context.integer("skip"), context.integer("limit")
    directions = sort_directions(options.get("sort"))
    by_distance = not directions and _is_near(options.get("filter"))
    options.pop("skip", None)
    if limit:
        options["limit"] = Int64(skip + limit)
    if by_distance:
        directions = [1]
    if directions:
        given = options.get("projection")
        projection = rawbson.decode(given) if isinstance(given, RawBSONDocument) else {}
        options["projection"] = {**projection, "$sortKey": {"$meta": "geoNearDistance" if by_distance else "sortKey"}}
    if "batchSize" in options and skip:
        options["batchSize"] = Int64(context.integer("batchSize") + skip)
    parts: list[Part] = []
    partial = bool(options.pop("allowPartialResults", False)) and not context.in_transaction

    async def open_part(shard: str) -> bytes:
        fields = {"find": context.collection, **options, **concern, **routing.versions(shard)}
        try:
            member, reply = await ask(context, shard, fields, patience=partial_patience(context) if partial else None)
        except RouterError as error:
            if not partial or error.code not in UNREACHABLE:
                raise
            return b""
        parts.append(Part(member, reply.body, directions))
        return reply.body

    try:
        replies = await everywhere(open_part(shard) for shard in owners)
    except BaseException:
        if parts:
            abandoned = MergedCursor(context, context.namespace, parts, skip=0, limit=0)
            context.service.in_background(abandoned.kill(context.service))
        raise
    merged = MergedCursor(context, context.namespace, parts, skip=skip, limit=limit, partial=partial)
    merged.missing = not all(replies)
    size = context.integer("batchSize", FIRST_BATCH)
    batch = await merged.batch(context, size)
    keep = not merged.exhausted and not context.head.get("singleBatch")
    if keep:
        context.service.cursors.add(merged)
    else:
        await merged.kill(context.service)
    cursor: dict[str, Any] = {"firstBatch": batch, "id": Int64(merged.id if keep else 0), "ns": context.namespace}
    if merged.missing:
        cursor["partialResultsReturned"] = True
    if time := _at_cluster_time(next(filter(None, replies), b"")):
        cursor["atClusterTime"] = time
    return {"cursor": cursor, "ok": 1.0}


def partial_patience(context: Context) -> float:
    """Seconds to look for a member before a read that may be partial goes on without its shard."""
    limit = context.integer("maxTimeMS")
    return min(PARTIAL_SECONDS, limit / 2000) if limit else PARTIAL_SECONDS


def _is_near(query: Any) -> bool:
    """Whether a query orders what it finds by distance: it holds $near or $nearSphere."""
    if isinstance(query, RawBSONDocument):
        query = rawbson.decode(query)
    if isinstance(query, list):
        return any(map(_is_near, query))
    if not isinstance(query, dict):
        return False
    return any(k in ("$near", "$nearSphere", "$geoNear") or _is_near(v) for k, v in query.items())


def _at_cluster_time(reply: bytes) -> Any:
    if not reply:
        return None
    cursor = rawbson.find(reply, frozenset({b"cursor"}))[b"cursor"]
    element = rawbson.find(reply, frozenset({b"atClusterTime"}), cursor[1]).get(b"atClusterTime")
    return rawbson.value_of(reply, element) if element else None


@command("count", access=on_collection("find"), cancel=True)
@serves_views
async def count(context: Context) -> Reply:
    """Every owner counts; limit and skip are applied to the sum, as mongos does."""
    concern = await context.read_concern()
    skip, limit = context.integer("skip"), abs(context.integer("limit", negative=True))
    options = {k: v for k, v in context.options().items() if k not in ("skip", "limit")}

    async def attempt() -> int:
        routing = await routing_of(context)
        if routing is None:
            return 0
        if limit:
            options["limit"] = Int64(limit + skip)
        owners = owners_of(context, routing, context.head.get("query"))
        replies = await everywhere(
            ask(context, shard, {"count": context.collection, **options, **concern, **routing.versions(shard)})
            for shard in owners
        )
        return sum(int(rawbson.decode(reply.body)["n"]) for _, reply in replies)

    total = max(0, await until_fresh(context, context.namespace, attempt) - skip)
    return {"n": min(total, limit) if limit else total, "ok": 1.0}


@command("distinct", access=on_collection("find"), transaction=True, cancel=True)
@serves_views
async def distinct(context: Context) -> Reply:
    """Every owner finds its values; equal ones are merged."""
    concern = await context.read_concern()

    async def attempt() -> Reply:
        routing = await routing_of(context)
        if routing is None:
            return {"values": [], "ok": 1.0}
        owners = owners_of(context, routing, context.head.get("query"))
        if len(owners) > 1 and "collation" in context.head:  # which values are equal, a member has to say
            return await on_view(context, {"ns": context.namespace, "pipeline": []})
        options = context.options()
        replies = await everywhere(
            ask(context, shard, {"distinct": context.collection, **options, **concern, **routing.versions(shard)})
            for shard in owners
        )
        values: dict[Any, Any] = {}
        extra: dict[str, Any] = {}
        for _, reply in replies:
            found = rawbson.find(reply.body, frozenset({b"values", b"atClusterTime"}))
            if b"atClusterTime" in found:
                extra["atClusterTime"] = rawbson.value_of(reply.body, found[b"atClusterTime"])
            for _, kind, start, end in rawbson.walk(reply.body, found[b"values"][1]):
                values.setdefault(comparable(reply.body, kind, start, end), (reply.body, (kind, start, end)))
        ordered = [rawbson.value_of(*values[key]) for key in sorted(values)]
        return {"values": ordered, **extra, "ok": 1.0}

    return await until_fresh(context, context.namespace, attempt)


def _of_named_collection(context: Context) -> list[Need]:
    return []  # a cursor belongs to the user who opened it, and that user was allowed to


@command("getMore", access=_of_named_collection, transaction=True, cancel=True)
async def get_more(context: Context) -> Reply:
    """The next batch of a cursor."""
    context.service.counters["getmore"] += 1
    identity = context.head["getMore"]
    if isinstance(identity, bool) or not isinstance(identity, int):
        raise RouterError(Code.TypeMismatch, "BSON field 'getMore.getMore' must be a 64-bit integer")
    return await context.service.cursors.more(context)


@command("killCursors", access=_of_named_collection, transaction=True)
async def kill_cursors(context: Context) -> Reply:
    """Close cursors of the client's user."""
    identities = context.head.get("cursors")
    if not isinstance(identities, list) or not all(isinstance(i, int) for i in identities):
        raise RouterError(Code.TypeMismatch, "BSON field 'killCursors.cursors' must be an array of 64-bit integers")
    killed, missing = [], []
    for identity in identities:
        try:
            cursor = context.service.cursors.get(context, identity)
        except RouterError:
            missing.append(Int64(identity))
            continue
        context.service.cursors.forget(cursor)
        await cursor.kill(context.service)
        killed.append(Int64(identity))
    return {"cursorsKilled": killed, "cursorsNotFound": missing, "cursorsAlive": [], "cursorsUnknown": [], "ok": 1.0}
