"""Three PostgreSQL servers and a ShardingSphere-Proxy before them, as processes of this machine."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from shardmart.cluster.protocol.connection import Deadline
from shardmart.platforms import postgres
from shardmart.platforms.java import java
from shardmart.platforms.maven import MissingError
from tests.support.clusters import CACHE, free_ports
from tests.support.postgres_home import postgres_home

from . import pins
from .configuration import SCHEMAS, USER, Schema, write

SERVERS = 3
START_SECONDS = 240.0
STOP_SECONDS = 60.0
LOCK_SECONDS = 5
"""How long a statement waits for another transaction: what a session is told here reaches no certain connection."""
STARTED = "started successfully"


@dataclass
class RunningProxy:
    """The proxy and the servers behind it."""

    port: int
    password: str
    servers: Sequence[postgres.Server]
    server_password: str
    folder: Path
    """Its configuration, its log, and what Atomikos knows of transactions."""
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "proxy.log"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in (said := self.log.read_text(errors="replace")):
            waited = f"ShardingSphere-Proxy said nothing of {STARTED!r} within {START_SECONDS:.0f} s"
            assert self.process.poll() is None, f"ShardingSphere-Proxy ended: {said[-2000:]}"
            assert time.monotonic() < deadline, f"{waited}: {said[-2000:]}"
            time.sleep(0.1)  # polling interval

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; with SIGKILL, too, if it does not end by itself."""
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
        self.process = None

    def connect(self, database: str = "shop", **more: Any) -> psycopg.Connection[Any]:
        """A connection of psycopg as it is, through the proxy, in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password,
            dbname=database,
            autocommit=True,
            **more,
        )

    def behind(self, number: int, database: str = "shop") -> psycopg.Connection[Any]:
        """The administrator's connection to one of the servers, past the proxy, in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1", port=self.servers[number].port, user="postgres", password=self.server_password,
            dbname=database, autocommit=True,
        )  # fmt: skip

    def counts(self, table: str, database: str = "shop") -> list[int]:
        """How many rows of a table lie on each of the servers."""
        return [len(self.lying(table, "1", number, database)) for number in range(SERVERS)]

    def lying(self, table: str, column: str, number: int, database: str = "shop") -> list[Any]:
        """A column of the rows that lie on one of the servers."""
        with self.behind(number, database) as connection:
            return [row[0] for row in connection.execute(f"SELECT {column} FROM {table}".encode())]

    def kill(self, number: int) -> None:
        """SIGKILL one of the servers with all that belongs to it."""
        server = self.servers[number].running()
        assert server, f"{self.servers[number].name} does not run"
        for process in [server, *server.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        server.wait(STOP_SECONDS)

    def have_servers(self) -> None:
        """Start those that do not run."""
        postgres.converge(self.servers, Deadline(180))

    def lose(self, number: int) -> None:
        """SIGKILL one of the servers, and start it again."""
        self.kill(number)
        self.have_servers()

    def prepared(self) -> list[str]:
        """Transactions that servers have prepared and neither committed nor rolled back."""
        found = []
        for number in range(SERVERS):
            with self.behind(number) as connection:
                found += [row[0] for row in connection.execute("SELECT gid FROM pg_prepared_xacts")]
        return found

    def end_open(self) -> None:
        """End the servers' sessions that nobody ends the transaction of: the proxy would give them to the next one."""
        for number in range(SERVERS):
            with self.behind(number) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
                )

    def forget_prepared(self) -> None:
        """Roll them back, past whoever prepared them."""
        for number in range(SERVERS):
            with self.behind(number) as connection:
                for (gid,) in connection.execute("SELECT gid FROM pg_prepared_xacts").fetchall():
                    connection.execute(f"ROLLBACK PREPARED '{gid}'".encode())


@contextmanager
def servers_behind(
    folder: Path, schemas: Sequence[Schema] = SCHEMAS
) -> Iterator[tuple[Sequence[postgres.Server], str]]:
    """Three empty servers with these databases, and their superuser's password; removed at the end."""
    with postgres_home("sharded"):
        file, password = folder / "servers.password", secrets.token_hex(20)
        file.touch(mode=0o600)
        file.write_text(password)
        # As peers they may prepare transactions (max_prepared_transactions).
        servers = [
            postgres.Server(f"ds_{number}", port, "postgres", file, postgres.Host(folder), peers=True)
            for number, port in enumerate(free_ports(SERVERS))
        ]
        try:
            postgres.converge(servers, Deadline(180))
            for server in servers:
                with psycopg.connect(
                    host="127.0.0.1", port=server.port, user="postgres", password=password, dbname="postgres",
                    autocommit=True,
                ) as connection:  # fmt: skip
                    connection.execute(f"ALTER ROLE postgres SET lock_timeout = '{LOCK_SECONDS}s'".encode())
                    for schema in schemas:
                        connection.execute(f"CREATE DATABASE {schema.name}".encode())
            yield servers, password
        finally:
            postgres.remove(servers, Deadline(120))


def have_programs() -> tuple[str, Path]:
    """Java, and the folder of the jars.  Skips, with the reason, on a machine that cannot have them."""
    try:
        program = java(pins.JAVA_VERSION, who="ShardingSphere-Proxy")
        return program, pins.LOCK.fetch(CACHE, seconds=pins.FETCH_SECONDS).folder
    except MissingError as error:
        pytest.skip(f"no ShardingSphere-Proxy on this machine: {error}")


@contextmanager
def running_proxy(
    folder: Path, schemas: Sequence[Schema] = SCHEMAS, transactions: str = "XA"
) -> Iterator[RunningProxy]:
    """A proxy that ends its transactions by XA or LOCAL, before three empty servers; removed at the end."""
    program, jars = have_programs()
    with servers_behind(folder, schemas) as (servers, password):
        own = Path(tempfile.mkdtemp(prefix="proxy-", dir=folder))
        (port,) = free_ports(1)
        passwords = secrets.token_hex(20), password
        write(own, schemas, [server.port for server in servers], passwords, transactions)
        start = Path(__file__).with_name("start.groovy")
        options = [
            # The proxy tells times without their zone, which is then this one.
            "-Duser.timezone=UTC",
            "-Xmx384m",
            "-XX:TieredStopAtLevel=1",
            f"-Dcom.atomikos.icatch.log_base_dir={own}",
            # What a proxy that was killed has prepared is rolled back by the next one after so long; by default 300 s.
            "-Dcom.atomikos.icatch.max_timeout=20000",
            "-Dcom.atomikos.icatch.recovery_delay=2000",
            # A session that a server ended is never given to anybody.
            "-Dcom.zaxxer.hikari.aliveBypassWindowMs=0",
        ]
        classes = ["-cp", f"{own}:{jars}/*", "groovy.ui.GroovyMain"]
        command = [program, *options, *classes, str(start), str(own), str(port)]
        running = RunningProxy(port, passwords[0], servers, password, own, command)
        try:
            running.start()
            yield running
        finally:
            with suppress(ProcessLookupError):
                running.stop()
            shutil.rmtree(own, ignore_errors=True)
