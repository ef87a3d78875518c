"""Reads over several shards: finds are merged here, aggregations by a member, by mongos's own code.

`clusterAggregate` asks all shards and merges, $lookup, $out and $merge included.  Which member does it matters only for
speed.  It cannot take part in a client's transaction (mongod 6.0.5 refuses).  There the router does what it can do
simply: one owner gets a whole pipeline; with several owners, stages that look at one document at a time run on the
shards, groups that add up are grouped on both levels, and the rest runs over what was gathered, which has to fit one
document.  A find is every owner's own, so that its session, its user and its time limit are the client's.
"""

from __future__ import annotations

from typing import Any

from bson import Int64

from ..protocol import wire
from ..protocol.errors import Code, RouterError
from ..routing.catalog import Routing
from ..routing.replica_set import PRIMARY
from .authorization import named_by
from .context import Context, Reply
from .cursors import FIRST_BATCH, ClusterCursor, keep_cursor
from .merged_cursors import MergedCursor
from .send import cursor_id, deliver

_PER_DOCUMENT = frozenset({
    "$match", "$project", "$addFields", "$set", "$unset", "$unwind", "$replaceRoot", "$replaceWith", "$redact",
})  # fmt: skip
_ADDS_UP = {"$sum": "$sum", "$min": "$min", "$max": "$max", "$count": "$sum"}
_BY_DISTANCE = frozenset({"$near", "$nearSphere", "$geoNear"})
_DONE_HERE = ("skip", "limit", "batchSize", "singleBatch", "allowPartialResults")


def write_target(context: Context) -> str | None:
    """The database that the $out or $merge at the end of an aggregate writes to; None when the command only reads."""
    stage = context.stages[-1] if context.name == "aggregate" and context.stages else {}
    argument = stage.get("$out", stage.get("$merge"))
    return None if argument is None else named_by(context.db, argument)[0]


def names_another(stages: Any) -> bool:
    """Whether a stage reads another collection.

    If that is sharded, a member that was asked for its own part alone cannot read it ("getOwnershipFilter called by
    operation that doesn't specify shard version", mongod 6.0.5).
    """
    return isinstance(stages, list) and any(
        name in ("$lookup", "$graphLookup", "$unionWith")
        or (name == "$facet" and isinstance(inner, dict) and any(map(names_another, inner.values())))
        for stage in stages
        if isinstance(stage, dict)
        for name, inner in stage.items()
    )


async def concerns(context: Context) -> dict[str, Any]:
    """The read concern of an aggregate; for one that writes the write concern too, and its database is made."""
    concern = {} if context.head.get("explain") else context.read_concern()
    if target := write_target(context):
        await context.service.catalog.create_database(target)
        concern |= context.write_concern()
    return concern


async def on_member(context: Context, command: dict[str, Any], shard: str) -> Reply:
    """Have a member of `shard` run `command`, a `cluster...` one; its cursor is kept.  Raises RouterError."""
    service, writes = context.service, write_target(context) is not None
    session = service.cursors.take_session()
    fields = {**command, **session, **service.clock.gossip(), "$db": context.db}
    fields |= {k: context.head[k] for k in ("$readPreference",) if k in context.head}  # for what other shards read
    preference = PRIMARY if writes else context.read_preference()
    replica_set = await service.catalog.shard(shard)
    member, reply = await deliver(replica_set, wire.command(fields), preference, retryable=not writes)
    if cursor_id(reply.body):
        service.cursors.add(ClusterCursor(context, member, reply.body, session=session))
    else:  # where it failed, the member may still be at work in the session
        service.cursors.sessions.append(session)
    return reply.body


async def over_all_shards(context: Context, shard: str) -> Reply:
    """An aggregate over all shards, merged by a member of `shard`; RouterError 263 in a transaction."""
    if context.in_transaction:
        message = "aggregations of other collections than one, sharded one are not served inside a transaction"
        raise RouterError(Code.OperationNotSupportedInTransaction, message)
    fields = {"clusterAggregate": context.head["aggregate"], **context.options(), **await concerns(context)}
    return await on_member(context, fields, shard)


