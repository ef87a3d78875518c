"""What the shop can do, on either store, in the same words: products by price, customers by region, orders.

`relational.shop` and `mongodb.shop` do it; both refuse the same things with the same sentences, and the same tests
hold for both.  Prices come in as people write them and go out as cents.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from shardmart.errors import RefusedError

Row = dict[str, Any]
COUNTRY = re.compile("[A-Z]{2}")
"""As the CHECK of Customer says it."""


class Store(Protocol):
    """One of the two.  Every method that writes is one transaction; RefusedError where it is not done."""

    def close(self) -> None:
        """Give back its connections."""

    def create_product(self, product_id: str, name: str, category: str, price: object, stock: int) -> Row:
        """Put a new product into the fragment of its price.  PriceError for what is no price or in no fragment."""

    def product(self, product_id: str) -> Row | None:
        """A product, wherever it is."""

    def products_between(self, low: object, high: object) -> list[Row]:
        """The products with low <= price < high, by price, then by id: only the fragments of these prices are asked."""

    def change_price(self, product_id: str, price: object) -> Row:
        """Give a product another price; in another band it moves to that fragment, and is never in two or in none."""

    def delete_product(self, product_id: str) -> None:
        """Remove a product."""

    def create_customer(self, customer: Row) -> Row:
        """Add a customer in his region (the columns of Customer)."""

    def customer(self, region: str, customer_id: str) -> Row | None:
        """A customer of a region."""

    def rename_customer(self, region: str, customer_id: str, name: str) -> Row:
        """Give a customer another name."""

    def move_customer(self, region: str, customer_id: str, to: str) -> Row:
        """Move a customer with orders, payments and shipments to another region, all or nothing."""

    def delete_customer(self, region: str, customer_id: str) -> None:
        """Remove a customer who has no orders."""

    def place_order(self, region: str, customer_id: str, items: Mapping[str, int], method: str = "card") -> Row:
        """Order, lines, payment and shipment in the customer's region, and the stock where the products are, all or
        nothing.

        `items`: product id → pieces.  Returns the order.
        """

    def order(self, region: str, order_id: str) -> Row | None:
        """An order with `items`, `payments` and `shipments`."""

    def get_customers_detail_location(self, region: str | None = None, country: str | None = None) -> list[Row]:
        """Customers, orders and turnover of each city, of one region or country or of all."""

    def get_customers_detail_name(self, name: str, region: str | None = None) -> list[Row]:
        """The customers of this name, with address, orders and turnover."""

    def names(self, region: str | None, prefix: str) -> list[tuple[str, str]]:
        """(region, name) of the customers whose names begin so, by name; of one region, or of all when it is None."""


LARGEST = 2**31 - 1
"""Of pieces: what an integer of PostgreSQL holds."""
METHODS = ("card", "invoice", "wallet")


def check_product(product_id: str, name: str, category: str, stock: int) -> None:
    """RefusedError for what the nodes of PostgreSQL would refuse, so that both stores refuse it."""
    _check_texts("a product", {"product_id": product_id, "name": name, "category": category}, ("product_id", "name"))
    if not 0 <= stock <= LARGEST:
        raise RefusedError(f"a product has a stock of 0 to {LARGEST:,} pieces, found {stock}: nothing was changed")


def check_customer(customer: Mapping[str, object]) -> None:
    """The same of a customer, or of those of his columns that are given."""
    texts = {key: value for key, value in customer.items() if isinstance(value, str)}
    _check_texts("a customer", texts, ("customer_id", "customer_name"))
    if "country" in texts and not COUNTRY.fullmatch(texts["country"]):
        raise RefusedError(
            f"a customer's country is two capital letters, such as IT, found {texts['country']!r}: nothing was changed"
        )


def _check_texts(what: str, texts: Mapping[str, str], not_empty: Sequence[str]) -> None:
    for key, value in texts.items():
        if "\0" in value or (key in not_empty and not value):
            raise RefusedError(f"{what} has no {key} {value!r}: nothing was changed")


def check_order(items: Mapping[str, int], method: str) -> None:
    """RefusedError unless something is ordered, of each product at least one piece, and paid as one can pay."""
    if method not in METHODS:
        raise RefusedError(f"an order is paid by {', '.join(METHODS)}, found {method!r}: nothing was changed")
    check_items(items)


def check_items(items: Mapping[str, int]) -> None:
    """RefusedError unless something is ordered, and of each product at least one piece."""
    if not items or any(not 1 <= pieces <= LARGEST for pieces in items.values()):
        raise RefusedError(
            f"an order has products with at least one piece each, found {dict(items)}: nothing was changed"
        )


def missing_product(product_id: str) -> RefusedError:
    """There is no such product."""
    return RefusedError(f"no product {product_id!r}: nothing was changed")


def missing_customer(region: str, customer_id: str) -> RefusedError:
    """There is no such customer."""
    return RefusedError(f"no customer {customer_id!r} in region {region}: nothing was changed")


def taken(what: str, key: str) -> RefusedError:
    """The key is in use."""
    return RefusedError(f"{what} {key!r} is there already: nothing was changed")


def sold_out(product_id: str, wanted: int, left: int) -> RefusedError:
    """There are not enough pieces."""
    return RefusedError(f"product {product_id!r}: {wanted} wanted, {left} left: nothing was changed")


def has_orders(customer_id: str) -> RefusedError:
    """He cannot be deleted."""
    return RefusedError(f"customer {customer_id!r} has orders: nothing was changed")


def changed_meanwhile(what: str, key: str) -> RefusedError:
    """Somebody was quicker."""
    return RefusedError(f"{what} {key!r} was changed by somebody else at the same time: nothing was changed, try again")


def new_order(region: str, customer: Row, lines: Sequence[Row], method: str) -> dict[str, Any]:
    """The rows of a new order: "order", "items", "payment", "shipment"."""
    order_id = secrets.token_hex(12)
    part = {"order_id": order_id, "order_sequence_id": 1}
    # To the millisecond, as both stores keep it.
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    total = sum(line["quantity"] * line["unit_price_cents"] for line in lines)
    order = part | {"region": region, "customer_id": customer["customer_id"], "total_cents": total, "status": "paid"}
    payment = {"payment_id": f"pay-{order_id}"} | part | {"amount_cents": total, "method": method, "status": "paid"}
    address = {key: customer[key] for key in ("customer_id", "customer_name", "street", "postcode", "city", "country")}
    shipment = (
        {"shipment_id": f"shp-{order_id}-1"}
        | part
        | {"carrier": "DHL", "tracking_number": str(secrets.randbelow(10**10))}
    )
    return {
        "order": order | {"created_at": now},
        "items": [part | dict(line) for line in lines],
        "payment": payment | {"paid_at": now},
        "shipment": shipment | {"status": "packed", "shipped_at": None} | address,
    }
