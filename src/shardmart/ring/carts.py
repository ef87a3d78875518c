"""Carts on a ring: every line of a cart is a record of its own, so two clients on one cart lose no item of each other.

The merge rule: a cart is the union of its lines, of each line the newest version; a removed line stays removed.
Adding a product twice makes two lines, which are added up.  All lines of a cart lie on the same nodes (`Grouped`), so a
cart is read from one place.  Nothing here needs a conditional put: carts go on while a node is away.
"""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass

from .client import RingClient
from .placement.keys import Grouped


@dataclass(frozen=True)
class Line:
    """So many of a product, put into a cart at once."""

    id: str
    product: str
    quantity: int


class RingCarts:
    """Carts by id.  Raises what `RingClient` raises."""

    def __init__(self, ring: RingClient) -> None:
        self._ring = ring

    async def add(self, cart: str, product: str, quantity: int, *, line: str | None = None) -> Line:
        """Put something into a cart; the same `line` again is the same line, so a repeated request adds once."""
        made = Line(line or secrets.token_hex(8), product, quantity)
        await self._ring.put(Grouped(cart, made.id), {"product": product, "quantity": quantity})
        return made

    async def remove(self, cart: str, line: str) -> None:
        """Take a line out."""
        await self._ring.delete(Grouped(cart, line))

    async def lines(self, cart: str) -> list[Line]:
        """The lines of a cart, by id."""
        found = await self._ring.get_group(cart)
        return [Line(one.key.name, **one.value) for one in found if isinstance(one.key, Grouped)]

    async def contents(self, cart: str) -> dict[str, int]:
        """Product → quantity."""
        counts: Counter[str] = Counter()
        for line in await self.lines(cart):
            counts[line.product] += line.quantity
        return dict(counts)

    async def empty(self, cart: str) -> list[Line]:
        """Take out what the cart holds now, and return it; what is added meanwhile stays."""
        lines = await self.lines(cart)
        for line in lines:
            await self.remove(cart, line.id)
        return lines
