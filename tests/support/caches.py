"""Real caches for tests, one server or a cluster, made by what `make shop` makes them with."""

from __future__ import annotations

import contextlib
import secrets
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from shardmart.cluster.description import Cluster
from shardmart.cluster.host.processes import Process, start, wait_until_listening
from shardmart.cluster.protocol.connection import Deadline
from shardmart.cluster.shop import Backends, Instance, Shop
from shardmart.platforms.embedded_shop import converge, programs
from shardmart.platforms.embedded_shop.configuration import CACHE, CACHE_ADMINISTRATOR, CACHE_CLUSTER
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.embedded_shop.processes import cache_processes, cache_tls_process
from shardmart.platforms.state import cache_url
from shardmart.shop.adapters.redis_cache import RedisCache
from shardmart.shop.adapters.redis_cluster import RedisClusterCache
from tests.support.certified import certify
from tests.support.clusters import free_ports, small_topology
from tests.support.shops import wait_until

SECONDS = 60
LIMIT_SECONDS = 2.0
"""Of a question to the cache: a busy machine answers within it."""


@dataclass
class RunningCache:
    """A cache that may be taken apart."""

    state: Path
    cluster: Cluster

    @property
    def shop(self) -> Shop:
        """What is described."""
        assert self.cluster.shop
        return self.cluster.shop

    def secret(self, name: str) -> str:
        """A password."""
        return (self.state / "secrets" / f"{name}.password").read_text().strip()

    @property
    def url(self) -> str:
        """The one of services."""
        return cache_url(self.shop, "shop", self.secret(CACHE), self.state / "tls" / "ca.pem")

    @property
    def tls(self) -> dict[str, Any]:
        """What a client of redis-py says of it."""
        return {"ssl": True, "ssl_ca_certs": str(self.state / "tls" / "ca.pem")} if self.shop.cache_tls else {}

    def reader(self, node: Instance, **login: Any) -> Any:
        """A connection to one node; without `login` as a service."""
        login = login or {"username": "shop", "password": self.secret(CACHE)}
        return redis.Redis(host=node.host, port=node.port, **self.tls, **login)

    def client(self) -> RedisCache | RedisClusterCache:
        """As a service has it."""
        kind = RedisClusterCache if self.shop.cache_nodes else RedisCache
        return kind(self.url, LIMIT_SECONDS)

    def converge(self, *, check_mode: bool = False) -> list[str]:
        """As the role does."""
        return converge.started("cache", self.cluster, self.state, Deadline(SECONDS), check_mode=check_mode)

    def process(self, name: str) -> Process:
        """A server, or what speaks TLS for it, as a process."""
        return next(one for one in self.processes() if one.name == name)

    def processes(self) -> list[Process]:
        """All of them."""
        files = ShopFiles(self.state)
        servers = cache_processes(self.shop, files, programs.cache_server())
        return servers + ([cache_tls_process(self.shop, files, programs.envoy())] if self.shop.cache_tls else [])

    def kill(self, *names: str) -> None:
        """SIGKILL."""
        for name in names:
            live = self.process(name).running()
            assert live
            live.send_signal(signal.SIGKILL)
            live.wait(SECONDS)

    def start(self, *names: str) -> None:
        """Start again what was killed."""
        wait_until_listening(start([self.process(name) for name in names]), Deadline(SECONDS))

    def stop(self) -> None:
        """End all."""
        converge.stopped("cache", self.state, Deadline(SECONDS))

    def administrator(self, name: str) -> Any:
        """A connection of the cluster's administrator to one node."""
        node = next(one for one in self.shop.caches if one.name == name)
        return redis.Redis(
            host=node.host, port=node.port, username=CACHE_ADMINISTRATOR, password=self.secret(CACHE_CLUSTER),
            decode_responses=True, socket_timeout=SECONDS, **self.tls,
        )  # fmt: skip

    def rows(self, name: str) -> list[list[str]]:
        """CLUSTER NODES of one node: id, address, flags, primary, …, slots."""
        with self.administrator(name) as node:
            return [line.split() for line in node.execute_command("CLUSTER", "NODES").splitlines()]

    def roles(self, name: str) -> Mapping[str, str]:
        """`primary`, `replica` or `failed` for each node, as one of them sees it."""
        names = {node.address: node.name for node in self.shop.cache_nodes}
        found = {}
        for _, address, flags, *_ in self.rows(name):
            role = (
                "failed" if {"fail", "fail?"} & set(flags.split(",")) else "replica" if "slave" in flags else "primary"
            )
            found[names[address.partition("@")[0]]] = role
        return found

    def holder(self, product: str) -> str:
        """The node that has a product's stock, as the first one sees it that answers."""
        slot = key_slot(f"stock:{product}".encode())
        for known in self.shop.cache_nodes:
            with contextlib.suppress(redis.ConnectionError), self.administrator(known.name) as asked:
                for first, last, primary, *_ in asked.execute_command("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(node.name for node in self.shop.cache_nodes if node.port == primary[1])
        raise AssertionError(f"nobody has slot {slot}")

    def must_be_whole(self) -> None:
        """Wait until every node sees every other one well."""
        nodes = self.shop.cache_nodes
        wait_until(
            lambda: all("failed" not in self.roles(node.name).values() for node in nodes),
            "every node to be well",
            SECONDS,
        )


@contextlib.contextmanager
def running_cache(folder: Path, kind: str, replicas: int = 0, *, tls: bool = False) -> Iterator[RunningCache]:
    """A cache of this kind (`redis`, `redis-cluster`) in a folder of its own."""
    (folder / "secrets").mkdir(parents=True)
    if tls:
        certify(folder)
    for name in (CACHE, CACHE_CLUSTER):
        (folder / "secrets" / f"{name}.password").write_text(secrets.token_hex(20) + "\n")
    count = 3 * (1 + replicas) if kind == "redis-cluster" else 0
    first = free_ports(10 + max(count, 1))[0]
    nodes = tuple(Instance(f"cache-{n + 1}", "127.0.0.1", first + n) for n in range(count))
    one = None if nodes else Instance("cache-1", "127.0.0.1", first)
    shop = Shop((), Backends(cache=kind, cache_replicas=replicas, tls=tls), cache=one, cache_nodes=nodes)
    made = RunningCache(folder, replace(small_topology(), shop=shop))
    try:
        made.converge()
        yield made
    finally:
        made.stop()
