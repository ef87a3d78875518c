"""The store's tables and who may use them: made, and brought from one version to the next, by its administrator.

Everything is re-entrant: a migration that was killed is done again, one that is done is not.  A migration is never
changed once it was released: the next one changes what it made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import errors, sql

from ...ports import StoreError
from ...settings import Relational
from .administrator import DatabaseAdministrator, told
from .connection import Connection
from .flavours import FLAVOURS

_AGGREGATE = """
    id {id} NOT NULL,
    region text NOT NULL,
    version bigint NOT NULL,
    told bigint NOT NULL,
    inbox jsonb NOT NULL,"""

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        f"""CREATE TABLE IF NOT EXISTS orders ({_AGGREGATE}
            customer {{id}} NOT NULL,
            lines jsonb NOT NULL,
            total_cents bigint NOT NULL,
            status text NOT NULL,
            created_at timestamptz NOT NULL,
            address jsonb,
            revision bigint NOT NULL,
            reason text,
            history jsonb NOT NULL,
            trace text NOT NULL,
            PRIMARY KEY (region, id))""",
        "CREATE INDEX IF NOT EXISTS orders_of_customer ON orders (region, customer, created_at, id)",
        f"""CREATE TABLE IF NOT EXISTS reservations ({_AGGREGATE}
            customer text,
            state text NOT NULL,
            revision bigint NOT NULL,
            pieces jsonb NOT NULL,
            until timestamptz,
            lane bigint NOT NULL,
            PRIMARY KEY (region, id))""",
        "CREATE INDEX IF NOT EXISTS reservations_due ON reservations (region, lane, until) WHERE state = 'held'",
        f"""CREATE TABLE IF NOT EXISTS payments ({_AGGREGATE}
            customer text,
            state text NOT NULL,
            amount_cents bigint NOT NULL,
            charge text,
            refund text,
            attempts bigint NOT NULL,
            due_at timestamptz,
            lane bigint NOT NULL,
            trace text NOT NULL,
            PRIMARY KEY (region, id))""",
        "CREATE INDEX IF NOT EXISTS payments_due ON payments (region, lane, due_at) WHERE due_at IS NOT NULL",
        f"""CREATE TABLE IF NOT EXISTS notifications ({_AGGREGATE}
            type text NOT NULL,
            key text NOT NULL,
            customer text,
            data jsonb NOT NULL,
            state text NOT NULL,
            channels jsonb NOT NULL,
            attempts bigint NOT NULL,
            due_at timestamptz,
            at timestamptz,
            lane bigint NOT NULL,
            trace text NOT NULL,
            error text,
            PRIMARY KEY (region, id))""",
        "CREATE INDEX IF NOT EXISTS notifications_due ON notifications (region, lane, due_at) WHERE due_at IS NOT NULL",
        """CREATE TABLE IF NOT EXISTS stock (
            id {id} PRIMARY KEY,
            version bigint NOT NULL,
            told bigint NOT NULL,
            inbox jsonb NOT NULL,
            available bigint NOT NULL CHECK (available >= 0),
            low boolean NOT NULL,
            changed_at timestamptz NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS stock_changed ON stock (changed_at)",
        "CREATE INDEX IF NOT EXISTS stock_low ON stock (id) WHERE low",
        # `logged` is the event's place in the log: numbers of a place have no gap, and grow as they are committed.
        """CREATE TABLE IF NOT EXISTS events (
            place {id} NOT NULL,
            logged bigint NOT NULL,
            id {id} NOT NULL,
            region text NOT NULL,
            lane bigint NOT NULL,
            type text NOT NULL,
            key {id} NOT NULL,
            producer text NOT NULL,
            number bigint NOT NULL,
            data jsonb NOT NULL,
            customer text,
            trace text NOT NULL,
            at timestamptz NOT NULL,
            schema bigint NOT NULL,
            PRIMARY KEY (place, logged),
            UNIQUE (place, id))""",
        "CREATE INDEX IF NOT EXISTS events_of_key ON events (region, key, at)",
        "CREATE INDEX IF NOT EXISTS events_by_time ON events (region, at, id)",
        """CREATE TABLE IF NOT EXISTS event_places (
            place {id} PRIMARY KEY,
            last bigint NOT NULL,
            last_at timestamptz NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS parked_events (
            key {id} NOT NULL,
            service text NOT NULL,
            id {id} NOT NULL,
            region text NOT NULL,
            lane bigint NOT NULL,
            place bigint NOT NULL,
            reason text NOT NULL,
            again boolean NOT NULL,
            at timestamptz NOT NULL,
            event jsonb NOT NULL,
            PRIMARY KEY (key, service, id))""",
        "CREATE INDEX IF NOT EXISTS parked_events_of_lane ON parked_events (service, region, lane)",
        """CREATE TABLE IF NOT EXISTS idempotency_keys (
            region text NOT NULL,
            key {id} NOT NULL,
            fingerprint text NOT NULL,
            status bigint NOT NULL,
            body text NOT NULL,
            headers jsonb NOT NULL,
            at timestamptz NOT NULL,
            PRIMARY KEY (region, key))""",
        """CREATE TABLE IF NOT EXISTS lanes (
            service text NOT NULL,
            region text NOT NULL,
            number bigint NOT NULL,
            epoch bigint NOT NULL,
            owner text,
            until timestamptz,
            "position" text,
            position_at timestamptz,
            replay_from timestamptz,
            PRIMARY KEY (service, region, number))""",
        """CREATE TABLE IF NOT EXISTS instances (
            service text NOT NULL,
            name text NOT NULL,
            owner text NOT NULL,
            until timestamptz NOT NULL,
            PRIMARY KEY (service, name))""",
        # Which transactions were committed: what is asked when the answer to a COMMIT was lost.
        """CREATE TABLE IF NOT EXISTS commits (
            id text PRIMARY KEY,
            happened boolean NOT NULL,
            at timestamptz NOT NULL)""",
        "CREATE INDEX IF NOT EXISTS commits_by_time ON commits (at)",
        """CREATE TABLE IF NOT EXISTS products (
            id {id} PRIMARY KEY,
            name text NOT NULL,
            price_cents bigint NOT NULL,
            stock bigint NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS customers (
            region text NOT NULL,
            id {id} NOT NULL,
            name text NOT NULL,
            email text NOT NULL,
            PRIMARY KEY (region, id))""",
    ),
)
VERSION = len(MIGRATIONS)
"""Of the tables that this code reads and writes."""