def _adds_up(accumulator: Any) -> bool:
    return isinstance(accumulator, dict) and len(accumulator) == 1 and next(iter(accumulator)) in _ADDS_UP


def split(stages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(stages for the shards, stages for what they return)."""
    cut = 0
    while cut < len(stages) and next(iter(stages[cut]), "") in _PER_DOCUMENT:
        cut += 1
    shards, merge = stages[:cut], stages[cut:]
    name, argument = next((pair for first in merge[:1] for pair in first.items()), ("", None))
    if name == "$count":
        total = {"$group": {"_id": None, argument: {"$sum": f"${argument}"}}}
        return [*shards, merge[0]], [total, {"$project": {"_id": 0}}, *merge[1:]]
    if name == "$group" and isinstance(argument, dict) and all(_adds_up(v) for k, v in argument.items() if k != "_id"):
        again = {k: {_ADDS_UP[next(iter(v))]: f"${k}"} for k, v in argument.items() if k != "_id"}
        return [*shards, merge[0]], [{"$group": {"_id": "$_id", **again}}, *merge[1:]]
    if name == "$limit":
        return [*shards, merge[0]], merge
    if name == "$sort" and len(merge) > 1 and "$limit" in merge[1]:
        return [*shards, *merge[:2]], merge
    return shards, merge


async def aggregate_in_transaction(context: Context, routing: Routing, owners: list[str]) -> Reply:
    """An aggregate over several shards in a transaction, merged here."""
    for_shards, for_merge = split(context.stages)
    options = {k: v for k, v in context.options().items() if k not in ("pipeline", "cursor")}
    fields = {"aggregate": context.collection, "pipeline": for_shards, "cursor": {}, **options}
    merged = MergedCursor(context, [])
    size = int(context.document("cursor").get("batchSize", FIRST_BATCH))
    with merged.closed_on_failure():
        await merged.open(context, owners, fields, routing)
        if not for_merge:
            return await merged.reply(context, "firstBatch", size)
        documents = await merged.everything(context)
    # `$documents` would turn strings that begin with a dollar into expressions: $literal keeps them as they are.
    source: dict[str, Any] = {"$documents": {"$literal": documents} if documents else []}
    command = {"aggregate": 1, "pipeline": [source, *for_merge], "cursor": {"batchSize": size}, **options}
    command |= {"readConcern": {"level": "local"}, "$db": context.db}
    replica_set = await context.service.catalog.shard(owners[0])
    return keep_cursor(context, *await deliver(replica_set, wire.command(command), PRIMARY, retryable=True), session={})


def _directions(sort: dict[str, Any]) -> list[int]:
    """1 or -1 for each field of a sort specification; empty for the natural order."""
    if "$natural" in sort:
        return []
    # A text score is best first; an order may be any number, and Decimal128 has none of its own.
    return [-1 if isinstance(order, dict) or str(order).startswith("-") else 1 for order in sort.values()]


def _is_near(query: Any) -> bool:
    """Whether a query orders what it finds by distance."""
    if isinstance(query, list):
        return any(map(_is_near, query))
    return isinstance(query, dict) and any(k in _BY_DISTANCE or _is_near(v) for k, v in query.items())


async def find_over_several(
    context: Context, routing: Routing, owners: list[str], concern: dict[str, Any], *, partial: bool
) -> Reply:
    """A find over several shards; with `partial` those that do not answer are left out."""
    skip, limit, size = context.integer("skip"), context.integer("limit"), context.integer("batchSize", FIRST_BATCH)
    directions, by = _directions(context.document("sort")), "sortKey"
    if not directions and _is_near(context.document("filter")):
        directions, by = [1], "geoNearDistance"
    options = {k: v for k, v in context.options().items() if k not in _DONE_HERE}
    fields = {"find": context.collection, **options, **concern}
    fields |= {"limit": Int64(limit and skip + limit), "batchSize": Int64(skip + size)}
    if directions:
        fields["projection"] = {**context.document("projection"), "$sortKey": {"$meta": by}}
    merged = MergedCursor(context, directions, skip=skip, limit=limit, partial=partial)
    with merged.closed_on_failure():
        await merged.open(context, owners, fields, routing)
        return await merged.reply(context, "firstBatch", size)
