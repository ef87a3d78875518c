"""The topology's keys `services` and `backends`: which services the shop has, how many instances, on which ports.

A key that is left out has its default, so `services: {}` is the whole shop.  `describe` says what runs on the embedded
platform.  Nothing here starts anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shardmart.cluster import shop
from shardmart.cluster.shop import (
    BALANCED,
    CACHE_BUS_PORTS,
    CONTROLLER_PORTS,
    ETCD_PEER_PORTS,
    PATRONI_PORTS,
    SINGLE,
    Instance,
)
from shardmart.shop.settings import PORTS

Port = Annotated[int, Field(ge=1024, le=65535)]
MAX_INSTANCES = 10

INSTANCES_FROM = {name: 30_000 + MAX_INSTANCES * n for n, name in enumerate(BALANCED)}
"""Port of a service's first instance: below the ports that Linux gives to outgoing connections (32768 and up)."""
CACHE_PORT, POSTGRES_PORT, KAFKA_PORT, MAIL_PORT, ETCD_PORT = 6379, 5432, 9092, 3025, 2379
ENTRANCE_PORT = 5430
LOOPBACK = "127.0.0.1"
MONGODB = "mongodb"
CARTS = "carts"
"""The ring that has the carts where nothing else is said."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Balanced(_Strict):
    """A service behind the load balancer: its `port` is the balancer's, its instances have ports of their own."""

    port: Port | None = None
    instances: int = Field(2, ge=1, le=MAX_INSTANCES)
    instances_from: Port | None = None


class Single(_Strict):
    """A service of one process."""

    port: Port | None = None


class Services(_Strict):
    """The services of the shop."""

    catalogue: Balanced = Balanced()
    order: Balanced = Balanced()
    inventory: Balanced = Balanced()
    payment: Balanced = Balanced()
    notification: Balanced = Balanced()
    provider: Single = Single()
    console: Single = Single()

    def balanced(self) -> Iterator[tuple[str, Balanced]]:
        """Name and declaration of each service behind the load balancer."""
        return ((name, getattr(self, name)) for name in BALANCED)

    def port(self, name: str) -> int:
        """Where callers find the service."""
        return getattr(self, name).port or PORTS[name]

    def first_port(self, name: str) -> int:
        """Port of the first instance of a service behind the load balancer."""
        return getattr(self, name).instances_from or INSTANCES_FROM[name]

    def ports(self) -> Iterator[tuple[str, int]]:
        """Every port with the key that gives it."""
        for name in (*BALANCED, *SINGLE):
            yield f"services.{name}.port", self.port(name)
        for name, service in self.balanced():
            for n in range(service.instances):
                yield f"services.{name}.instances_from", self.first_port(name) + n


POSTGRES_KEYS = frozenset({"postgres_host", "postgres_port", "postgres_flavour", "postgres_nodes"})
PATRONI_KEYS = frozenset({"etcd_port", "postgres_entrance_port"})
KAFKA_KEYS = frozenset({"kafka_brokers", "kafka_port"})
REDIS_CLUSTER = "redis-cluster"
CACHE_PRIMARIES = 3
"""Fewer can not agree on who is gone."""


