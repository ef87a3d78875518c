"""Stores on PostgreSQL's protocol for tests: a real server of this machine, or one that a variable names."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from shardmart.cluster.protocol.connection import Deadline
from shardmart.cluster.shop import Instance
from shardmart.platforms import postgres
from shardmart.shop.adapters.postgres.connection import Pool
from shardmart.shop.adapters.postgres.lanes import PostgresLanes
from shardmart.shop.adapters.postgres.log import PostgresLog
from shardmart.shop.adapters.postgres.store import PostgresStore, pool_of
from shardmart.shop.adapters.postgres.tables import RIGHTS, Administrator
from shardmart.shop.migrating import Migrated, migrate
from shardmart.shop.ports import Lanes
from shardmart.shop.settings import Relational, Settings
from tests.support.clusters import EmbeddedCluster, free_ports
from tests.support.postgres_home import postgres_home
from tests.support.shop_stores import LANES, REGIONS, Kit

URLS = {"cockroach": "SHARDMART_TEST_COCKROACH_URL", "citus": "SHARDMART_TEST_CITUS_URL"}
"""Flavour → the variable that names a server of it, as postgresql://ADMINISTRATOR:PASSWORD@HOST:PORT/."""
ALL = "shop_contract"
"""A user that may do what all services together may."""


def given(flavour: str) -> Relational | None:
    """The administrator's options for the server that the variable names; None where it is not set."""
    url = os.environ.get(URLS[flavour])
    if not url:
        return None
    parts = urlsplit(url)
    return Relational.model_construct(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or {"cockroach": 26257, "citus": 5432}[flavour],
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=f"contract_{secrets.token_hex(4)}",
        flavour=flavour,  # type: ignore[arg-type]
        sslmode="prefer",
        regions=("EMEA",),  # more of them need servers in more regions
        lanes_per_region=LANES,
    )


def everything() -> dict[str, str]:
    """Table → what one service or another may do there."""
    found: dict[str, set[str]] = {}
    for rights in RIGHTS.values():
        for table, words in rights.items():
            found.setdefault(table, set()).update(words.replace(" (region, id)", "").split(", "))
    for table in ("products", "customers"):  # which the administrator fills
        found[table].add("INSERT")
    return {table: ", ".join(sorted(words)) for table, words in found.items()}


@dataclass
class RunningPostgres:
    """A plain PostgreSQL 18 with an empty store in it."""

    server: postgres.Server
    passwords: dict[str, str]

    @property
    def authority(self) -> Path | None:
        """Where the authority of its certificate is; None where it speaks no TLS."""
        return self.server.host.state / "tls" / "ca.pem" if self.server.tls else None

    def options(self, user: str = ALL, **more: Any) -> Relational:
        """How a user reaches the store."""
        document = {"port": self.server.port, "user": user, "password": self.passwords[user]}
        document |= {"ca_file": self.authority}
        return Relational.model_validate(document | more)

    def sql(self) -> psycopg.Connection[Any]:
        """The administrator's connection to the store, in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.server.port,
            user=self.server.superuser,
            password=self.server.password_file.read_text().strip(),
            dbname="shop",
            autocommit=True,
        )

    def administrator(self) -> Administrator:
        """Who makes tables and users."""
        return Administrator(self.options(), self.server.superuser, self.server.password_file.read_text().strip())

    def prepare(self) -> list[str]:
        """Have the tables and users; what was made."""

        async def body() -> list[str]:
            made = self.administrator()
            try:
                await made.prepare(self.passwords, {**RIGHTS, ALL: everything()})
            finally:
                await made.close()
            return made.changes

        return asyncio.run(body())

    @property
    def place(self) -> Instance:
        """Where it is, as a cluster's description says."""
        return Instance("shop-postgres", postgres.HOST, self.server.port)

    def settings_of(self, service: str) -> dict[str, Any]:
        """What the file of a service says of its store; who has no carts has nothing in the cluster."""
        cluster: dict[str, Any] = {} if service == "order" else {"mongodb": None}
        return {"store": self.options(f"shop_{service}").model_dump(mode="json"), **cluster}

    def migrate(self, cluster: EmbeddedCluster) -> Migrated:
        """Run `shardmart shop migrate`; the passwords lie among the cluster's afterwards."""
        secrets_folder = cluster.folder / "secrets"
        for user, password in self.passwords.items():
            (secrets_folder / f"{user.replace('shop_', 'shop-postgres-')}.password").write_text(password)
        (secrets_folder / "shop-postgres.password").write_text(self.server.password_file.read_text())
        document = {"mongodb": {"uri": cluster.uri("shop-order")}, "tokens": {"keys": ["k" * 32]}}
        settings = Settings.model_validate(document | self.settings_of("order"))
        return asyncio.run(migrate(settings, secrets_folder, self.server.superuser))


@contextmanager
def running_postgres(folder: Path, *, tls: bool = False) -> Iterator[RunningPostgres]:
    """A server with the store's tables; removed at the end.  For `tls` its certificate is in `folder`/tls."""
    with postgres_home("store"):
        (port,) = free_ports(1)
        password = folder / "administrator.password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_hex(20))
        server = postgres.Server("store", port, "postgres", password, postgres.Host(folder), peers=False, tls=tls)
        try:
            postgres.converge([server], Deadline(400 if tls else 120))  # Maven may have to fetch it
            made = RunningPostgres(server, {user: secrets.token_hex(20) for user in (*RIGHTS, ALL)})
            made.prepare()
            yield made
        finally:
            postgres.remove([server], Deadline(120))


class PostgresKit(Kit):
    """A store on PostgreSQL's protocol."""

    def __init__(self, options: Relational, seconds: float = 30) -> None:
        self.options = options
        self.pool = self.pooled(options, seconds)
        store = PostgresStore(self.pool, LANES, seconds=seconds)
        super().__init__(options.flavour, store, PostgresLog(self.pool))
        self._administrator: Administrator | None = None

    @classmethod
    def of_administrator(cls, options: Relational) -> PostgresKit:
        """On a server that is there, in a database of its own."""
        made = cls(options)
        made._administrator = Administrator(options, options.user, options.password)
        made.run(made._administrator.prepare({}))
        return made

    def lanes(self, service: str, instance: str, lease_seconds: float = 60) -> Lanes:
        return PostgresLanes(self.pool, service, instance, REGIONS, LANES, lease_seconds)

    async def add_product(self, id_: str, stock: int, price_cents: int = 100) -> None:
        await self.pool.rows("INSERT INTO products VALUES (%s, 'Tea', %s, %s)", [id_, price_cents, stock])

    async def add_customer(self, region: str, user: str) -> None:
        await self.pool.rows("INSERT INTO customers VALUES (%s, %s, 'Ann', 'ann@shop.example')", [region, user])

    @staticmethod
    def pooled(options: Relational, seconds: float) -> Pool:
        """Connections to the store."""
        return pool_of(options, "contract", seconds)

    @classmethod
    def behind(cls, options: Relational, port: int) -> PostgresStore:
        """A store that is reached through another port, in the loop that runs."""
        return PostgresStore(cls.pooled(options.model_copy(update={"port": port}), 30), LANES, seconds=30)

    def close(self) -> None:
        """Give back its connections and end its loop."""

        async def body() -> None:
            await self.pool.close()
            if self._administrator:
                await self._administrator.close()

        self.run(body())
        self.runner.close()