_EVENTS = {
    "events": "SELECT, INSERT",
    "event_places": "SELECT, INSERT, UPDATE",
    "parked_events": "SELECT, INSERT, UPDATE, DELETE",
    "lanes": "SELECT, INSERT, UPDATE",
    "instances": "SELECT, INSERT, UPDATE, DELETE",
    "commits": "SELECT, INSERT, DELETE",
    "schema_versions": "SELECT",
}
_WRITES = "SELECT, INSERT, UPDATE"
_KEYS = {"idempotency_keys": "SELECT, INSERT"}

RIGHTS: Mapping[str, Mapping[str, str]] = {
    "shop_order": {"orders": _WRITES, "products": "SELECT", "customers": "SELECT", **_KEYS, **_EVENTS},
    "shop_inventory": {"stock": _WRITES, "reservations": _WRITES, "products": "SELECT", **_KEYS, **_EVENTS},
    "shop_payment": {"payments": _WRITES, **_KEYS, **_EVENTS},
    "shop_notification": {"notifications": _WRITES, "customers": "SELECT", **_EVENTS},
    # It judges: it changes nothing, and of a customer it sees who he is and not his mail address.
    "shop_ledger": {
        **dict.fromkeys(
            ("orders", "stock", "reservations", "payments", "notifications", "events", "parked_events", "products"),
            "SELECT",
        ),
        "customers": "SELECT (region, id)",
    },
}
"""User → table → what it may do there, and nothing else."""
READ_ONLY_USERS = ("shop_ledger",)
LOCK_SECONDS = 60
"""How long an administrator waits for another one."""


