"""The two aggregations of the reference system: customers in detail by their location, and by their name.

Each is a pipeline that people can paste into mongosh, and a function that runs it.
"""

from __future__ import annotations

from typing import Any

from pymongo.database import Database

from .connection import Document

Pipeline = list[Document]

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
        return shards_of(shop, collection, pipeline_or_query[0].get("$match", {}))
    return {str(shard["shardName"]) for shard in _shards(said)}


def _shards(said: Any) -> list[Document]:
    plan = said.get("queryPlanner", {}).get("winningPlan", {})
    found: list[Document] = plan.get("shards", [])
    return found
