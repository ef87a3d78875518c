"""Connections to PostgreSQL with psycopg 3: a few that are kept, each used by one question at a time.

Not psycopg_pool: after an outage its workers wait up to minutes before they connect again.  Here whoever asks connects
when no kept connection is free, so the first question after an outage is the first that is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row

from ...ports import StoreError
from ...settings import Postgres

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]
DEAD = ("08006", "57P01", "57P02", "57P03")
"""SQLSTATEs of a connection that ended with its server; a connection that was cut has none and counts as the first."""
KEPT = 8
"""Connections at once; more questions wait for one."""


async def connect(options: Postgres, *, user: str = "", password: str = "", database: str = "") -> Connection:
    """A connection in autocommit mode, as the user of `options` or another.  Raises what psycopg raises."""
    return await psycopg.AsyncConnection.connect(
        host=options.host,
        port=options.port,
        user=user or options.user,
        password=password or options.password,
        dbname=database or options.database,
        sslmode=options.sslmode,
        connect_timeout=5,
        # A server that hangs: its connections end after so many milliseconds without an answer.
        tcp_user_timeout=20_000,
        application_name="shop-catalogue",
        autocommit=True,
        row_factory=dict_row,
    )


class Pool:
    """Connections of the catalogue's user."""

    def __init__(self, options: Postgres) -> None:
        self._options = options
        self._free: list[Connection] = []
        self._places = asyncio.Semaphore(KEPT)

    async def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """The answer to a question that only reads; StoreError when the server is away or refuses.

        A kept connection may have died with its server since: then it is asked once more on a new one.
        """
        try:
            async with self._places:
                kept = bool(self._free)
                try:
                    return await self._asked(query, values)
                except psycopg.OperationalError as error:
                    if not kept or (error.sqlstate or DEAD[0]) not in DEAD:
                        raise
                    await self._forget()
                    return await self._asked(query, values)
        except psycopg.Error as error:
            raise StoreError(
                f"PostgreSQL: {type(error).__name__}{f' {error.sqlstate}' if error.sqlstate else ''}"
            ) from error

    async def close(self) -> None:
        """End every kept connection."""
        await self._forget()

    async def _asked(self, query: str, values: Sequence[object]) -> list[Row]:
        async with self._connection() as connection:
            return await (await connection.execute(query.encode(), values or None)).fetchall()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = self._free.pop() if self._free else await connect(self._options)
        try:
            yield connection
        except BaseException:
            await connection.close()
            raise
        self._free.append(connection)

    async def _forget(self) -> None:
        """Close those that are free: they are as old as the one that was dead."""
        while self._free:
            await self._free.pop().close()