class Administrator(DatabaseAdministrator):
    """The administrator's connection.  `options` say where the store is; its user and password are not used."""

    def __init__(self, options: Relational, user: str, password: str) -> None:
        super().__init__(options, user, password, name="shop-store", writes=True)
        self._options = options

    async def prepare(self, passwords: Mapping[str, str], rights: Mapping[str, Mapping[str, str]] = RIGHTS) -> None:
        """Have the database, its tables and these users, each with its password.  StoreError.

        StoreError, too, for tables of a later version: whatever reads them does not understand them.
        """
        flavour = FLAVOURS[self._options.flavour]
        try:
            await self._have_database()
            self._connection = await self._connect(self._options.database)
            if flavour.lock:
                await self._run(f"SET lock_timeout = '{LOCK_SECONDS}s'")
                await self._run(flavour.lock)
            await self._migrate()
            for user, password in passwords.items():
                await self._have_user(user, password, rights[user])
        except errors.LockNotAvailable:
            raise StoreError(f"waited {LOCK_SECONDS} s for another one that makes tables or moves a store") from None
        except psycopg.Error as error:
            raise told(error) from error

    async def add(self, products: Sequence[Mapping[str, Any]] = (), customers: Sequence[Mapping[str, Any]] = ()) -> int:
        """Add the products and customers that are not there; returns how many.  StoreError."""
        assert self._connection, "prepare comes first"
        added = 0
        try:
            async with self._connection.cursor() as cursor:
                for statement, rows in (
                    (
                        "INSERT INTO products (id, name, price_cents, stock)"
                        " VALUES (%(id)s, %(name)s, %(price_cents)s, %(stock)s) ON CONFLICT DO NOTHING",
                        products,
                    ),
                    (
                        "INSERT INTO customers (region, id, name, email)"
                        " VALUES (%(region)s, %(id)s, %(name)s, %(email)s) ON CONFLICT DO NOTHING",
                        customers,
                    ),
                ):
                    if rows:
                        await cursor.executemany(statement.encode(), list(rows))
                        added += cursor.rowcount
        except psycopg.Error as error:
            raise told(error) from error
        return added

    async def _migrate(self) -> None:
        flavour = FLAVOURS[self._options.flavour]
        await self._run("CREATE TABLE IF NOT EXISTS schema_versions (version bigint PRIMARY KEY)")
        there = await version_of(self._connection) if self._connection else 0
        if there > VERSION:
            raise StoreError(f"the tables have version {there}, and this is made for version {VERSION}: upgrade it")
        for version, statements in list(enumerate(MIGRATIONS, 1))[there:]:
            for statement in statements:
                await self._run(statement.replace("{id}", flavour.text))
            await self._run(f"INSERT INTO schema_versions VALUES ({version}) ON CONFLICT DO NOTHING")  # noqa: S608
            self.changes.append(f"make the tables of version {version}")
        for done, statement in flavour.placed(self._options.database, self._options.regions):
            if not await self._finds(done):
                await self._run(statement)
                self.changes.append("say where rows live")

    async def _have_user(self, user: str, password: str, tables: Mapping[str, str]) -> None:
        """A user that may do this with the tables."""
        await self._have_login(user, password)
        name = sql.Identifier(user)
        for table, rights in tables.items():
            await self._run(sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(rights), sql.Identifier(table), name))
        if user in READ_ONLY_USERS:
            await self._run(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(name))


async def version_of(connection: Connection) -> int:
    """The version of the tables that are there, 0 where there are none.  Raises what psycopg raises."""
    query = "SELECT coalesce(max(version), 0) AS version FROM schema_versions"
    row = await (await connection.execute(query)).fetchone()
    return int(row["version"]) if row else 0
