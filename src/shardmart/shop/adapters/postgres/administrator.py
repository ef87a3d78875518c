"""What an administrator's connection to PostgreSQL does for any of the shop's databases: make it, and its users.

Re-entrant: what is there is left, what is missing is made.  It makes no table and gives no right but that to connect.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import errors, sql

from ...ports import StoreError
from ...settings import Server
from .connection import Connection, connect


class DatabaseAdministrator:
    """The administrator of one database.  `options` say where it is; their user and password are not used.

    Connections are called `name` on the server; `writes`: of several hosts the one that takes writes.
    """

    def __init__(self, options: Server, user: str, password: str, *, name: str, writes: bool) -> None:
        self._server, self._administrator, self._password = options, user, password
        self._name, self._writes = name, writes
        self._connection: Connection | None = None
        self.changes: list[str] = []
        """What was made."""

    async def close(self) -> None:
        """End the connection."""
        if self._connection:
            await self._connection.close()

    async def _connect(self, database: str) -> Connection:
        return await connect(
            self._server,
            user=self._administrator,
            password=self._password,
            database=database,
            name=self._name,
            writes=self._writes,
        )

    async def _have_database(self) -> None:
        async with await self._connect("postgres") as connection:
            known = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self._server.database])
            if await known.fetchone() is None:
                name = sql.Identifier(self._server.database)
                try:
                    await connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
                except (errors.DuplicateDatabase, errors.UniqueViolation):  # another one was faster
                    return
                await connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
                self.changes.append(f"make the database {self._server.database}")

    async def _have_login(self, user: str, password: str) -> None:
        """A user that may connect with this password.  The server gets its verifier, which a log may show."""
        there = await self._finds("SELECT 1 AS one FROM pg_roles WHERE rolname = %s", [user])
        name, database = sql.Identifier(user), sql.Identifier(self._server.database)
        if not there or not await self._accepted(user, password):
            assert self._connection
            verifier = self._connection.pgconn.encrypt_password(
                password.encode(), user.encode(), b"scram-sha-256"
            ).decode()
            verb = sql.SQL("ALTER" if there else "CREATE")
            await self._run(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, name, sql.Literal(verifier)))
            self.changes.append(f"{'change the password of' if there else 'make'} {user}")
        await self._run(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, name))

    async def _accepted(self, user: str, password: str) -> bool:
        try:
            await (await connect(self._server, user=user, password=password, name=self._name)).close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                return False
            if "permission denied for database" in str(error):  # the right to connect follows
                return True
            raise
        return True

    async def _run(self, statement: str | sql.Composed) -> None:
        assert self._connection
        await self._connection.execute(statement.encode() if isinstance(statement, str) else statement)

    async def _finds(self, query: str, values: Sequence[object] = ()) -> bool:
        assert self._connection
        return await (await self._connection.execute(query.encode(), values or None)).fetchone() is not None


def told(error: psycopg.Error) -> StoreError:
    """The server's own words, in a line; it never quotes a password."""
    return StoreError(error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__)
