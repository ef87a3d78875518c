"""The catalogue's tables, made and filled: plain PostgreSQL, or Citus where the flavour says so.

Everything is re-entrant: what is there is left, what is missing is made.  A table that is there is never altered, a row
that is there never changed.  Only `FLAVOURS` knows statements that plain PostgreSQL does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from ...settings import Postgres
from .administrator import DatabaseAdministrator, told

LOCK = 0x5348_4F50  # "SHOP": one seeder at a time makes tables
TABLES = (
    "CREATE TABLE IF NOT EXISTS categories (name text PRIMARY KEY)",
    # "C": pages follow the ids as MongoDB orders them, whatever the database's locale.
    """CREATE TABLE IF NOT EXISTS products (
        id text COLLATE "C" PRIMARY KEY,
        name text NOT NULL,
        category text NOT NULL,
        price_cents bigint NOT NULL CHECK (price_cents > 0)
    )""",
    "CREATE INDEX IF NOT EXISTS products_category ON products (category, id)",
)
FOREIGN_KEY = (
    "ALTER TABLE products ADD CONSTRAINT products_in_category FOREIGN KEY (category) REFERENCES categories (name)"
)

FLAVOURS: Mapping[str, Mapping[str, str]] = {
    "plain": {},
    # Each with the question whether it was done.  Not run here: Citus cannot be installed from a package registry.
    "citus": {
        "SELECT create_reference_table('categories')": (
            "SELECT 1 AS one FROM pg_dist_partition WHERE logicalrelid = 'categories'::regclass"
        ),
        "SELECT create_distributed_table('products', 'id')": (
            "SELECT 1 AS one FROM pg_dist_partition WHERE logicalrelid = 'products'::regclass"
        ),
    },
}


class Seeder(DatabaseAdministrator):
    """The administrator's connection: makes the database, its tables and the catalogue's user, and fills the tables."""

    def __init__(self, options: Postgres, administrator: str, password: str) -> None:
        super().__init__(options, administrator, password, name="shop-catalogue", writes=False)
        self._options = options

    async def prepare(self) -> None:
        """Have database, tables and user.  StoreError when the server is away or refuses."""
        try:
            await self._have_database()
            self._connection = await self._connect(self._options.database)
            await self._run(sql.SQL("SELECT pg_advisory_lock({})").format(sql.Literal(LOCK)))
            try:
                await self._tables()
                await self._user()
            finally:
                await self._run(sql.SQL("SELECT pg_advisory_unlock({})").format(sql.Literal(LOCK)))
        except psycopg.Error as error:
            raise told(error) from error

    async def add(self, products: Sequence[Mapping[str, Any]]) -> int:
        """Add those of the products that are not there; returns how many.  StoreError."""
        assert self._connection, "prepare comes first"
        try:
            # Categories first and by themselves: on Citus a transaction that wrote shards writes no reference table.
            for name in sorted({product["category"] for product in products}):
                await self._connection.execute("INSERT INTO categories VALUES (%s) ON CONFLICT DO NOTHING", [name])
            rows = [[product[key] for key in ("id", "name", "category", "price_cents")] for product in products]
            async with self._connection.cursor() as cursor:
                await cursor.executemany(
                    "INSERT INTO products (id, name, category, price_cents) VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT DO NOTHING",
                    rows,
                )
                return cursor.rowcount
        except psycopg.Error as error:
            raise told(error) from error

    async def _tables(self) -> None:
        for statement in TABLES:
            await self._run(statement)
        for statement, done in FLAVOURS[self._options.flavour].items():
            if not await self._finds(done):
                await self._run(statement)
        if not await self._finds("SELECT 1 AS one FROM pg_constraint WHERE conname = 'products_in_category'"):
            await self._run(FOREIGN_KEY)

    async def _user(self) -> None:
        """The catalogue's user: reads two tables."""
        await self._have_login(self._options.user, self._options.password)
        user = sql.Identifier(self._options.user)
        for statement in (
            "ALTER ROLE {user} SET default_transaction_read_only = on",
            "ALTER ROLE {user} SET statement_timeout = '5s'",
            "GRANT SELECT ON products, categories TO {user}",
        ):
            await self._run(sql.SQL(statement).format(user=user))