class Backends(_Strict):
    """What the services keep their data in; the first of each is what needs nothing more."""

    tls: bool | None = None
    """Whether PostgreSQL and the cache speak TLS and nothing else; as the cluster does unless it is said."""
    store: Literal["mongodb", "postgres"] = "mongodb"
    """Where orders, stock, payments, notifications and events are."""
    event_log: Literal["mongodb", "kafka"] = "mongodb"
    kafka_brokers: Literal[1, 3] = 1
    """With three, one may be lost and no event with it."""
    kafka_port: Port = KAFKA_PORT
    """Of the first broker; the others follow, and their controllers listen ten ports above."""
    cache: Literal["redis", "redis-cluster", "memory"] = "redis"
    cache_port: Port = CACHE_PORT
    """Of the first node of a cluster; the others follow, and among themselves they speak ten ports above."""
    cache_replicas: Literal[0, 1] = 0
    """Of each of the three nodes of a cluster; without one, a node that is gone takes its part of the stocks along."""
    mail: Literal["server", "none"] = "server"
    """Where e-mail goes: a mail server on this machine that keeps what it takes, or nowhere.  On Kubernetes the chart's
    values say it."""
    mail_port: Port = MAIL_PORT
    carts: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] | None = None
    """The ring that has the carts, or `mongodb`; by default the ring `carts` where the topology has one."""
    catalogue: Literal["mongodb", "postgres"] = "mongodb"
    """Where the catalogue's products are; with `postgres`, metadata stay in MongoDB and stock is read from Redis."""
    postgres_host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:-]+$")] | None = None
    """A server that is there; without it one is started on this machine, for the catalogue and the store."""
    postgres_port: Port = POSTGRES_PORT
    """Of the first server; with three the others follow, and their Patronis listen ten ports above."""
    postgres_nodes: Literal[1, 3] = 1
    """With three, under Patroni, one may be lost and no order with it."""
    postgres_entrance_port: Port = ENTRANCE_PORT
    """Where the load balancer passes connections on to the one of three servers that leads."""
    etcd_port: Port = ETCD_PORT
    """Of the first of etcd's three members, where Patroni keeps who leads; the others follow, and among themselves they
    speak ten ports above."""
    postgres_flavour: Literal["plain", "citus", "cockroach"] = "plain"

    @model_validator(mode="after")
    def _what_the_catalogue_needs(self) -> Self:
        if self.catalogue == "postgres" and self.cache != "redis":
            raise ValueError(
                f"`cache: {self.cache}` cannot be with `catalogue: postgres`, which reads stock from Redis: "
                "say `cache: redis`, or `catalogue: mongodb`"
            )
        if self.postgres_flavour == "cockroach" and self.catalogue == "postgres":
            raise ValueError(
                "`postgres_flavour: cockroach` cannot be with `catalogue: postgres`, whose flavours are plain and citus"
            )
        return self

    @model_validator(mode="after")
    def _what_postgresql_is_for(self) -> Self:
        if self.postgres_flavour != "plain" and self.postgres_host is None:
            raise ValueError(
                f"`postgres_flavour: {self.postgres_flavour}` needs `postgres_host`, the address of such a server: "
                "what is started here is PostgreSQL, `postgres_flavour: plain`"
            )
        if "mongodb" == self.catalogue == self.store and (named := sorted(self.model_fields_set & POSTGRES_KEYS)):
            raise ValueError(
                f"`{named[0]}` has no use while `catalogue` and `store` are mongodb: leave it out, or say "
                "`catalogue: postgres` or `store: postgres`"
            )
        if self.store == "postgres" and "event_log" in self.model_fields_set:
            raise ValueError(
                f"`event_log: {self.event_log}` has no use with `store: postgres`, where events are followed in "
                "the store: leave it out"
            )
        return self

    @model_validator(mode="after")
    def _what_patroni_is_for(self) -> Self:
        if self.postgres_nodes == 1:
            if named := sorted(self.model_fields_set & PATRONI_KEYS):
                raise ValueError(f"`{named[0]}` has no use with `postgres_nodes: 1`: leave it out, or say 3")
        elif self.postgres_host is not None:
            raise ValueError(
                f"`postgres_nodes: {self.postgres_nodes}` has no use with `postgres_host`, a server that is there: "
                "leave one of them out"
            )
        elif self.catalogue == "postgres" or self.store != "postgres":
            raise ValueError(
                f"`postgres_nodes: {self.postgres_nodes}` is for the store alone: say `store: postgres` and "
                "`catalogue: mongodb`"
            )
        return self

    @model_validator(mode="after")
    def _kafka_is_asked_for(self) -> Self:
        if self.event_log != "kafka" and (named := sorted(self.model_fields_set & KAFKA_KEYS)):
            raise ValueError(
                f"`{named[0]}` has no use with `event_log: {self.event_log}`: leave it out, or say `event_log: kafka`"
            )
        if self.cache != REDIS_CLUSTER and "cache_replicas" in self.model_fields_set:
            raise ValueError(
                f"`cache_replicas` has no use with `cache: {self.cache}`: leave it out, or say `cache: {REDIS_CLUSTER}`"
            )
        return self

    @property
    def cache_nodes(self) -> int:
        """How many nodes the cache's cluster has; 0 where there is none."""
        return CACHE_PRIMARIES * (1 + self.cache_replicas) if self.cache == REDIS_CLUSTER else 0

    @property
    def patroni_nodes(self) -> int:
        """How many servers are under Patroni, and members etcd has; 0 where there is one server or none."""
        return self.postgres_nodes if self.postgres_nodes > 1 else 0

    def ports(self) -> Iterator[tuple[str, int]]:
        """Every port with the key that gives it."""
        if self.cache == "redis":
            yield "backends.cache_port", self.cache_port
        if self.mail == "server":
            yield "backends.mail_port", self.mail_port
        for n in range(self.cache_nodes):
            yield "backends.cache_port", self.cache_port + n
            yield "backends.cache_port", self.cache_port + n + CACHE_BUS_PORTS
        if "postgres" in (self.catalogue, self.store) and self.postgres_host is None:
            for n in range(self.postgres_nodes):
                yield "backends.postgres_port", self.postgres_port + n
        if self.patroni_nodes:
            yield "backends.postgres_entrance_port", self.postgres_entrance_port
        for n in range(self.patroni_nodes):
            yield "backends.postgres_port", self.postgres_port + n + PATRONI_PORTS
            yield "backends.etcd_port", self.etcd_port + n
            yield "backends.etcd_port", self.etcd_port + n + ETCD_PEER_PORTS
        if self.event_log == "kafka":
            for n in range(self.kafka_brokers):
                yield "backends.kafka_port", self.kafka_port + n
                yield "backends.kafka_port", self.kafka_port + n + CONTROLLER_PORTS


