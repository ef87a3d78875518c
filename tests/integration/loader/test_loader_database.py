"""The database itself refuses bad documents from anybody, and its indexes serve the queries of the shop."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson import ObjectId
from loader_shop import Shop
from pymongo.errors import WriteError

from shardmart.cluster.protocol.codes import DOCUMENT_VALIDATION_FAILURE
from shardmart.loader.generation import identity

Document = dict[str, Any]


@pytest.fixture(scope="module")
def loaded(one_member_shop: Shop) -> Shop:
    one_member_shop.clear()
    one_member_shop.load("--users", "300", "--orders-per-user", "4", "--products", "60")
    return one_member_shop


def without(path: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        *parents, field = path.split(".")
        for parent in parents:
            document = document[int(parent)] if isinstance(document, list) else document[parent]
        del document[field]

    return change


def having(path: str, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        *parents, field = path.split(".")
        for parent in parents:
            document = document[int(parent)] if isinstance(document, list) else document[parent]
        document[field] = value

    return change


BAD: list[tuple[str, Callable[[Document], None]]] = [
    *(("users", without(f)) for f in ("name", "email", "address", "created_at", "address.city")),
    ("users", having("region", "MARS")),
    ("users", having("email", "nobody")),
    ("users", having("name", "")),
    ("users", having("address.country", "Peru")),
    ("users", having("created_at", "2024-01-01")),
    *(("products", without(f)) for f in ("name", "category", "price_cents", "stock")),
    ("products", having("price_cents", 9.99)),
    ("products", having("price_cents", 0)),
    ("products", having("stock", -1)),
    *(("orders", without(f)) for f in ("items", "total_cents", "status", "created_at", "items.0.quantity")),
    ("orders", having("region", "MARS")),
    ("orders", having("user_id", None)),
    ("orders", having("items", [])),
    ("orders", having("items.0.quantity", 0)),
    ("orders", having("items.0.unit_price_cents", 1.5)),
    ("orders", having("items.0.product_id", None)),
    ("orders", having("total_cents", -1)),
    ("orders", having("total_cents", 12.5)),
    ("orders", having("status", "lost")),
    ("orders", having("created_at", 1)),
]


@pytest.mark.parametrize(("collection", "change"), BAD)
def test_bad_documents_are_refused(loaded: Shop, collection: str, change: Callable[[Document], None]) -> None:
    good = loaded.database[collection].find_one()
    assert good
    bad = copy.deepcopy(good) | {"_id": ObjectId()}
    change(bad)
    with pytest.raises(WriteError) as refused:
        loaded.database[collection].insert_one(bad)
    assert refused.value.code == DOCUMENT_VALIDATION_FAILURE


@pytest.mark.parametrize("collection", ["users", "products", "orders"])
def test_good_documents_are_taken(loaded: Shop, collection: str) -> None:
    good = loaded.database[collection].find_one()
    assert good
    identifier = loaded.database[collection].insert_one(good | {"_id": ObjectId()}).inserted_id
    assert loaded.database[collection].delete_one({"_id": identifier}).deleted_count == 1


def test_an_update_cannot_make_a_bad_document_either(loaded: Shop) -> None:
    with pytest.raises(WriteError) as refused:
        loaded.database["products"].update_one({"_id": identity.product_id(1, 0)}, {"$set": {"stock": -5}})
    assert refused.value.code == DOCUMENT_VALIDATION_FAILURE


def plans(explained: Any) -> Iterator[Document]:
    """Every stage of the winning plans in an explain output, of one shard or several."""
    if isinstance(explained, dict):
        if "stage" in explained:
            yield explained
        for key, value in explained.items():
            if key != "rejectedPlans":
                yield from plans(value)
    elif isinstance(explained, list):
        for value in explained:
            yield from plans(value)


ONE_ORDER = {"region": "APJ", "user_id": identity.user_id(1, 0)}
SINCE = datetime.datetime(2025, 6, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("collection", "query", "sort", "index"),
    [
        ("orders", {"user_id": identity.user_id(1, 0)}, [("created_at", -1)], "user_date"),
        ("orders", {"user_id": identity.user_id(1, 0), "created_at": {"$gte": SINCE}}, None, "user_date"),
        ("orders", {"status": "pending"}, None, "status_date"),
        ("orders", {"status": "shipped"}, [("created_at", -1)], "status_date"),
        ("users", {"email": "somebody@shop.example"}, None, "email"),
        ("products", {"category": "Books"}, [("price_cents", 1)], "category_price"),
    ],
)
def test_a_query_of_the_shop_is_answered_from_its_index(
    loaded: Shop, collection: str, query: Document, sort: list[tuple[str, int]] | None, index: str
) -> None:
    cursor = loaded.database[collection].find(query)
    stages = list(plans((cursor.sort(sort) if sort else cursor).explain()["queryPlanner"]))
    assert {stage.get("indexName") for stage in stages if stage["stage"] == "IXSCAN"} == {index}
    assert not {"COLLSCAN", "SORT"} & {stage["stage"] for stage in stages}


def test_orders_of_a_user_whose_region_is_known_are_asked_of_one_shard(loaded: Shop) -> None:
    user = loaded.database["users"].find_one({"_id": identity.user_id(1, 0)})
    assert user
    query = {"region": user["region"], "user_id": user["_id"]}
    plan = loaded.database["orders"].find(query).sort("created_at", -1).explain()["queryPlanner"]["winningPlan"]
    assert len(plan["shards"]) == 1
    assert {s.get("indexName") for s in plans(plan) if s["stage"] == "IXSCAN"} == {"user_date"}
