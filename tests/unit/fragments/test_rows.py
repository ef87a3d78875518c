"""Claims of fragments.rows: the loader's shop, whole and consistent without the products that no fragment holds."""

from __future__ import annotations

from decimal import Decimal

import pytest

from shardmart.fragments.money import band_of
from shardmart.fragments.rows import Batch, Shop
from shardmart.loader.generation.dataset import Counts, DataSet

REGIONS = ("APJ", "EMEA", "LATAM")
COUNTS = Counts(40, 4, 60)


def whole(shop: Shop, size: int) -> Batch:
    """All batches as one."""
    total = Batch()
    for batch in shop.batches(size):
        for name in ("customers", "orders", "items", "payments", "shipments"):
            getattr(total, name).extend(getattr(batch, name))
    return total


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_size_of_a_batch_changes_nothing(size: int) -> None:
    assert whole(Shop(1, COUNTS, REGIONS), size) == whole(Shop(1, COUNTS, REGIONS), 13)


def test_what_no_fragment_holds_is_left_out_and_named() -> None:
    shop = Shop(1, COUNTS, REGIONS)
    held = {row["product_id"] for row in shop.products()}
    assert shop.refused, "the data set has dear and cheap products"
    assert held.isdisjoint(shop.refused)
    assert len(held) + len(shop.refused) == COUNTS.products
    for row in shop.products():
        band_of(row["price_cents"])
    assert {row["product_id"] for row in whole(shop, 10).items} <= held


def test_with_the_catch_all_nothing_is_left_out() -> None:
    shop = Shop(1, COUNTS, REGIONS, catch_all=True)
    batch = whole(shop, 10)
    documents = list(DataSet(1, COUNTS, Decimal("1.0"), REGIONS).documents("orders", 0, COUNTS.orders))
    assert (shop.refused, shop.left_out) == ({}, 0)
    assert [row["order_id"] for row in batch.orders] == [str(document["_id"]) for document in documents]
    assert [row["total_cents"] for row in batch.orders] == [document["total_cents"] for document in documents]


def test_totals_payments_and_lines_of_every_order_agree() -> None:
    batch = whole(Shop(3, COUNTS, REGIONS), 10)
    lines: dict[str, int] = {}
    for item in batch.items:
        lines[item["order_id"]] = lines.get(item["order_id"], 0) + item["quantity"] * item["unit_price_cents"]
    assert {row["order_id"]: row["total_cents"] for row in batch.orders} == lines
    assert {row["order_id"]: row["amount_cents"] for row in batch.payments} == lines
    sent = {row["order_id"] for row in batch.shipments}
    assert sent == {row["order_id"] for row in batch.orders if row["status"] not in ("pending", "cancelled")}
