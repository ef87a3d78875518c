"""Carts on the sharded cluster: one document a customer, and a field of it for each line.

Two clients change different fields, and each change is one atomic update: nothing is read and written back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pymongo

from ...domain.cart import CartLine
from ...domain.identifiers import Customer
from ...ports import ConflictError
from .client import Database, Document, errors_of_the_store

ATTEMPTS = 5
"""Two first lines at the same time both insert the document; whoever is second finds it then."""


class MongoCarts:
    """See `ports.CartStore`."""

    def __init__(self, database: Database, seconds: float = 5.0) -> None:
        self._carts, self._seconds = database["carts"], seconds

    async def lines(self, customer: Customer) -> list[CartLine]:
        """See `ports.CartStore`."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            found = await self._carts.find_one(_key(customer), {"lines": 1}) or {}
        lines = found.get("lines", {})
        return [CartLine(id_, lines[id_]["product"], lines[id_]["quantity"]) for id_ in sorted(lines)]

    async def put(self, customer: Customer, line: CartLine) -> None:
        """See `ports.CartStore`."""
        kept = {"product": line.product, "quantity": line.quantity}
        fields = {f"lines.{line.id}": kept, "changed_at": datetime.now(UTC)}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with errors_of_the_store(), pymongo.timeout(self._seconds):
                    await self._carts.update_one(_key(customer), {"$set": fields}, upsert=True)
            except ConflictError:
                if attempt == ATTEMPTS:
                    raise
            else:
                return

    async def remove(self, customer: Customer, lines: Sequence[str]) -> None:
        """See `ports.CartStore`."""
        if not lines:
            return
        gone = {f"lines.{line}": "" for line in lines}
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            await self._carts.update_one(_key(customer), {"$unset": gone, "$set": {"changed_at": datetime.now(UTC)}})


def _key(customer: Customer) -> Document:
    return {"region": customer.region, "_id": str(customer)}
