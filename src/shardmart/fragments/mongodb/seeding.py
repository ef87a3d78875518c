"""insert_random_data on MongoDB: the same shop as on the relational store, each document exactly once.

What a seeding that came to its end wrote and somebody deleted stays away, as on the relational store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from pymongo.database import Database
from pymongo.errors import BulkWriteError

from ..configuration import Configuration
from ..rows import Batch, Row, Seeding, Shop, new_rows
from .connection import Document, connect, database, one_line
from .shop import DUPLICATE_KEY, KEYS, document

CUSTOMERS_AT_A_TIME = 1000


def insert_random_data(
    configuration: Configuration, shop: Shop, *, check: bool = False, notice: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Write what is missing of `shop`, or with `check` only count it; returns lines such as "products: 12
    documents"."""
    written: dict[str, int] = defaultdict(int)
    client = connect(configuration)
    with one_line(), client:
        target = database(client)
        before = _remembered(target, shop.seeding)
        products = new_rows(shop.products(), "product_id", before)
        written["products"] += _write(target, "products", products, check=check)
        for number, batch in enumerate(shop.batches(CUSTOMERS_AT_A_TIME), 1):
            for collection, part in _documents(target, _new_of(batch, before)).items():
                written[collection] += _write(target, collection, part, check=check)
            if number % 10 == 0:
                notice(f"{number * CUSTOMERS_AT_A_TIME:,} customers on MongoDB")
        # Where apply has not made and sharded the collection, one made by writing to it would stay as it is.
        kept = "seedings" in target.list_collection_names(filter={"name": "seedings"})
        if kept and not check and shop.seeding not in before:
            done = asdict(shop.seeding)
            key = {"_id": "-".join(str(int(value)) for value in done.values())}
            target.seedings.update_one(key, {"$setOnInsert": done}, upsert=True)
    return [f"{collection}: {count} documents" for collection, count in written.items() if count]


def _remembered(target: Database[Document], wanted: Seeding) -> list[Seeding]:
    """The seedings of this seed, over the same bands, that are here whole."""
    query = {"seed": wanted.seed, "catch_all": wanted.catch_all}
    return [Seeding(**found) for found in target.seedings.find(query, {"_id": 0})]


def _new_of(batch: Batch, before: Sequence[Seeding]) -> Batch:
    orders = new_rows(batch.orders, "order_id", before)
    numbers = {order["order_id"] for order in orders}
    return Batch(
        new_rows(batch.customers, "customer_id", before),
        orders,
        *(
            [row for row in part if row["order_id"] in numbers]
            for part in (batch.items, batch.payments, batch.shipments)
        ),
    )


def _documents(target: Database[Document], batch: Batch) -> dict[str, list[Row]]:
    """The rows by collection: what belongs to a customer is where he lives by now."""
    keys = list({row["customer_id"] for row in (*batch.customers, *batch.orders)})
    homes = {customer["customer_id"]: customer["region"] for customer in batch.customers}
    homes |= {found["_id"]: found["region"] for found in target.customers.find({"_id": {"$in": keys}}, {"region": 1})}
    lines: dict[str, list[Row]] = defaultdict(list)
    for item in batch.items:
        lines[item["order_id"]].append({key: item[key] for key in ("product_id", "quantity", "unit_price_cents")})
    # Who was deleted gets no order that his seeding did not have.
    orders = [order for order in batch.orders if order["customer_id"] in homes]
    region = {order["order_id"]: homes[order["customer_id"]] for order in orders}
    return {
        "customers": batch.customers,
        "orders": [
            order | {"region": region[order["order_id"]], "items": lines[order["order_id"]]} for order in orders
        ],
        "payments": [row | {"region": region[row["order_id"]]} for row in batch.payments if row["order_id"] in region],
        "shipments": [
            row | {"region": region[row["order_id"]]} for row in batch.shipments if row["order_id"] in region
        ],
    }


def _write(target: Database[Document], collection: str, rows: Sequence[Row], *, check: bool) -> int:
    """Insert the rows whose key is nowhere yet, whatever shard it would be on."""
    key = KEYS[collection]
    present = {
        found["_id"] for found in target[collection].find({"_id": {"$in": [row[key] for row in rows]}}, {"_id": 1})
    }
    missing = [document(collection, row) for row in rows if row[key] not in present]
    if missing and not check:
        _insert(target, collection, missing)
    return len(missing)


def _insert(target: Database[Document], collection: str, documents: Iterable[Document]) -> None:
    try:
        target[collection].insert_many(documents, ordered=False)
    except BulkWriteError as error:  # another seeding at the same time wrote the very same
        if any(each["code"] != DUPLICATE_KEY for each in error.details["writeErrors"]):
            raise
