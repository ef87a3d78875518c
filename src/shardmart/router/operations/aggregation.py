"""aggregate and explain: which of them one shard does, and which go over several (`several_shards`)."""

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
from .send import ask, attempt_until_fresh
from .targeting import a_shard, first_heard, owners_of, routing_of
from .views import as_aggregation, read

_EXPLAINED = ("aggregate", "find", "count", "distinct", "update", "delete", "findAndModify", "findandmodify")


def _about_the_user_only(context: Context) -> Context:
    """With stages that show what the client does, not what the caller does: members take the router for the caller."""
    user = context.client.user
    stage, argument = next((pair for first in context.stages[:1] for pair in first.items()), ("", None))
    if user is None or not isinstance(argument, dict) or argument.get("allUsers"):
        return context
    if stage == "$currentOp":
        own: list[Any] = [{stage: {**argument, "allUsers": True}}, {"$match": {"lsid.uid": context.client.digest}}]
    elif stage == "$listSessions" and not argument.get("users"):
        own = [{stage: {"users": [{"user": user[0], "db": user[1]}]}}]
    else:
        return context
    return context.with_fields({**context.head, "pipeline": [*own, *context.stages[1:]]})


def _needs(context: Context) -> list[Need]:
    bypass = bool(context.head.get("bypassDocumentValidation"))
    collection = None if context.head["aggregate"] == 1 else context.collection
    return pipeline_needs(context.db, collection, context.stages, bypass=bypass)


@command("aggregate", access=_needs, transaction=True, cancel=True)
@read
async def aggregate(context: Context) -> Reply:
    """An aggregation pipeline."""
    context = _about_the_user_only(context)
    streams = is_change_stream(context)
    if streams and not context.in_transaction and not context.head.get("explain"):
        return await open_stream(context)
    if context.head["aggregate"] == 1:
        return await several_shards.over_all_shards(context, await a_shard(context))
    routing = await routing_of(context)
    first: Any = next(iter(context.array("pipeline")), {})
    owners = owners_of(context, routing, first.get("$match"))
    writes = several_shards.write_target(context) is not None
    everywhere = writes or streams or context.of_snapshot or several_shards.names_another(context.stages)
    if routing.sharded and (everywhere or len(owners) > 1):
        if context.in_transaction and not everywhere:
            return await several_shards.aggregate_in_transaction(context, routing, owners)
        return await several_shards.over_all_shards(context, owners[0])
    fields = {"aggregate": context.collection, **context.options(), **await several_shards.concerns(context)}
    return keep_cursor(context, *await ask(context, owners[0], fields | routing.versions(owners[0]), write=writes))


def _explained(context: Context) -> Context:
    if not isinstance(context.head["explain"], RawBSONDocument):
        raise RouterError(Code.TypeMismatch, "BSON field 'explain.explain' must be a document")
    inner = context.with_fields(rawbson.head(context.head["explain"]))
    if inner.name not in _EXPLAINED:
        raise RouterError(Code.CommandNotFound, f"Explain failed due to unknown command: {inner.name}")
    return inner


def _explain_needs(context: Context) -> list[Need]:
    inner = _explained(context)
    return COMMANDS[inner.name].access(inner)


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
    shard = first_heard(context, owners_of(context, routing, query))
    explained = {k: v for k, v in context.head.items() if k != "$db"} | routing.versions(shard)
    return (await ask(context, shard, {"explain": explained, **verbosity}))[1].body
