"""The store of the contract suite on ShardingSphere-Proxy, and how connections have to speak to it.

The proxy (5.1.0) takes a statement as text, and little of the protocol's messages with parameters
(test_sharded_statements.py says what not).  So parameters are put into the statement here, by psycopg.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from unittest.mock import patch

import psycopg
from psycopg.abc import AdaptContext, Buffer, Params, Query
from psycopg.adapt import Loader
from psycopg.types.datetime import TimestampLoader

from shardmart.shop.adapters.postgres.connection import Connection, Pool, Row, connect
from shardmart.shop.adapters.postgres.flavours import FLAVOURS, Flavour
from shardmart.shop.adapters.postgres.schema import FLAVOURS as FLAVOURS_OF_THE_CATALOGUE
from shardmart.shop.adapters.postgres.schema import Seeder
from shardmart.shop.adapters.postgres.tables import Administrator
from shardmart.shop.settings import Postgres, Relational
from tests.support.postgres_stores import PostgresKit
from tests.support.shop_stores import LANES

from .configuration import USER
from .proxy import RunningProxy

NAME = "shardingsphere"
FLAVOUR = Flavour('text COLLATE "C"')
"""Where rows live is the proxy's own rule; a lock would be one server's, and of whoever has that connection next."""


class _InUtc(TimestampLoader):
    """The proxy calls a timestamptz a timestamp, and tells it in the time zone of its process."""

    def load(self, data: Buffer) -> datetime:
        return super().load(data).replace(tzinfo=UTC)


class _Boolean(Loader):
    """The proxy calls a boolean a bit, and tells it as a word."""

    def load(self, data: Buffer) -> bool:
        return {b"true": True, b"false": False}[bytes(data)]


class Cursor(psycopg.AsyncClientCursor[Row]):
    """Statements go as text, one by one: the proxy takes no pipeline."""

    async def executemany(self, query: Query, params_seq: Iterable[Params], *, returning: bool = False) -> None:
        """Run it for each."""
        del returning
        count = 0
        for values in params_seq:
            await self.execute(query, values)  # type: ignore[arg-type]
            count += self.rowcount
        self._rowcount = count


def understood(context: AdaptContext) -> None:
    """Read what the proxy calls otherwise than PostgreSQL does."""
    context.adapters.register_loader("timestamp", _InUtc)
    context.adapters.register_loader("bit", _Boolean)


def speaking(connection: Connection) -> Connection:
    """The same connection, for the proxy."""
    understood(connection)
    connection.cursor_factory = Cursor
    return connection


class _Administrator(Administrator):
    async def _have_database(self) -> None:
        """The proxy's files name its databases."""

    async def _connect(self, database: str) -> Connection:
        return speaking(await super()._connect(database))


class ShardingSphereKit(PostgresKit):
    """A store whose rows lie on three servers."""

    @staticmethod
    def pooled(options: Relational, seconds: float) -> Pool:
        pool = PostgresKit.pooled(options, seconds)
        opened = pool._opened

        async def spoken() -> Connection:
            return speaking(await opened())

        pool._opened = spoken
        return pool


def options_of(proxy: RunningProxy, **more: Any) -> Relational:
    """How the store is reached: its flavour is none of the topology's."""
    return Relational.model_construct(
        host="127.0.0.1",
        port=proxy.port,
        user=USER,
        password=proxy.password,
        database="shop",
        flavour=cast("Any", NAME),
        sslmode="prefer",
        regions=("EMEA",),
        lanes_per_region=LANES,
        **more,
    )


@contextmanager
def sharded_kit(proxy: RunningProxy) -> Iterator[ShardingSphereKit]:
    """The store, with its tables made through the proxy by the administrator that makes them everywhere."""
    with patch.dict(cast("dict[str, Flavour]", FLAVOURS), {NAME: FLAVOUR}):
        options = options_of(proxy)
        kit = ShardingSphereKit(options)
        administrator = _Administrator(options, USER, proxy.password)

        async def made() -> None:
            try:
                await administrator.prepare({})
            finally:
                await administrator.close()

        try:
            kit.run(made())
            yield kit
        finally:
            kit.close()


class _Seeder(Seeder):
    async def _have_database(self) -> None:
        """The proxy's files name its databases, and its users."""

    _user = _have_database

    async def _connect(self, database: str) -> Connection:
        return speaking(await super()._connect(database))


@asynccontextmanager
async def sharded_catalogue(proxy: RunningProxy) -> AsyncIterator[tuple[Seeder, Pool]]:
    """Who fills the catalogue's tables, which are made, and the connections of who reads them."""
    place = {"port": proxy.port, "user": USER, "password": proxy.password}
    options = Postgres.model_validate(place | {"database": "catalogue"}).model_copy(update={"flavour": NAME})

    async def opened() -> Connection:
        return speaking(await connect(options))

    with patch.dict(cast("dict[str, object]", FLAVOURS_OF_THE_CATALOGUE), {NAME: {}}):
        seeder, pool = _Seeder(options, USER, proxy.password), Pool(options, opened=opened)
        try:
            await seeder.prepare()
            yield seeder, pool
        finally:
            await pool.close()
            await seeder.close()
