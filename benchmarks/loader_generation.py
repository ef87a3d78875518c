"""How fast documents are made on one core, beside naive Faker (one Faker call per field), and what Faker costs.

    python benchmarks/loader_generation.py

Prints Markdown. Rates are per second of this process's own CPU time, so that they mean something on a busy machine;
every figure is measured in this run.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import bson
import command_line
from faker import Faker

from shardmart.declare import data_model
from shardmart.loader.generation import pools
from shardmart.loader.generation.dataset import Counts, DataSet

SECONDS = 3.0
STATUSES = ("pending", "paid", "shipped", "delivered")
FIELDS = ("name", "street_address", "city", "postcode", "email", "date_time_between", "random_int", "random_element")


def rate(make: Callable[[], Iterator[Any]], seconds: float = SECONDS) -> float:
    """Items of `make()` per second of CPU time, over about `seconds`."""
    items, count = make(), 0
    started = time.process_time()
    while (elapsed := time.process_time() - started) < seconds:
        for _ in range(100):
            next(items)
        count += 100
    return count / elapsed


def naive_orders() -> Iterator[dict[str, Any]]:
    """Orders of the same shape, one Faker call per field."""
    fake = Faker("de_DE")
    while True:
        items = [
            {
                "product_id": fake.random_int(0, 999),
                "quantity": fake.random_int(1, 3),
                "unit_price_cents": fake.random_int(100, 90_000),
            }
            for _ in range(fake.random_int(1, 3))
        ]
        yield {
            "_id": bson.ObjectId(),
            "region": fake.random_element(("APJ", "EMEA", "LATAM")),
            "user_id": fake.random_int(0, 99_999),
            "items": items,
            "total_cents": sum(item["quantity"] * item["unit_price_cents"] for item in items),
            "status": fake.random_element(STATUSES),
            "created_at": fake.date_time_between("-2y"),
        }


def naive_users() -> Iterator[dict[str, Any]]:
    """Users of the same shape, one Faker call per field."""
    fake = Faker("de_DE")
    while True:
        yield {
            "_id": bson.ObjectId(),
            "region": fake.random_element(("APJ", "EMEA", "LATAM")),
            "name": fake.name(),
            "email": fake.email(),
            "address": {
                "street": fake.street_address(),
                "postcode": fake.postcode(),
                "city": fake.city(),
                "country": "DE",
            },
            "created_at": fake.date_time_between("-2y"),
        }


def calls(field: str) -> Iterator[Any]:
    """Values of one Faker field."""
    draw = getattr(Faker("de_DE"), field)
    while True:
        yield draw()


def main() -> None:
    """Measure and print."""
    command_line.parser(__doc__).parse_args()
    million = DataSet(1, Counts(1_000_000, 10, 1000), Decimal(1), data_model.load().regions)

    def ours(collection: str) -> Callable[[], Iterator[Any]]:
        return lambda: million.documents(collection, 0, million.counts.of(collection))

    def encoded() -> Iterator[bytes]:
        return map(bson.encode, million.documents("orders", 0, million.counts.orders))

    orders, users = rate(ours("orders")), rate(ours("users"))
    naive_order, naive_user = rate(naive_orders), rate(naive_users)
    print(f"One core, Python {platform.python_version()}, pools of Faker {pools.load().faker_version}\n")
    print("| documents per second | loader | naive Faker | times |")
    print("|---|---:|---:|---:|")
    print(f"| orders | {orders:,.0f} | {naive_order:,.0f} | {orders / naive_order:.1f} |")
    print(f"| orders, encoded as BSON | {rate(encoded):,.0f} | | |")
    print(f"| users | {users:,.0f} | {naive_user:,.0f} | {users / naive_user:.1f} |\n")
    print("| one call of Faker (de_DE) | µs |")
    print("|---|---:|")
    for field in FIELDS:
        print(f"| {field} | {1e6 / rate(lambda field=field: calls(field), 0.5):.1f} |")


if __name__ == "__main__":
    main()
