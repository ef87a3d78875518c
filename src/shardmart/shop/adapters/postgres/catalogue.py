"""The structured part of the catalogue: tables `products` and `categories`, read by one query for a page.

The same questions work on plain PostgreSQL and on Citus: a page asks every shard by the distribution column's index and
merges, one product is asked of its own shard.
"""

from __future__ import annotations

from typing import Any

from .connection import Pool, Row

COLUMNS = "SELECT id, name, category, price_cents FROM products"


class PostgresCatalogue:
    """See `services.catalogue.Products`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, after: str | None, limit: int, text: str | None, category: str | None) -> list[Row]:
        """Products by id; those whose name holds `text`."""
        conditions, values = [], list[Any]()
        for condition, value in (
            ("id > %s", after),
            ("name ILIKE %s", f"%{escaped(text)}%" if text else None),
            ("category = %s", category),
        ):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return await self._pool.rows(f"{COLUMNS}{where} ORDER BY id LIMIT %s", [*values, limit])

    async def product(self, id_: str) -> Row | None:
        """One product."""
        found = await self._pool.rows(f"{COLUMNS} WHERE id = %s", [id_])
        return found[0] if found else None

    async def count(self) -> int:
        """How many products there are."""
        return int((await self._pool.rows("SELECT count(*) AS n FROM products"))[0]["n"])

    async def version(self) -> str:
        """The server's version, as it tells it."""
        return str((await self._pool.rows("SHOW server_version"))[0]["server_version"])

    async def ping(self) -> None:
        """StoreError unless it answers and has the table."""
        await self._pool.rows("SELECT 1 AS one FROM products LIMIT 1")


def escaped(text: str) -> str:
    """Text that stands for itself in a LIKE pattern."""
    return "".join(f"\\{letter}" if letter in "\\%_" else letter for letter in text)
