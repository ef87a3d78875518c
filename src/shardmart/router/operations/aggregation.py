"""aggregate and explain.

A shard member carries mongos's own aggregation code as `clusterAggregate`: it splits the pipeline, asks all shards
and merges, $lookup, $out and $merge included.  One member is asked to do that; which one matters only for speed.
"""

from __future__ import annotations

from typing import Any

from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson
from ..protocol.errors import Code, RouterError
from . import several_shards
from .authorization import Need, pipeline_needs
from .change_streams import is_change_stream, open_stream
from .context import COMMANDS, Context, Reply, command
from .cursors import keep_cursor
from .send import ask, attempt_until_fresh, until_fresh
from .targeting import a_shard, owners_of, routing_of
from .views import as_aggregation, serves_views


def _about_the_user_only(context: Context) -> None:
    """Make stages that show what the caller does show what the client does: members take the router for the caller."""
    pipeline = context.array("pipeline")
    if not context.service.users.enabled or context.client.user is None or not pipeline:
        return
    stage, argument = next(iter(rawbson.decode(pipeline[0]).items()), ("", None))
    if not isinstance(argument, dict) or argument.get("allUsers"):
        return
    if stage == "$currentOp":
        own: list[Any] = [{stage: {**argument, "allUsers": True}}, {"$match": {"lsid.uid": context.client.digest}}]
        context.head["pipeline"] = [*map(_raw, own), *pipeline[1:]]
    elif stage == "$listSessions" and not argument.get("users"):
        user, database = context.client.user
        context.head["pipeline"] = [_raw({stage: {"users": [{"user": user, "db": database}]}}), *pipeline[1:]]


def _raw(stage: dict[str, Any]) -> RawBSONDocument:
    return RawBSONDocument(rawbson.encode(stage))


def _collection(context: Context) -> str | None:
    return None if context.head["aggregate"] == 1 else context.collection


def _needs(context: Context) -> list[Need]:
    bypass = bool(context.head.get("bypassDocumentValidation"))
    return pipeline_needs(context.db, _collection(context), context.array("pipeline"), bypass=bypass)


@command("aggregate", access=_needs, transaction=True, cancel=True)
@serves_views
@until_fresh
async def aggregate(context: Context) -> Reply:
    """An aggregation pipeline."""
    context.service.counters["query"] += 1
    _about_the_user_only(context)
    if is_change_stream(context) and not context.in_transaction and not context.head.get("explain"):
        return await open_stream(context)
    if context.in_transaction:
        return await several_shards.aggregate_in_transaction(context)
    concern = await several_shards.concerns(context)
    collection = _collection(context)
    fields = {"aggregate": collection or 1, **context.options(), **concern}
    if context.db == "config" or (context.db == "admin" and collection is not None):
        return keep_cursor(context, *await ask(context, "config", fields))
    if collection is None:
        return await several_shards.over_all_shards(context, await a_shard(context), concern)
    routing = await routing_of(context)
    pipeline = context.array("pipeline")
    owners = owners_of(context, routing, pipeline[0].get("$match") if pipeline else None)
    writes = several_shards.write_target(context) is not None
    alone = len(owners) == 1 and not context.of_snapshot and not writes and not several_shards.names_another(pipeline)
    if not routing.sharded or alone:
        return keep_cursor(context, *await ask(context, owners[0], fields | routing.versions(owners[0]), write=writes))
    return await several_shards.over_all_shards(context, owners[0], concern)


def _explained(context: Context) -> Context:
    inner = context.head["explain"]
    if not isinstance(inner, RawBSONDocument):
        raise RouterError(Code.TypeMismatch, "BSON field 'explain.explain' must be a document")
    return context.with_fields(rawbson.head(inner))


def _explain_needs(context: Context) -> list[Need]:
    inner = _explained(context)
    found = COMMANDS.get(inner.name)
    if found is None:
        raise RouterError(Code.CommandNotFound, f"Explain failed due to unknown command: {inner.name}")
    return found.access(inner)


@command("explain", access=_explain_needs, cancel=True)
async def explain(context: Context) -> Reply:
    """The plans of the shards a find or aggregate goes to; of the other commands that of one shard."""
    inner = _explained(context)
    verbosity = {"verbosity": context.head.get("verbosity", "allPlansExecution")}
    if inner.name == "aggregate":
        return await aggregate(inner.with_fields({**inner.head, "explain": True}))
    if inner.name == "find":
        explained = {"explain": {"clusterFind": inner.collection, **inner.options()}, **verbosity}
        return await several_shards.on_member(inner, explained, await a_shard(context))
    if inner.name not in ("count", "distinct", "update", "delete", "findAndModify", "findandmodify"):
        raise RouterError(Code.IllegalOperation, f"command {inner.name} cannot be explained")
    try:
        return await attempt_until_fresh(context, inner.namespace, lambda: _plan(inner, verbosity))
    except RouterError as error:
        if error.code != Code.CommandOnShardedViewNotSupportedOnMongod or inner.name not in ("count", "distinct"):
            raise
        return await aggregate(inner.with_fields({**as_aggregation(inner).head, "explain": True}))


async def _plan(context: Context, verbosity: dict[str, Any]) -> Reply:
    """The plan of one of the shards that have to be asked."""
    query = context.head.get("query")
    if context.name in ("update", "delete"):
        query = next((rawbson.head(s).get("q") for s in context.documents(f"{context.name}s")), None)
    routing = await routing_of(context)
    shard = owners_of(context, routing, query)[0]
    explained = {k: v for k, v in context.head.items() if k != "$db"} | routing.versions(shard)
    return (await ask(context, shard, {"explain": explained, **verbosity}))[1].body
