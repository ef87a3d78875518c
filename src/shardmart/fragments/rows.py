"""The shop's rows, from the data set of the loader: the same customers, products and orders for both stores.

Payments and shipments, which the loader does not know, are drawn the same way: a pure function of seed and position.
It never talks to a server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from shardmart.loader.generation import draws, identity
from shardmart.loader.generation.dataset import Counts, DataSet

from .money import PriceError, band_of

Row = dict[str, Any]

CARRIERS = ("DHL", "FedEx", "Japan Post", "UPS", "Correios")
METHODS = ("card", "card", "card", "wallet", "invoice")
PAYMENT_OF = {"pending": "due", "cancelled": "void", "returned": "refunded"}
"""Status of an order to that of its payment; every other one is paid."""
SHIPMENT_OF = {"paid": "packed", "shipped": "shipped", "delivered": "delivered", "returned": "returned"}
"""Orders that are not here have no shipment yet."""
FIRST_PART = 1
"""The order_sequence_id of a seeded order: it is delivered and paid in one part."""


@dataclass(frozen=True)
class Seeding:
    """A seeding that came to its end: what it wrote and is gone now, somebody deleted."""

    seed: int
    catch_all: bool
    users: int
    orders_per_user: int
    products: int

    def wrote(self, identifier: str) -> bool:
        """Whether this customer, product or order was of it."""
        kind, seed, position, number = identity.parse(ObjectId(identifier))
        inside = {
            identity.KINDS["users"]: position < self.users,
            identity.KINDS["products"]: position < self.products,
            identity.KINDS["orders"]: position < self.users and number < self.orders_per_user,
        }
        return seed == self.seed and inside[kind]


def new_rows(part: Iterable[Row], key: str, seedings: Sequence[Seeding]) -> list[Row]:
    """The rows that none of these seedings wrote."""
    return [row for row in part if not any(seeding.wrote(row[key]) for seeding in seedings)]


@dataclass
class Batch:
    """Some customers with all that is theirs."""

    customers: list[Row] = field(default_factory=list)
    orders: list[Row] = field(default_factory=list)
    items: list[Row] = field(default_factory=list)
    payments: list[Row] = field(default_factory=list)
    shipments: list[Row] = field(default_factory=list)


class Shop:
    """The shop of one seed.  What no price fragment holds is left out, and counted by name."""

    def __init__(self, seed: int, counts: Counts, regions: tuple[str, ...], *, catch_all: bool = False) -> None:
        self.seed, self.counts, self._catch_all = seed, counts, catch_all
        self._dataset = DataSet(seed, counts, Decimal("1.0"), regions)
        self._draw = draws.stream(seed, "shipments", 6)
        self.refused: dict[str, str] = {}
        """Products that no fragment holds: id → the reason, with name and price."""
        self.left_out = 0
        """Lines of orders that bought one of them."""
        self._products = list(self._held())

    @property
    def seeding(self) -> Seeding:
        """What a store remembers of it when it has all of it."""
        counts = self.counts
        return Seeding(self.seed, self._catch_all, counts.users, counts.orders_per_user, counts.products)

    def products(self) -> list[Row]:
        """Every product that a fragment holds."""
        return self._products

    def _held(self) -> Iterator[Row]:
        for document in self._dataset.documents("products", 0, self.counts.products):
            product = str(document["_id"])
            try:
                band_of(document["price_cents"], document["name"], catch_all=self._catch_all)
            except PriceError as reason:
                self.refused[product] = str(reason)
                continue
            yield {"product_id": product} | {key: document[key] for key in ("name", "category", "price_cents", "stock")}

    def batches(self, size: int) -> Iterator[Batch]:
        """The customers, `size` at a time, with their orders."""
        per_user = self.counts.orders_per_user
        for start in range(0, self.counts.users, size):
            stop = min(start + size, self.counts.users)
            batch = Batch(customers=[_customer(d) for d in self._dataset.documents("users", start, stop)])
            owners = {customer["customer_id"]: customer for customer in batch.customers}
            for document in self._dataset.documents("orders", start * per_user, stop * per_user):
                self._add(batch, document, owners[str(document["user_id"])])
            yield batch

    def _add(self, batch: Batch, document: Row, owner: Row) -> None:
        """An order with its lines, payment and shipment; without the lines of products that are left out."""
        lines = [item for item in document["items"] if str(item["product_id"]) not in self.refused]
        self.left_out += len(document["items"]) - len(lines)
        if not lines:
            return
        _, _, user, number = identity.parse(document["_id"])
        words = self._draw(user, number)
        order, status = str(document["_id"]), document["status"]
        part = {"order_id": order, "order_sequence_id": FIRST_PART}
        created = moment(document["created_at"])
        total = sum(item["quantity"] * item["unit_price_cents"] for item in lines)
        batch.orders.append(
            part
            | {"region": owner["region"], "customer_id": owner["customer_id"], "total_cents": total, "status": status}
            | {"created_at": created}
        )
        batch.items += [
            part
            | {"product_id": str(item["product_id"])}
            | {key: item[key] for key in ("quantity", "unit_price_cents")}
            for item in lines
        ]
        payment = PAYMENT_OF.get(status, "paid")
        batch.payments.append(
            {"payment_id": f"pay-{order}"}
            | part
            | {"amount_cents": total, "method": draws.choice(METHODS, words[0]), "status": payment}
            | {"paid_at": created + timedelta(minutes=draws.between(1, 60, words[1])) if payment != "due" else None}
        )
        if status in SHIPMENT_OF:
            batch.shipments.append(shipment(order, part, owner, SHIPMENT_OF[status], created, words))


def shipment(order: str, part: Row, owner: Row, status: str, created: datetime, words: tuple[int, ...]) -> Row:
    """The shipment of one part of an order to its customer, as he was then."""
    return (
        {"shipment_id": f"shp-{order}-{part['order_sequence_id']}"}
        | part
        | {"carrier": draws.choice(CARRIERS, words[2]), "tracking_number": f"{words[3]:010d}", "status": status}
        | {"shipped_at": created + timedelta(hours=draws.between(4, 72, words[4])) if status != "packed" else None}
        | {key: owner[key] for key in ("customer_id", "customer_name", "street", "postcode", "city", "country")}
    )


def _customer(document: Row) -> Row:
    address = document["address"]
    return {
        "region": document["region"],
        "customer_id": str(document["_id"]),
        "customer_name": document["name"],
        "email": document["email"],
        **{key: address[key] for key in ("street", "postcode", "city", "country")},
        "created_at": moment(document["created_at"]),
    }


def moment(value: DatetimeMS) -> datetime:
    """A time of the data set, exact to the millisecond, as both stores keep it."""
    return datetime.fromtimestamp(int(value) // 1000, UTC).replace(microsecond=int(value) % 1000 * 1000)
