"""Finds and aggregations that a shard member carries out over all shards, by mongos's own code: `clusterFind` and
`clusterAggregate`.

They ask all shards and merge, sorts, $near, $lookup, $out and $merge included.  Which member does it matters only for
speed.  None of them knows a client's transaction: mongod 6.0.5 refuses.
"""

from __future__ import annotations

from typing import Any

from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..routing.member import Member
from .context import Context, Reply
from .cursors import ClusterCursor
from .send import Answer, cursor_id


def write_target(context: Context) -> tuple[str, Any] | None:
    """(database, stage argument) of the $out or $merge that ends an aggregate; None when the command only reads."""
    pipeline = context.array("pipeline") if context.name == "aggregate" else []
    stage = rawbson.decode(pipeline[-1]) if pipeline else {}
    argument = stage.get("$out", stage.get("$merge"))
    if argument is None:
        return None
    into = argument.get("into", argument) if isinstance(argument, dict) else argument
    return (str(into.get("db", context.db)) if isinstance(into, dict) else context.db), argument


def names_another(pipeline: list[Any]) -> bool:
    """Whether a stage reads another collection.

    If that is sharded, a member that was asked for its own part alone cannot read it ("getOwnershipFilter called by
    operation that doesn't specify shard version", mongod 6.0.5).
    """
    return isinstance(pipeline, list) and any(
        name in ("$lookup", "$graphLookup", "$unionWith")
        or (name == "$facet" and isinstance(inner, dict) and any(map(names_another, inner.values())))
        for stage in map(_decoded, pipeline)
        for name, inner in stage.items()
    )


def _decoded(stage: Any) -> dict[str, Any]:
    decoded = rawbson.decode(stage) if isinstance(stage, RawBSONDocument) else stage
    return decoded if isinstance(decoded, dict) else {}


async def concerns(context: Context) -> dict[str, Any]:
    """The read concern of a find or aggregate; for one that writes the write concern too, and its database is made."""
    concern = {} if context.head.get("explain") else context.read_concern()
    if target := write_target(context):
        await context.service.catalog.create_database(target[0])
        concern |= context.write_concern()
    return concern


async def on_member(context: Context, command: dict[str, Any], shard: str) -> Reply:
    """Have a member of `shard` run `command`, a `cluster...` one; its cursor is kept.  Raises RouterError."""
    service = context.service
    replica_set = await service.catalog.shard(shard)
    session = service.cursors.take_session()
    fields = {**command, **service.clock.gossip(), "lsid": {"id": session}, "$db": context.db}
    fields |= {k: context.head[k] for k in ("$readPreference",) if k in context.head}
    data = wire.command(fields)

    async def merge(member: Member) -> Answer:
        return member, await member.call(data)

    kept = False
    try:
        if write_target(context):
            member, reply = await replica_set.call_primary(data, retryable=False)
        else:
            member, reply = await replica_set.on_readable(context.read_preference(), merge)
        if cursor_id(wire.checked(reply).body):
            service.cursors.add(ClusterCursor(context, member, reply.body, session))
            kept = True
        return reply.body
    finally:
        if not kept:
            service.cursors.release_session(session)


async def over_all_shards(context: Context, shard: str, concern: dict[str, Any]) -> Reply:
    """A find or aggregate over all shards, merged by a member of `shard`."""
    name = f"cluster{context.name.capitalize()}"
    return await on_member(context, {name: context.head[context.name], **context.options(), **concern}, shard)
