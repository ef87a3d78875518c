"""Orders: placing, changing, cancelling, and what inventory and payment make of them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from ..domain import events
from ..domain.errors import InvalidError, NotFoundError, VersionError
from ..domain.events import Event
from ..domain.identifiers import Customer, OrderId
from ..domain.order import Line, Order, merge
from ..ports import Lane, Store, Unit
from ..saga.handling import Soon
from ..telemetry import TRACE

CUSTOMER_SECONDS, PRICE_SECONDS = 60.0, 2.0
"""For how long an instance believes that a customer is there, and what a product costs."""
REMEMBERED = 20_000
K = TypeVar("K")
V = TypeVar("V")


def _bounded(remembered: dict[K, V]) -> dict[K, V]:
    if len(remembered) >= REMEMBERED:
        remembered.clear()
    return remembered


def new_order_id() -> str:
    """An id of ObjectId's form: the time in seconds and eight random bytes, so that no two instances make the same."""
    return f"{int(time.time()):08x}{secrets.token_hex(8)}"


class Orders:
    """The use cases."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._customers: dict[Customer, float] = {}
        self._prices: dict[str, tuple[float, Mapping[str, Any]]] = {}

    async def priced(self, customer: Customer, wanted: list[tuple[str, int]]) -> list[Line]:
        """Lines at today's prices; InvalidError for an unknown product, NotFoundError for an unknown customer."""
        pieces = merge(wanted)
        is_there, products = await asyncio.gather(self.is_there(customer), self._products(list(pieces)))
        if not is_there:
            raise NotFoundError("there is no such customer")
        if unknown := [product for product in pieces if product not in products]:
            raise InvalidError(f"there is no product {unknown[0][:80]!r}")
        return [Line(product, quantity, products[product]["price_cents"]) for product, quantity in pieces.items()]

    async def is_there(self, customer: Customer) -> bool:
        """Whether there is such a customer, as far as this instance has seen lately."""
        now = time.monotonic()
        if self._customers.get(customer, 0.0) < now:
            if await self._store.customer(customer.region, customer.user) is None:
                return False
            _bounded(self._customers)[customer] = now + CUSTOMER_SECONDS
        return True

    async def _products(self, wanted: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        now = time.monotonic()
        known = {p: self._prices[p][1] for p in wanted if p in self._prices and self._prices[p][0] > now}
        if unknown := [product for product in wanted if product not in known]:
            found = await self._store.products(unknown)
            _bounded(self._prices).update({p: (now + PRICE_SECONDS, product) for p, product in found.items()})
            known |= found
        return known

    async def place(self, unit: Unit, customer: Customer, lines: list[Line], address: dict[str, str] | None) -> Order:
        """A new order, in the caller's transaction."""
        id_ = OrderId(customer, new_order_id())
        order = Order(str(id_), customer.region, customer=str(customer), address=address, trace=TRACE.get())
        told = order.place(lines, unit.now)
        await unit.put(order, 0)
        unit.tell([told], order.trace)
        return order

    async def get(self, id_: OrderId) -> Order:
        """NotFoundError when there is none."""
        if (order := await self._store.get(Order, id_.region, str(id_))) is None:
            raise NotFoundError("there is no such order")
        return order

    async def of_customer(self, customer: Customer, before: tuple[datetime, str] | None, limit: int) -> list[Order]:
        """A customer's orders, newest first."""
        return await self._store.orders_of(customer.region, str(customer), before, limit)

    async def change(
        self,
        id_: OrderId,
        version: int | None,
        address: dict[str, str] | None,
        quantities: Mapping[str, int] | None,
    ) -> Order:
        """Another address or other quantities while it is pending; VersionError unless it has this version."""

        async def change(unit: Unit) -> Order:
            order = await self._of(unit, id_, version)
            seen, told = order.version, []
            if quantities is not None:
                told.append(order.change_lines(_changed(order, quantities)))
            if address is not None:
                order.change_address(address)
            await unit.put(order, seen)
            unit.tell(told, order.trace)
            return order

        return await self._store.transact(change)

    async def cancel(self, unit: Unit, id_: OrderId) -> Order:
        """Cancel it, in the caller's transaction; again is the same."""
        order = await self._of(unit, id_, None)
        seen = order.version
        if told := order.cancel("cancelled by the customer", unit.now):
            await unit.put(order, seen)
            unit.tell(told, order.trace or TRACE.get())
        return order

    @staticmethod
    async def _of(unit: Unit, id_: OrderId, version: int | None) -> Order:
        order = await unit.get(Order, id_.region, str(id_))
        if order is None:
            raise NotFoundError("there is no such order")
        if version is not None and order.version != version:
            raise VersionError(f"the order has version {order.version}, not {version}")
        return order


def _changed(order: Order, quantities: Mapping[str, int]) -> list[Line]:
    """The lines with other quantities, 0 takes one out; each keeps the price it had."""
    known = {line.product for line in order.lines}
    if unknown := [product for product in quantities if product not in known]:
        raise InvalidError(f"the order has no product {unknown[0][:80]!r}")
    wanted = {line.product: quantities.get(line.product, line.quantity) for line in order.lines}
    merge([(product, quantity) for product, quantity in wanted.items() if quantity])
    return [
        Line(line.product, wanted[line.product], line.unit_price_cents) for line in order.lines if wanted[line.product]
    ]


class OrderHandlers:
    """What events make of orders."""

    types = frozenset(
        {
            events.STOCK_RESERVED,
            events.STOCK_REFUSED,
            events.RESERVATION_DUE,
            events.PAYMENT_CAPTURED,
            events.PAYMENT_DECLINED,
            events.PAYMENT_REFUNDED,
        }
    )

    def __init__(self) -> None:
        self.soon = Soon()

    async def prepare(self, lane: Lane, batch: Sequence[Event]) -> Mapping[str, Any]:
        """See `Handlers`: nothing."""
        return {}

    async def fetch(self, unit: Unit, batch: Sequence[Event]) -> None:
        """See `Handlers`."""
        await unit.fetch(Order, batch[0].region, [event.key for event in batch])

    async def apply(self, unit: Unit, lane: Lane, event: Event, prepared: Any) -> None:
        """See `Handlers`."""
        order = await unit.get(Order, event.region, event.key)
        if order is None:
            raise LookupError("an event of an order that is not there")
        seen = order.version
        told = order.handle(event, unit.now)
        if order.version != seen:
            await unit.put(order, seen)
            unit.tell(told, event.trace)

    async def tick(self, lane: Lane) -> None:
        """See `Handlers`: nothing is ever due."""


def utc(moment: datetime) -> str:
    """A time as answers show it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
