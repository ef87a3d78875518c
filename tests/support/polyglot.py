"""Real sources of a polyglot catalogue for tests: PostgreSQL, a cluster, Valkey, and one instance of the catalogue."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
import requests

from shardmart.cluster.host import processes
from shardmart.cluster.protocol.connection import Deadline
from shardmart.cluster.shop import Backends, Shop
from shardmart.cluster.shop import Instance as Place
from shardmart.platforms import postgres
from shardmart.platforms.embedded_shop import configuration, programs
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.embedded_shop.processes import cache_processes
from tests.support.clusters import EmbeddedCluster, free_ports
from tests.support.postgres_home import postgres_home
from tests.support.shops import Instance

LIMIT_SECONDS = 2.0
"""`source_seconds` of the catalogue under test: a busy machine answers within it."""


class Polyglot:
    """The three sources and the catalogue, in the folder of a running cluster."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.cluster, self.folder = cluster, cluster.folder
        postgres_port, cache_port, port = free_ports(3)
        self.secrets = self.folder / "secrets"
        for name in ("shop-postgres", configuration.CATALOGUE_POSTGRES, configuration.CACHE):
            file = self.secrets / f"{name}.password"
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(20) + "\n")
        self.server = postgres.Server(
            "shop-postgres", postgres_port, "postgres", self.password_file, postgres.Host(self.folder), peers=False
        )
        shop = Shop(
            (),
            Backends(catalogue="postgres"),
            cache=Place("cache-1", "127.0.0.1", cache_port),
            postgres=Place("shop-postgres", "127.0.0.1", postgres_port),
        )
        files = ShopFiles(self.folder)
        files.make()
        (self.cache,) = cache_processes(shop, files, programs.cache_server())
        self.redis_url = f"redis://shop:{self.secret(configuration.CACHE)}@127.0.0.1:{cache_port}/0"
        self.config = self.folder / "catalogue.json"
        self.instance = Instance("catalogue", "catalogue-1", port, self.config, self.folder / "catalogue.log")
        self.filled = False
        """Whether the seeder has been at its end once: no test takes anything away without giving it back."""
        self.write()

    @property
    def password_file(self) -> Path:
        """The password of PostgreSQL's administrator."""
        return self.secrets / "shop-postgres.password"

    def secret(self, name: str) -> str:
        """A password."""
        return (self.secrets / f"{name}.password").read_text().strip()

    def write(self, **more: Any) -> None:
        """The settings of the catalogue, with keys replaced."""
        document = {
            "mongodb": {"uri": self.cluster.uri("shop-catalogue")},
            "postgres": {"port": self.server.port, "password": self.secret(configuration.CATALOGUE_POSTGRES)},
            "redis_url": self.redis_url,
            "cache": "redis",
            "tokens": {"keys": ["k" * 32]},
            "source_seconds": LIMIT_SECONDS,
            "catalogue_fresh_seconds": 0,
            "drain_seconds": 0,
        }
        self.config.touch(mode=0o600)
        self.config.write_text(json.dumps(document | more))

    def start_servers(self) -> None:
        """Start PostgreSQL and Valkey where they do not run."""
        postgres.converge([self.server], Deadline(60))
        if not self.cache.running():
            processes.wait_until_listening(processes.start([self.cache]), Deadline(60))

    def seed_command(self) -> list[str]:
        """`shardmart shop seed`, as the role runs it."""
        command = [sys.executable, "-m", "shardmart.shop", "seed", "--json", "--config", str(self.config)]
        return [*command, "--postgres-password-file", str(self.password_file)]

    def seed(self) -> dict[str, int]:
        """Fill the sources; what each did not have before."""
        done = subprocess.run(self.seed_command(), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        self.filled = True
        document: dict[str, int] = json.loads(done.stdout)
        return document

    def contents(self) -> tuple[list[Any], list[Any], dict[str, Any]]:
        """Everything the three sources hold, in order."""
        with self.sql() as connection:
            rows = connection.execute("SELECT id, name, category, price_cents FROM products ORDER BY id").fetchall()
        with self.cluster.client() as client:
            metadata = list(client["ecommerce"]["productmetas"].find().sort("_id", 1))
        with self.redis() as client:
            keys = sorted(client.scan_iter("stock*"))
            return rows, metadata, {key: client.get(key) for key in keys}

    def sql(self, user: str = "postgres", name: str = "shop-postgres", database: str = "catalogue") -> Any:
        """A connection to PostgreSQL."""
        return psycopg.connect(
            host="127.0.0.1", port=self.server.port, user=user, password=self.secret(name), dbname=database
        )

    def redis(self) -> Any:
        """A connection to Valkey."""
        return redis.Redis.from_url(self.redis_url, decode_responses=True)

    def process_of(self, source: str) -> psutil.Process:
        """The first process of a source: for metadata the router, by which the catalogue reaches it."""
        found = {
            "products": self.server.running,
            "stock": self.cache.running,
            "metadata": self.cluster.processes[self.cluster.description.routers[0].name].running,
        }[source]()
        assert found, f"{source} does not run"
        return found

    def signal(self, source: str, number: int) -> None:
        """Send a signal to every process of a source; after SIGKILL they are gone."""
        first = self.process_of(source)
        family = [first, *first.children(recursive=True)]
        for process in family:  # the first of them first: it then begins no more
            with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's end with the one that began them
                process.send_signal(number)
        if number == signal.SIGKILL:
            for process in family:
                process.wait(60)

    def start(self, source: str) -> None:
        """Start a source where it does not run."""
        if source == "metadata":
            router = self.cluster.description.routers[0].name
            if not self.cluster.processes[router].running():
                self.cluster.start(router)
        else:
            self.start_servers()

    def get(self, path: str = "/api/products?limit=5") -> requests.Response:
        """Ask the catalogue."""
        return requests.get(self.instance.url + path, timeout=30)

    def destroy(self) -> None:
        """End everything that was started here."""
        if self.instance.process:
            self.instance.process.kill()
            self.instance.process.wait(10)
        for found in (self.server.running(), self.cache.running()):
            for process in [found, *found.children(recursive=True)] if found else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                    process.wait(60)


@contextmanager
def polyglot(cluster: EmbeddedCluster) -> Iterator[Polyglot]:
    """The sources run, none of them is filled; the data of PostgreSQL lies where the user it runs as may reach it."""
    with postgres_home("polyglot"):
        made = Polyglot(cluster)
        try:
            made.start_servers()
            yield made
        finally:
            made.destroy()