def describe(services: Services, backends: Backends, carts: str = MONGODB, *, tls: bool = False) -> shop.Shop:
    """The shop on the embedded platform: every process on this machine's loopback.

    `carts` is the ring that has the carts, or `mongodb`; `tls` is whether the backends speak it.
    """

    def instance(name: str, port: int) -> Instance:
        return Instance(name, LOOPBACK, port)

    found = [
        shop.Service(
            name,
            LOOPBACK,
            services.port(name),
            tuple(instance(f"{name}-{n + 1}", services.first_port(name) + n) for n in range(service.instances)),
        )
        for name, service in services.balanced()
    ]
    for name in SINGLE:
        port = services.port(name)
        found.append(shop.Service(name, LOOPBACK, port, (instance(f"{name}-1", port),)))
    return shop.Shop(
        services=tuple(found),
        backends=shop.Backends(
            backends.store,
            backends.event_log if backends.store == "mongodb" else backends.store,
            backends.cache,
            backends.catalogue,
            backends.postgres_flavour,
            postgres_is_ours=backends.postgres_host is None,
            carts=carts,
            cache_replicas=backends.cache_replicas,
            tls=tls,
        ),
        cache=instance("cache-1", backends.cache_port) if backends.cache == "redis" else None,
        cache_nodes=tuple(instance(f"cache-{n + 1}", backends.cache_port + n) for n in range(backends.cache_nodes)),
        postgres=Instance("shop-postgres", backends.postgres_host or LOOPBACK, backends.postgres_port)
        if "postgres" in (backends.catalogue, backends.store) and not backends.patroni_nodes
        else None,
        postgres_nodes=tuple(
            instance(f"shop-postgres-{n + 1}", backends.postgres_port + n) for n in range(backends.patroni_nodes)
        ),
        etcd=tuple(instance(f"shop-etcd-{n + 1}", backends.etcd_port + n) for n in range(backends.patroni_nodes)),
        postgres_entrance=instance("shop-postgres", backends.postgres_entrance_port)
        if backends.patroni_nodes
        else None,
        kafka=tuple(instance(f"kafka-{n + 1}", backends.kafka_port + n) for n in range(backends.kafka_brokers))
        if backends.event_log == "kafka"
        else (),
        mail=instance("mail-1", backends.mail_port) if backends.mail == "server" else None,
        # It has a port for each service; the first stands for it.
        load_balancer=instance("load-balancer-1", services.port(BALANCED[0])),
    )
