"""Connections to PostgreSQL with psycopg 3: a few that are kept, each used by one question at a time.

Not psycopg_pool: after an outage its workers wait up to minutes before they connect again.  Here whoever asks connects
when no kept connection is free, so the first question after an outage is the first that is answered.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import dict_row

from shardmart import libpq

from ...ports import StoreError
from ...settings import Server

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]
DEAD = ("08006", "57P01", "57P02", "57P03")
"""SQLSTATEs of a connection that ended with its server; a connection that was cut has none and counts as the first."""
KEPT = 8
"""Connections at once; more questions wait for one."""


async def connect(
    options: Server,
    *,
    user: str = "",
    password: str = "",
    database: str = "",
    name: str = "shop-catalogue",
    writes: bool = False,
) -> Connection:
    """A connection in autocommit mode, as the user of `options` or another.  Raises what psycopg raises.

    `writes`: of several hosts the one that takes writes; a single one that takes none is refused.  A host that hangs
    takes part of the time that a request has, not all of it.
    """
    return await psycopg.AsyncConnection.connect(
        host=options.host,
        port=options.port,
        user=user or options.user,
        password=password or options.password,
        dbname=database or options.database,
        **encryption(options),
        connect_timeout=2 if "," in options.host else 5,  # each host; libpq knows no shorter one
        # A server that hangs: its connections end after so many milliseconds without an answer.
        tcp_user_timeout=20_000,
        application_name=name,
        target_session_attrs="read-write" if writes else "any",
        autocommit=True,
        row_factory=dict_row,
    )


def encryption(options: Server) -> dict[str, Any]:
    """What a connection says of TLS: with an authority no other server is spoken to, and none without TLS."""
    return libpq.checked_by(options.ca_file) or {"sslmode": options.sslmode}


class Pool:
    """Connections of one user; by default the catalogue's."""

    def __init__(
        self,
        options: Server,
        *,
        opened: Callable[[], Awaitable[Connection]] | None = None,
        seconds: float | None = None,
        size: int = KEPT,
    ) -> None:
        """`opened` makes a connection, if not `connect(options)`.  No use of a connection is longer than `seconds`."""
        self._opened = opened or (lambda: connect(options))
        self._seconds = seconds
        self._free: list[Connection] = []
        self._places = asyncio.Semaphore(size)

    async def rows(self, query: str | bytes, values: Sequence[object] | Mapping[str, object] = ()) -> list[Row]:
        """The answer to a question; StoreError when the server is away or refuses.

        A kept connection may have died with its server since: then it is asked once more on a new one.  So it is a
        question that only reads, or may be asked twice.
        """
        try:
            kept = bool(self._free)
            try:
                return await self._asked(query, values)
            except psycopg.OperationalError as error:
                if not kept or (error.sqlstate or DEAD[0]) not in DEAD:
                    raise
                await self.forget()
                return await self._asked(query, values)
        except psycopg.Error as error:
            raise StoreError(
                f"PostgreSQL: {type(error).__name__}{f' {error.sqlstate}' if error.sqlstate else ''}"
            ) from error

    async def close(self) -> None:
        """End every kept connection."""
        await self.forget()

    async def _asked(self, query: str | bytes, values: Sequence[object] | Mapping[str, object]) -> list[Row]:
        async with self.connection() as connection:
            asked = query.encode() if isinstance(query, str) else query
            cursor = await connection.execute(asked, values or None)
            return await cursor.fetchall() if cursor.description else []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for the block, closed after an error in a transaction.  Raises as psycopg, TimeoutError."""
        async with asyncio.timeout(self._seconds):
            await self._places.acquire()
        try:
            async with asyncio.timeout(self._seconds):
                connection = self._free.pop() if self._free else await self._opened()
            timer = None
            if self._seconds is not None:
                timer = asyncio.get_running_loop().call_later(self._seconds, cut, connection)
            try:
                yield connection
            except Exception:
                if not _is_idle(connection):
                    await connection.close()
                raise
            except BaseException:
                await connection.close()
                raise
            finally:
                if timer:
                    timer.cancel()
                if not connection.closed:
                    self._free.append(connection)
        finally:
            self._places.release()

    async def forget(self) -> None:
        """Close those that are free: they are as old as the one that was dead."""
        while self._free:
            await self._free.pop().close()


def _is_idle(connection: Connection) -> bool:
    """Whether nothing is begun on it, so that the next one may use it."""
    return not connection.closed and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def cut(connection: Connection) -> None:
    """End the connection under whoever waits for its answer, who then has psycopg.OperationalError.

    To cancel is not enough: psycopg then waits for the server once more, and one that hangs never answers.
    """
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
