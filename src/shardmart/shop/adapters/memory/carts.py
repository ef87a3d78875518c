"""Carts in memory."""

from __future__ import annotations

from collections.abc import Sequence

from ...domain.cart import CartLine
from ...domain.identifiers import Customer
from .state import Memory


class MemoryCarts:
    """See `ports.CartStore`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def lines(self, customer: Customer) -> list[CartLine]:
        """See `ports.CartStore`."""
        self._memory.must_be_there()
        lines = self._memory.carts.get(str(customer), {})
        return [lines[id_] for id_ in sorted(lines)]

    async def put(self, customer: Customer, line: CartLine) -> None:
        """See `ports.CartStore`."""
        self._memory.must_be_there()
        self._memory.carts.setdefault(str(customer), {})[line.id] = line

    async def remove(self, customer: Customer, lines: Sequence[str]) -> None:
        """See `ports.CartStore`."""
        self._memory.must_be_there()
        for line in lines:
            self._memory.carts.get(str(customer), {}).pop(line, None)
