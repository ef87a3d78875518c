"""Reads of a view over a sharded collection: as an aggregation, since no member may run them as they came.

A member that holds such a view refuses a read with CommandOnShardedViewNotSupportedOnMongod (169) and says what
the view is.  The read becomes an aggregation on the view, which a member's `clusterAggregate` resolves and spreads.
Source: MongoDB 6.0, `asAggregationCommand` of find, count and distinct.
"""

from __future__ import annotations

import functools
from typing import Any

from bson.raw_bson import RawBSONDocument

from ..protocol.errors import Code, RouterError
from .context import COMMANDS, Context, Handler, Reply, as_document
from .cursors import shown_as
from .send import until_fresh
from .several_shards import over_all_shards

_TRANSLATED = ("filter", "query", "sort", "skip", "limit", "projection", "batchSize", "singleBatch", "key", "fields")
_NOT_ON_VIEWS = (
    "min", "max", "returnKey", "showRecordId", "tailable", "awaitData", "noCursorTimeout", "allowPartialResults",
    "$_requestResumeToken", "$_resumeAfter", "oplogReplay",
)  # fmt: skip


def as_aggregation(context: Context) -> Context:
    """The find, count, distinct or aggregate of `context` as an aggregate of the same view; RouterError 168."""
    if context.name == "aggregate":
        return context
    pipeline, cursor = {"find": _find, "count": _count, "distinct": _distinct}[context.name](context)
    fields = {"aggregate": context.collection, "pipeline": pipeline, "cursor": cursor}
    left_out = {context.name, *_TRANSLATED, *_NOT_ON_VIEWS}
    return context.with_fields(fields | {k: v for k, v in context.head.items() if k not in left_out})


def resolved(context: Context, view: dict[str, Any]) -> Context:
    """An aggregate of a view as one of the collection below it; `view` is what a member said of it."""
    database, _, collection = view["ns"].partition(".")
    fields = {**context.head, "aggregate": collection, "pipeline": [*view["pipeline"], *context.head["pipeline"]]}
    if view.get("collation"):
        fields["collation"] = view["collation"]
    return context.with_fields(fields, database)


Parts = tuple[list[Any], dict[str, Any]]  # pipeline, cursor options


def _find(context: Context) -> Parts:
    head = context.head
    for name in _NOT_ON_VIEWS:
        if head.get(name):
            raise RouterError(Code.InvalidPipelineOperator, f"Option {name} not supported in aggregation.")
    sort = head.get("sort")
    if isinstance(sort, RawBSONDocument) and "$natural" in sort:
        raise RouterError(Code.InvalidPipelineOperator, "Sort option $natural not supported in aggregation.")
    limit, size = context.integer("limit"), context.integer("batchSize", 101)
    if head.get("singleBatch") and not limit:
        limit = size
    stages = {"$match": head.get("filter"), "$sort": sort, "$skip": context.integer("skip"), "$limit": limit}
    stages["$project"] = head.get("projection")
    pipeline = [{name: value} for name, value in stages.items() if value]
    return pipeline, {"batchSize": max(size, limit) if head.get("singleBatch") else size}


def _count(context: Context) -> Parts:
    stages = {"$match": context.head.get("query"), "$skip": context.integer("skip")}
    pipeline: list[Any] = [{name: value} for name, value in stages.items() if value]
    if context.head.get("limit") is not None:  # 0 is refused, as one server refuses it on a view
        pipeline.append({"$limit": abs(context.integer("limit", negative=True))})
    return [*pipeline, {"$count": "count"}], {}


def _distinct(context: Context) -> Parts:
    key = context.head.get("key")
    if not isinstance(key, str) or not key:
        raise RouterError(Code.TypeMismatch, "BSON field 'distinct.key' must be a string")
    query = context.head.get("query")
    steps = key.split(".")
    paths = [".".join(steps[: i + 1]) for i in range(len(steps))]
    pipeline: list[Any] = [{"$match": query}] if query else []
    pipeline += [{"$unwind": {"path": f"${path}", "preserveNullAndEmptyArrays": True}} for path in paths]
    if len(paths) > 1:
        pipeline.append({"$match": {path: {"$type": "object"} for path in paths[:-1]}})
    return [*pipeline, {"$group": {"_id": None, "distinct": {"$addToSet": f"${key}"}}}], {}


async def on_view(context: Context, view: dict[str, Any]) -> Reply:
    """Serve a read of a view over a sharded collection, which a member described as `view`."""
    reply: Reply
    inner = as_aggregation(context)
    if context.in_transaction:
        reply = shown_as(await COMMANDS["aggregate"].handler(resolved(inner, view)), context.namespace)
        if cursor := context.service.cursors.open.get(int(reply["cursor"]["id"])):
            cursor.shown = context.namespace
    else:
        reply = await over_all_shards(inner, (await context.service.catalog.database(context.db)).primary)
    if context.name in ("find", "aggregate"):
        return reply
    found: dict[str, Any] = next(iter(as_document(reply)["cursor"]["firstBatch"]), {})
    if context.name == "count":
        return {"n": found.get("count", 0), "ok": 1.0}
    return {"values": found.get("distinct", []), "ok": 1.0}


def read(handler: Handler) -> Handler:
    """A handler of a read: counted once, run again when the router was stale, and of a view as an aggregation."""
    fresh = until_fresh(handler)

    @functools.wraps(handler)
    async def serve(context: Context) -> Reply:
        context.service.counters["query"] += context.name in ("find", "aggregate")
        try:
            return await fresh(context)
        except RouterError as error:
            if error.code != Code.CommandOnShardedViewNotSupportedOnMongod or "resolvedView" not in error.extra:
                raise
            return await on_view(context, error.extra["resolvedView"])

    return serve
