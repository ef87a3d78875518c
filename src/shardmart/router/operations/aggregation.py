"""aggregate and explain.

A shard member carries mongos's own aggregation code as `clusterAggregate`: it splits the pipeline, asks all shards
and merges, $lookup, $out and $merge included.  One member is asked to do that; which one matters only for speed.
"""

from __future__ import annotations

from typing import Any

from bson import Int64
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..routing.catalog import Routing
from .authorization import Need, pipeline_needs
from .change_streams import is_change_stream, open_stream
from .cluster_aggregation import names_another, on_member, pipeline_of, write_target
from .context import COMMANDS, Context, Reply, command
from .cursors import keep_cursor
from .send import ask, empty_cursor, until_fresh
from .targeting import owners_of, routing_of
from .transaction_aggregation import aggregate_in_transaction
from .views import as_aggregation, serves_views, with_fields


def _about_the_user_only(context: Context) -> None:
    """Make stages that show what the caller does show what the client does: members take the router for the caller."""
    pipeline = pipeline_of(context)
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
    return pipeline_needs(context.db, _collection(context), pipeline_of(context), bypass=bypass)


@command("aggregate", access=_needs, transaction=True, cancel=True)
@serves_views
async def aggregate(context: Context) -> Reply:
    """An aggregation pipeline."""
    context.service.counters["query"] += 1
    _about_the_user_only(context)
    collection = _collection(context)
    if not isinstance(context.head.get("cursor"), RawBSONDocument) and not context.head.get("explain"):
        raise RouterError(
            Code.FailedToParse, "The 'cursor' option is required, except for aggregate with the explain argument"
        )
    if is_change_stream(context):
        if context.in_transaction:
            raise RouterError(
                Code.OperationNotSupportedInTransaction, "$changeStream cannot be used in a multi-document transaction"
            )
        if not context.head.get("explain"):
            return await open_stream(context)
    if context.in_transaction:
        return await aggregate_in_transaction(context)
    concern = {} if context.head.get("explain") else await context.read_concern()
    if target := write_target(context):
        await context.service.catalog.create_database(target[0])
        concern |= await context.write_concern()

    async def attempt() -> Reply:
        if context.db == "config" or (context.db == "admin" and collection is not None):
            fields = {"aggregate": collection or 1, **context.options(), **concern}
            return keep_cursor(context, *await ask(context, "config", fields))
        first = pipeline_of(context)[:1]
        match = first[0].get("$match") if first else None
        if collection is None:
            shards = await context.service.catalog.load_shards()
            owners = sorted(shards)[:1]
            if not owners:
                return empty_cursor(f"{context.db}.$cmd.aggregate")
        else:
            routing = await routing_of(context, concern)
            if routing is None:
                return empty_cursor(context.namespace)
            owners = owners_of(context, routing, match)
            alone = len(owners) == 1 and write_target(context) is None and not names_another(pipeline_of(context))
            if not routing.sharded or alone:
                # One shard has it all.
                fields = {"aggregate": collection, **context.options(), **concern, **routing.versions(owners[0])}
                writes = write_target(context) is not None
                return keep_cursor(context, *await ask(context, owners[0], fields, write=writes))
        return await on_member(context, owners[0], concern)

    if collection is None:
        return await attempt()
    return await until_fresh(context, context.namespace, attempt)


def _explained(context: Context) -> Context:
    inner = context.head["explain"]
    if not isinstance(inner, RawBSONDocument):
        raise RouterError(Code.TypeMismatch, "BSON field 'explain.explain' must be a document")
    body = rawbson.encode({**rawbson.head(inner), "$db": context.db})
    return Context(context.service, context.client, wire.Message(0, 0, body))


def _explain_needs(context: Context) -> list[Need]:
    inner = _explained(context)
    found = COMMANDS.get(inner.name)
    if found is None:
        raise RouterError(Code.CommandNotFound, f"Explain failed due to unknown command: {inner.name}")
    return found.access(inner)


@command("explain", access=_explain_needs, cancel=True)
async def explain(context: Context) -> Reply:
    """The plans of every shard the command would go to."""
    inner = _explained(context)
    verbosity = context.head.get("verbosity", "allPlansExecution")
    if inner.name == "aggregate":
        fields = {**{k: v for k, v in inner.head.items() if k != "$db"}, "explain": True, "$db": context.db}
        return await aggregate(Context(context.service, context.client, wire.Message(0, 0, rawbson.encode(fields))))
    if inner.name not in ("find", "count", "distinct", "update", "delete", "findAndModify", "findandmodify"):
        raise RouterError(Code.IllegalOperation, f"command {inner.name} cannot be explained")

    async def attempt() -> Reply:
        routing = await routing_of(inner)
        if routing is None:
            return {"queryPlanner": {"winningPlan": {"stage": "EOF"}}, "ok": 1.0}
        return await _explain_on(context, inner, routing, verbosity)

    try:
        return await until_fresh(context, inner.namespace, attempt)
    except RouterError as error:
        if error.code != Code.CommandOnShardedViewNotSupportedOnMongod or inner.name not in (
            "find",
            "count",
            "distinct",
        ):
            raise
        fields = {k: v for k, v in as_aggregation(inner).head.items() if k != "$db"}
        return await aggregate(with_fields(inner, {**fields, "explain": True}))


async def _explain_on(context: Context, inner: Context, routing: Routing, verbosity: Any) -> Reply:
    query = inner.head.get("filter", inner.head.get("query"))
    if inner.name in ("update", "delete"):
        statements = inner.documents(inner.name + "s")
        query = rawbson.head(statements[0]).get("q") if statements else None
    owners = owners_of(inner, routing, query)
    own = {k: v for k, v in inner.head.items() if k != "$db"}
    plans: list[dict[str, Any]] = []
    statistics: list[dict[str, Any]] = []
    for shard in owners:
        asked = {"explain": own | routing.versions(shard), "verbosity": verbosity}
        member, answer = await ask(context, shard, asked)
        reply = rawbson.decode(answer.body)
        name = {"shardName": shard, "connectionString": member.address, "serverInfo": reply.get("serverInfo", {})}
        plans.append({**name, **reply.get("queryPlanner", {})})
        if "executionStats" in reply:
            statistics.append({"shardName": shard, **reply["executionStats"]})
    stage = "SINGLE_SHARD" if len(owners) == 1 else ("SHARD_MERGE_SORT" if "sort" in inner.head else "SHARD_MERGE")
    result: dict[str, Any] = {"queryPlanner": {"winningPlan": {"stage": stage, "shards": plans}}}
    if statistics:
        sums = {
            k: Int64(sum(int(s.get(k, 0)) for s in statistics))
            for k in ("nReturned", "totalKeysExamined", "totalDocsExamined")
        }
        slowest = max(int(s.get("executionTimeMillis", 0)) for s in statistics)
        stages = {"stage": stage, "shards": statistics}
        result["executionStats"] = {**sums, "executionTimeMillis": slowest, "executionStages": stages}
    return {**result, "ok": 1.0}
