"""aggregate inside a transaction.

`clusterAggregate` cannot take part in a transaction, so the router does here what it can do simply: one owner gets the
whole pipeline; with several owners, stages that look at one document at a time run on the shards, groups that add
up are grouped on both levels, and the rest runs over what was gathered, which has to fit one document.
"""

from __future__ import annotations

from typing import Any

from bson import Int64
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..routing.catalog import Routing
from .context import Context, Reply
from .cursors import MergedCursor, Part, keep_cursor
from .send import ask, checked, empty_cursor, everywhere, until_fresh
from .targeting import owners_of, routing_of

_PER_DOCUMENT = frozenset({
    "$match", "$project", "$addFields", "$set", "$unset", "$unwind", "$replaceRoot", "$replaceWith", "$redact",
})  # fmt: skip
_ELSEWHERE = frozenset({"$lookup", "$graphLookup", "$unionWith", "$out", "$merge", "$changeStream", "$facet"})
_ADDS_UP = {"$sum": "$sum", "$min": "$min", "$max": "$max", "$count": "$sum"}
_GATHER_BYTES = 15 * 1024 * 1024


async def aggregate_in_transaction(context: Context) -> Reply:
    """Serve aggregate; raises RouterError 263 for what the development router cannot do in a transaction."""
    stages = [rawbson.decode(stage) for stage in context.head["pipeline"]]
    if context.head["aggregate"] == 1:
        raise RouterError(
            Code.OperationNotSupportedInTransaction,
            "aggregate: 1 is not served inside a transaction by the development router",
        )

    async def attempt() -> Reply:
        routing = await routing_of(context)
        if routing is None:
            return empty_cursor(context.namespace)
        first = context.head["pipeline"][:1]
        owners = owners_of(context, routing, first[0].get("$match") if first else None)
        foreign = _ELSEWHERE & {name for stage in stages for name in stage}
        if foreign and (len(owners) > 1 or routing.sharded):
            raise RouterError(
                Code.OperationNotSupportedInTransaction,
                f"{', '.join(sorted(foreign))} on a sharded collection is not served inside a transaction",
            )
        if len(owners) == 1:
            fields = {"aggregate": context.collection, **context.options(), **routing.versions(owners[0])}
            return keep_cursor(context, *await ask(context, owners[0], fields))
        return await _over_several(context, routing, owners, stages)

    return await until_fresh(context, context.namespace, attempt)


def _adds_up(accumulator: Any) -> bool:
    return isinstance(accumulator, dict) and len(accumulator) == 1 and next(iter(accumulator)) in _ADDS_UP


def split(stages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(stages for the shards, stages for what they return)."""
    cut = 0
    while cut < len(stages) and next(iter(stages[cut]), "") in _PER_DOCUMENT:
        cut += 1
    shards, merge = stages[:cut], stages[cut:]
    if not merge:
        return shards, merge
    name, argument = next(iter(merge[0].items()), ("", None))
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


async def _over_several(context: Context, routing: Routing, owners: list[str], stages: list[dict[str, Any]]) -> Reply:
    for_shards, for_merge = split(stages)
    options = {k: v for k, v in context.options().items() if k not in ("pipeline", "cursor")}
    fields = {"aggregate": context.collection, "pipeline": for_shards, "cursor": {}, **options}
    answers = await everywhere(ask(context, shard, fields | routing.versions(shard)) for shard in owners)
    parts = [Part(member, reply.body, []) for member, reply in answers]
    merged = MergedCursor(context, context.namespace, parts, skip=0, limit=0)
    cursor = rawbson.decode(context.head["cursor"])
    size = int(cursor.get("batchSize", 101))
    if not for_merge:
        batch = await merged.batch(context, size)
        if not merged.exhausted:
            context.service.cursors.add(merged)
        identity = Int64(0 if merged.exhausted else merged.id)
        return {"cursor": {"id": identity, "ns": context.namespace, "firstBatch": batch}, "ok": 1.0}
    gathered: list[RawBSONDocument] = []
    total = 0
    while not merged.exhausted:
        batch = await merged.batch(context, 2**31)
        gathered += batch
        total += sum(len(rawbson.raw(document)) for document in batch)
        if total > _GATHER_BYTES:
            raise RouterError(
                Code.BSONObjectTooLarge,
                "this aggregation inside a transaction has to gather more than 15 MB; narrow its $match",
            )
    # `$documents` would turn strings that begin with a dollar into expressions: $literal keeps them as they are.
    source: dict[str, Any] = {"$documents": {"$literal": gathered} if gathered else []}
    command = {"aggregate": 1, "pipeline": [source, *for_merge], "cursor": {"batchSize": size}, **options}
    command |= {"readConcern": {"level": "local"}, "$db": context.db}
    replica_set = await context.service.catalog.shard(owners[0])
    member = await replica_set.primary()
    return keep_cursor(context, member, checked(await member.call(wire.command(command))), apart=True)
