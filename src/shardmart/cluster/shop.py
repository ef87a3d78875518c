"""What there is of the shop, typed: its services, their instances, the cache and the load balancer.

Part of the description (`description.Cluster.shop`), which reads and writes the file.  An instance is one process or
pod of a service; nothing here starts one or talks to one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

BALANCED = ("catalogue", "order", "inventory", "payment", "notification")
"""Services of which there may be many instances behind the load balancer."""
SINGLE = ("provider", "console")
"""Services of one process: the simulated payment provider has a ledger of its own, the console holds no state."""


CONTROLLER_PORTS = 10
"""A Kafka broker is a controller, too, and that listens so many ports above."""
CACHE_BUS_PORTS = 10
"""The nodes of a Redis Cluster speak with each other so many ports above those of their clients."""
PATRONI_PORTS = 10
"""The Patroni of a PostgreSQL listens so many ports above it."""
ETCD_PEER_PORTS = 10
"""The members of etcd speak with each other so many ports above those of their clients."""


@dataclass(frozen=True)
class Instance:
    """One process of a service, or of what stands beside them; `pod` is None for a process of this machine."""

    name: str
    host: str
    port: int
    pod: str | None = None

    @property
    def address(self) -> str:
        """ "host:port"; an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://{self.address}"

    def as_document(self) -> dict[str, Any]:
        """Plain data."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Service:
    """A service: where callers find it, and its instances.

    Where there is one instance and no balancer before it, both are the same address.
    """

    name: str
    host: str
    port: int
    instances: tuple[Instance, ...]

    @property
    def url(self) -> str:
        """The base URL for callers."""
        return Instance(self.name, self.host, self.port).url

    def as_document(self) -> dict[str, Any]:
        """Plain data."""
        instances = [instance.as_document() for instance in self.instances]
        return {"name": self.name, "host": self.host, "port": self.port, "instances": instances}


@dataclass(frozen=True)
class Backends:
    """Which product serves as store, event log and cache; the services are told, and nothing else asks."""

    store: str = "mongodb"
    event_log: str = "mongodb"
    cache: str = "redis"
    catalogue: str = "mongodb"
    postgres_flavour: str = "plain"
    postgres_is_ours: bool = True
    """Whether PostgreSQL is started and stopped with the shop, or was there before."""
    carts: str = "mongodb"
    """The ring that has the carts, or `mongodb`."""
    cache_replicas: int = 0
    """Of each primary of the cache's cluster."""
    tls: bool = False
    """Whether PostgreSQL and the cache speak TLS and nothing else."""
    cache_tls: bool | None = None
    """Whether the cache does in pods, where each follows values of its own; None on one machine."""


