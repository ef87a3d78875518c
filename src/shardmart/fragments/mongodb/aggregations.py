"""The two aggregations of the reference system: customers in detail by their location, and by their name.

Each is a pipeline that people can paste into mongosh, and a function that runs it.
"""

from __future__ import annotations

import json
from typing import Any

from pymongo.database import Database

from shardmart.errors import BadUseError

from .connection import Document

Pipeline = list[Document]
EXAMPLE = (
    'write {"find": "products", "filter": {"price_cents": 1999}}, '
    'or {"aggregate": "customers", "pipeline": [{"$match": {"region": "APJ"}}]}'
)

WITH_ORDERS: Pipeline = [
    {
        "$lookup": {
            "from": "orders",
            "let": {"region": "$region", "customer": "$_id"},
            "pipeline": [
                {
                    "$match": {
                        "$expr": {"$and": [{"$eq": ["$region", "$$region"]}, {"$eq": ["$customer_id", "$$customer"]}]}
                    }
                },
                {"$project": {"total_cents": 1}},
            ],
            "as": "bought",
        }
    },
    {"$set": {"orders": {"$size": "$bought"}, "spent_cents": {"$sum": "$bought.total_cents"}}},
]
"""How many orders each customer has and what they cost; orders lie on the customer's shard."""


def customers_detail_location(region: str | None = None, country: str | None = None) -> Pipeline:
    """The pipeline of `get_customers_detail_location`."""
    match = {key: value for key, value in (("region", region), ("country", country)) if value is not None}
    return [
        {"$match": match},
        *WITH_ORDERS,
        {
            "$group": {
                "_id": {"region": "$region", "country": "$country", "city": "$city"},
                "customers": {"$sum": 1},
                "orders": {"$sum": "$orders"},
                "spent_cents": {"$sum": "$spent_cents"},
            }
        },
        {"$sort": {"_id.region": 1, "_id.country": 1, "_id.city": 1}},
        {"$replaceWith": {"$mergeObjects": ["$_id", {"$unsetField": {"field": "_id", "input": "$$ROOT"}}]}},
    ]


def customers_detail_name(name: str, region: str | None = None) -> Pipeline:
    """The pipeline of `get_customers_detail_name`."""
    match: Document = {"customer_name": name} | ({"region": region} if region else {})
    return [
        {"$match": match},
        *WITH_ORDERS,
        {"$project": {"_id": 0, "customer_id": "$_id", "region": 1, "customer_name": 1, "email": 1, "street": 1,
                      "postcode": 1, "city": 1, "country": 1, "orders": 1, "spent_cents": 1}},
        {"$sort": {"region": 1, "customer_id": 1}},
    ]  # fmt: skip


def get_customers_detail_location(
    shop: Database[Document], region: str | None = None, country: str | None = None
) -> list[Document]:
    """Customers, orders and turnover of each city, of one region or country or of all.  With a region it is
    targeted."""
    return list(shop.customers.aggregate(customers_detail_location(region, country)))


def get_customers_detail_name(shop: Database[Document], name: str, region: str | None = None) -> list[Document]:
    """The customers of this name, with address, orders and turnover.  Without a region every shard is asked."""
    return list(shop.customers.aggregate(customers_detail_name(name, region)))


def parse(query: str) -> tuple[str, Pipeline | Document]:
    """The collection and the filter or pipeline of a find or an aggregate, written as its command's JSON.
    BadUseError for anything else."""
    try:
        command = json.loads(query)
    except ValueError as error:
        raise BadUseError(f"{query!r} is not JSON: {error}; {EXAMPLE}") from None
    if isinstance(command, dict):
        filtered: Any = command.get("filter", {})
        pipeline: Any = command.get("pipeline")
        if command.keys() <= {"find", "filter"} and isinstance(command.get("find"), str) and isinstance(filtered, dict):
            return command["find"], filtered
        stages = isinstance(pipeline, list) and all(isinstance(stage, dict) for stage in pipeline)
        if command.keys() == {"aggregate", "pipeline"} and isinstance(command["aggregate"], str) and stages:
            return command["aggregate"], pipeline
    raise BadUseError(f"{query!r} is neither a find nor an aggregate; {EXAMPLE}")


def shards_of(shop: Database[Document], collection: str, pipeline_or_query: Pipeline | Document) -> set[str]:
    """The shards that an aggregation or a find asks, as `explain` says."""
    command: Document = (
        {"aggregate": collection, "pipeline": pipeline_or_query, "cursor": {}}
        if isinstance(pipeline_or_query, list)
        else {"find": collection, "filter": pipeline_or_query}
    )
    said: Document = shop.command({"explain": command, "verbosity": "queryPlanner"})
    if "shards" in said:
        return set(said["shards"])
    if isinstance(pipeline_or_query, list):  # one shard answers the whole of it, and the answer does not name it
        first = pipeline_or_query[0] if pipeline_or_query else {}
        return shards_of(shop, collection, first.get("$match", {}))
    return {str(shard["shardName"]) for shard in _shards(said)}


def _shards(said: Any) -> list[Document]:
    plan = said.get("queryPlanner", {}).get("winningPlan", {})
    found: list[Document] = plan.get("shards", [])
    return found
