"""Aggregations that a shard member carries out over all shards, by mongos's own code: `clusterAggregate`.

It splits the pipeline, asks all shards and merges, $lookup, $out and $merge included.  Which member is asked matters
only for speed.
"""

from __future__ import annotations

from typing import Any

from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import NOT_PRIMARY, Code, MemberUnreachableError, RouterError
from .context import Context, Reply
from .cursors import ClusterCursor
from .send import checked, cursor_id


def pipeline_of(context: Context) -> list[Any]:
    pipeline = context.head.get("pipeline")
    if not isinstance(pipeline, list) or not all(isinstance(stage, RawBSONDocument) for stage in pipeline):
        raise RouterError(Code.TypeMismatch, "'pipeline' option must be specified as an array")
    return pipeline


def write_target(context: Context) -> tuple[str, Any] | None:
    """(database, stage argument) of the $out or $merge that ends the pipeline; None when it only reads."""
    pipeline = pipeline_of(context)
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


async def on_member(context: Context, shard: str, concern: dict[str, Any]) -> Reply:
    service = context.service
    replica_set = await service.catalog.shard(shard)
    preference = context.read_preference()
    session = service.cursors.take_session()
    fields = {"clusterAggregate": context.head["aggregate"], **context.options(), **concern, **service.clock.gossip()}
    fields |= {"lsid": {"id": session}, "$db": context.db, **preference.document}
    writes = write_target(context) is not None
    kept = False
    try:
        for attempt in range(3):
            # The member that merges need not be one the read preference allows: it asks those itself.
            member = await (replica_set.primary() if writes else replica_set.readable(preference))
            try:
                reply = checked(await member.call(wire.command(fields)))
                break
            except MemberUnreachableError as error:
                replica_set.failed(member)
                if attempt == 2 or (writes and error.sent):
                    raise
            except RouterError as error:
                if error.code not in NOT_PRIMARY:
                    raise
                replica_set.failed(member)  # it stepped down with its connections open: the next one is asked
                if attempt == 2 or writes:
                    raise
        if identity := cursor_id(reply.body):
            cursor = rawbson.find(reply.body, frozenset({b"cursor"}))[b"cursor"]
            name = rawbson.value_of(reply.body, rawbson.find(reply.body, frozenset({b"ns"}), cursor[1])[b"ns"])
            service.cursors.add(ClusterCursor(context, member, identity, name, session))
            kept = True
        return reply.body
    finally:
        if not kept:
            service.cursors.release_session(session)