@dataclass(frozen=True)
class Shop:
    """The shop of a cluster.  `cache` is the one server of the backend `redis`, `cache_nodes` are those of
    `redis-cluster`, primaries first; `load_balancer` is None where Kubernetes spreads.

    `kafka` are the brokers with the events, none where they are followed in MongoDB.  `mail` is the mail server of this
    machine that keeps what it takes, None where there is none.
    `postgres` is the server with the store or the catalogue's products, None where both are in MongoDB; it may run as
    another user, and so is none of `processes`.  In pods its host is its Service's name.  The same holds for
    `postgres_nodes`, the servers with the store under Patroni, and `etcd`, where that keeps who leads: where they are,
    `postgres` is None.
    """

    services: tuple[Service, ...]
    backends: Backends = Backends()
    cache: Instance | None = None
    load_balancer: Instance | None = None
    postgres: Instance | None = None
    kafka: tuple[Instance, ...] = ()
    mail: Instance | None = None
    cache_nodes: tuple[Instance, ...] = ()
    postgres_nodes: tuple[Instance, ...] = ()
    etcd: tuple[Instance, ...] = ()
    postgres_entrance: Instance | None = None
    """Where the load balancer passes connections on to whichever of `postgres_nodes` leads: for tools that know one
    address.  The shop's own services know all the nodes."""

    @property
    def postgres_servers(self) -> tuple[Instance, ...]:
        """PostgreSQL's servers, one or those under Patroni; none where all is in MongoDB."""
        return (self.postgres,) if self.postgres else self.postgres_nodes

    @property
    def caches(self) -> tuple[Instance, ...]:
        """The servers of the cache, one or a cluster's; none where there is no cache."""
        return (self.cache,) if self.cache else self.cache_nodes

    @property
    def cache_speaks_tls(self) -> bool:
        """Whether the cache is spoken to by TLS and not otherwise."""
        return bool(self.caches) and (self.backends.tls if self.backends.cache_tls is None else self.backends.cache_tls)

    @property
    def cache_tls(self) -> Instance | None:
        """The process that speaks TLS for the cache, at the addresses of its servers; None where none does.  In pods it
        is a container beside the server and no part of its own."""
        if not self.cache_speaks_tls or self.backends.cache_tls is not None:
            return None
        return replace(self.caches[0], name="tls-cache-1")  # it has a port for each; the first stands for it

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Every instance of every service, in order."""
        return tuple(instance for service in self.services for instance in service.instances)

    @property
    def processes(self) -> tuple[Instance, ...]:
        """All that runs: the cache, its TLS, the brokers, the mail server, the instances, the load balancer."""
        cache = (*self.caches, self.cache_tls)
        return tuple(one for one in (*cache, *self.kafka, self.mail, *self.instances, self.load_balancer) if one)

    def service(self, name: str) -> Service | None:
        """The service called `name`, None when there is none."""
        return next((service for service in self.services if service.name == name), None)

    def service_of(self, instance: str) -> Service | None:
        """The service that has an instance of this name, None when none has."""
        return next((s for s in self.services if instance in (one.name for one in s.instances)), None)

    def urls(self) -> Iterator[tuple[str, str]]:
        """Name and base URL of each service."""
        return ((service.name, service.url) for service in self.services)

    def as_document(self) -> dict[str, Any]:
        """Plain data; `parse` reads it back."""
        return {
            "services": [service.as_document() for service in self.services],
            "backends": asdict(self.backends),
            "cache": self.cache.as_document() if self.cache else None,
            "load_balancer": self.load_balancer.as_document() if self.load_balancer else None,
            "postgres": self.postgres.as_document() if self.postgres else None,
            "kafka": [broker.as_document() for broker in self.kafka],
            "mail": self.mail.as_document() if self.mail else None,
            "cache_nodes": [node.as_document() for node in self.cache_nodes],
            "postgres_nodes": [node.as_document() for node in self.postgres_nodes],
            "etcd": [member.as_document() for member in self.etcd],
            "postgres_entrance": self.postgres_entrance.as_document() if self.postgres_entrance else None,
        }


def parse(document: Mapping[str, Any] | None) -> Shop | None:
    """The shop that plain data describes.  KeyError, TypeError or ValueError for what makes no sense."""
    if not document:
        return None
    return Shop(
        services=tuple(
            Service(one["name"], one["host"], int(one["port"]), tuple(map(_instance, one["instances"])))
            for one in document["services"]
        ),
        backends=Backends(**document["backends"]),
        cache=_instance(document["cache"]) if document.get("cache") else None,
        load_balancer=_instance(document["load_balancer"]) if document.get("load_balancer") else None,
        postgres=_instance(document["postgres"]) if document.get("postgres") else None,
        kafka=tuple(map(_instance, document.get("kafka", ()))),
        mail=_instance(document["mail"]) if document.get("mail") else None,
        cache_nodes=tuple(map(_instance, document.get("cache_nodes", ()))),
        postgres_nodes=tuple(map(_instance, document.get("postgres_nodes", ()))),
        etcd=tuple(map(_instance, document.get("etcd", ()))),
        postgres_entrance=_instance(document["postgres_entrance"]) if document.get("postgres_entrance") else None,
    )


def _instance(document: Mapping[str, Any]) -> Instance:
    return Instance(**dict(document) | {"port": int(document["port"])})
