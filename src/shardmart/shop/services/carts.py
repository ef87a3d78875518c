"""Carts: what a customer has put together, and the order that is made of it.

Carts lie in a store of their own (`ports.CartStore`: a ring, or MongoDB), which no transaction of an order reaches.  So
the order decides: in its transaction each line is noted as ordered, and a line that is noted is in no cart any more,
whatever the store of carts says.  A line is ordered once, also by two checkouts at the same time and after a crash.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence

from ..domain.cart import MAXIMUM_LINES, CartLine, pieces
from ..domain.errors import InvalidError, NotFoundError, StateError
from ..domain.identifiers import Customer
from ..domain.order import Order
from ..ports import CartStore, Store, StoredAnswer, StoreError, Unit
from .order import Orders

ORDERED = "cart line"
logger = logging.getLogger(__name__)


class Carts:
    """The use cases.  Each raises StoreError when a store does not answer."""

    def __init__(self, carts: CartStore, store: Store, orders: Orders) -> None:
        self._carts, self._store, self._orders = carts, store, orders

    async def lines(self, customer: Customer) -> list[CartLine]:
        """What is in the cart, by id; what is in an order already is taken out."""
        found = await self._carts.lines(customer)
        notes = {_note(customer, line.id): line for line in found}
        ordered = await self._store.answered(customer.region, list(notes)) if notes else set()
        if ordered:
            await self.take_out(customer, [notes[note].id for note in ordered])
        return [line for note, line in notes.items() if note not in ordered]

    async def put(self, customer: Customer, line: CartLine) -> None:
        """Put a line into the cart, or change it.

        NotFoundError for an unknown customer, InvalidError for an unknown product or a cart that is full, StateError
        for a line that has been ordered.
        """
        await self._orders.priced(customer, [(line.product, line.quantity)])
        if await self._store.answered(customer.region, [_note(customer, line.id)]):
            raise StateError("this line has been ordered: put it under another id")
        others = [one for one in await self._carts.lines(customer) if one.id != line.id]
        if len(others) >= MAXIMUM_LINES:
            raise InvalidError(f"a cart has at most {MAXIMUM_LINES} lines")
        await self._carts.put(customer, line)

    async def remove(self, customer: Customer, line: str) -> None:
        """Take a line out; one that is not there is no error.  NotFoundError for an unknown customer."""
        if not await self._orders.is_there(customer):
            raise NotFoundError("there is no such customer")
        await self._carts.remove(customer, [line])

    async def order(
        self, unit: Unit, customer: Customer, address: dict[str, str] | None
    ) -> tuple[Order, list[CartLine]]:
        """An order of all lines, in the caller's transaction, and the lines; StateError when the cart is empty.

        `take_out` the lines when the transaction is committed.
        """
        lines = await self.lines(customer)
        if not lines:
            raise StateError("the cart is empty")
        order = await self._orders.place(
            unit, customer, await self._orders.priced(customer, list(pieces(lines).items())), address
        )
        for line in lines:  # KeyInUseError where another checkout has it
            note = StoredAnswer(ORDERED, 201, order.id, {})
            await unit.store_answer(customer.region, _note(customer, line.id), note)
        return order, lines

    async def take_out(self, customer: Customer, lines: Sequence[str]) -> None:
        """Remove lines that are in an order; if the store is away they are left out when the cart is read."""
        try:
            await self._carts.remove(customer, lines)
        except StoreError as error:
            logger.warning("ordered lines stay in the store of carts for now", extra={"reason": str(error)})


def _note(customer: Customer, line: str) -> str:
    """The key under which it is noted that a line was ordered: of a form that no caller's request has."""
    return "cart-line-" + hashlib.sha256(f"{customer}\0{line}".encode()).hexdigest()
