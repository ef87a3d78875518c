"""Configuration files of the shop's processes: the cache's, and the settings of each service.

Settings are what `shardmart.shop.settings` reads (src/shardmart/shop/README.md); each service gets the secrets that it
needs and no more.  The files are of mode 0600, because they hold them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...cluster.description import LOOPBACK, Cluster
from ...cluster.shop import CACHE_BUS_PORTS, Instance, Shop
from ..embedded_kafka import brokers
from ..embedded_ring import settings_of
from ..platform import PlatformError
from ..state import cache_url, uri_of
from .files import ShopFiles

DATABASE_USERS = ("catalogue", "order", "inventory", "payment", "notification")
"""Services with a database user of their own, `shop-NAME`."""
EVENT_SERVICES = ("order", "inventory", "payment", "notification")
CACHE_READERS = ("catalogue", "inventory", "notification")
CART_SERVICES = ("catalogue", "order")
CACHE_USER = "shop"
CACHE_MB = 64
TOKENS, CACHE, PROVIDER, WEBHOOK = "shop-tokens", "shop-cache", "shop-provider", "shop-webhook"
CACHE_ADMINISTRATOR, CACHE_CLUSTER = "administrator", "shop-cache-cluster"
"""Who forms the cache's cluster and follows as replica; no service is told."""
NODE_TIMEOUT_MS = 5000
"""A node of the cache that is silent for so long is taken for gone, and its replica is elected."""
KAFKA = "shop-kafka"
POSTGRES = "shop-postgres"
MAIL, MAIL_USER = "shop-mail", "shop"
CATALOGUE_POSTGRES = "shop-catalogue-postgres"
MONITOR = "monitor"
"""Secrets that are no database user's (declare/access.yml)."""


class Secrets:
    """The folder with the shop's secrets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str) -> str:
        """A generated secret; PlatformError when it is not there."""
        file = self.folder / f"{name}.password"
        try:
            return file.read_text().strip()
        except FileNotFoundError:
            raise PlatformError(f"{file} is missing: run `make shop`, or `make up` with the shop's topology") from None


def broker_passwords(secrets: Secrets) -> dict[str, str]:
    """What Kafka's users log in with: the brokers, and each service that handles events."""
    services = {f"shop-{service}": secrets.get(f"{KAFKA}-{service}") for service in EVENT_SERVICES}
    return {brokers.BROKER: secrets.get(KAFKA), **services}


def cache_configuration(node: Instance, shop: Shop, secrets: Secrets, data: Path, socket: Path | None = None) -> str:
    """Valkey's, or Redis': loopback, a user of its own, nothing on disk (what it holds is rebuilt from the store).

    With `socket` it has no port for clients and listens there, behind what speaks TLS.
    """
    return "\n".join(
        [
            "# Written by Shardmart from the topology; changed there, not here.",
            f"bind {node.host}",
            *([f'port 0\nunixsocket "{socket}"\nunixsocketperm 600'] if socket else [f"port {node.port}"]),
            f'dir "{data}"',
            'save ""',
            # Where the catalogue reads stock from it alone, it keeps what it has; else it is a copy that is made anew.
            f"appendonly {'yes' if shop.backends.catalogue == 'postgres' else 'no'}",
            "set-proc-title no",  # or its command line would not name this file, by which it is recognised
            f"maxmemory {CACHE_MB}mb",
            f"maxmemory-policy {'noeviction' if shop.backends.catalogue == 'postgres' else 'allkeys-lru'}",
            "user default off",
            f"user {CACHE_USER} on >{secrets.get(CACHE)} ~* &* +@all -@admin -@dangerous +info +ping",
            *(_of_cache_cluster(node, secrets) if shop.cache_nodes else ()),
            "",
        ]
    )


def mail_configuration(shop: Shop, secrets: Secrets, data: Path) -> str:
    """The mail server's, JSON (`shardmart.shop.mail.server`); `data` is the folder for what it takes."""
    if shop.mail is None:
        raise ValueError("this shop has no mail server")
    place = {"host": shop.mail.host, "port": shop.mail.port, "mailbox": str(data)}
    return json.dumps(place | {"user": MAIL_USER, "password": secrets.get(MAIL)}, indent=1) + "\n"


def _of_cache_cluster(node: Instance, secrets: Secrets) -> list[str]:
    """What a node of a cluster is told beside; `embedded_shop.cache_cluster` forms it."""
    password = secrets.get(CACHE_CLUSTER)
    return [
        "cluster-enabled yes",
        "cluster-config-file nodes.conf",
        f"cluster-port {node.port + CACHE_BUS_PORTS}",
        f"cluster-announce-ip {node.host}",
        f"cluster-announce-port {node.port}",
        f"cluster-node-timeout {NODE_TIMEOUT_MS}",
        "cluster-require-full-coverage no",  # a part that is gone takes no other along
        "cluster-allow-replica-migration no",
        f"user {CACHE_ADMINISTRATOR} on >{password} ~* &* +@all",
        f"masteruser {CACHE_ADMINISTRATOR}",
        f"masterauth {password}",
    ]


def settings(service: str, cluster: Cluster, state: Path, *, data: Path) -> str:
    """The settings of every instance of `service`, JSON."""
    shop = cluster.shop
    if shop is None:
        raise ValueError("this cluster has no shop")
    secrets = Secrets(state / "secrets")
    urls = dict(shop.urls())
    found: dict[str, Any] = {
        "tokens": {"keys": [secrets.get(TOKENS)]},
        "urls": {name: urls[name] for name in DATABASE_USERS},
    }
    authority = state / "tls" / "ca.pem" if cluster.tls.spoken else None
    # Of a shop on PostgreSQL only who has carts or products there is told of the cluster.
    if service in DATABASE_USERS and (shop.backends.store == "mongodb" or service in CART_SERVICES):
        user = f"shop-{service}"
        found["mongodb"] = {"uri": uri_of(cluster, user, secrets.get(user), authority)}
    if service in CART_SERVICES and shop.backends.carts != "mongodb":
        # The file itself, which follows the ring's nodes: what is copied would be old after the next change of them.
        found["ring_settings"] = str(settings_of(state, shop.backends.carts))
    if service in EVENT_SERVICES and shop.kafka:
        found["kafka"] = {
            "brokers": [broker.address for broker in shop.kafka],
            "user": f"shop-{service}",
            "password": secrets.get(f"{KAFKA}-{service}"),
            "replicas": len(shop.kafka),
        }
        if cluster.tls.spoken:
            found["kafka"]["ca_file"] = str(state / "tls" / "ca.pem")
    if service in CACHE_READERS and shop.caches:
        found["cache"] = shop.backends.cache
        found["redis_url"] = cache_url(shop, CACHE_USER, secrets.get(CACHE), state / "tls" / "ca.pem")
    if service == "catalogue" and shop.backends.catalogue == "postgres":
        found["postgres"] = _postgres(shop, state) | {"password": secrets.get(CATALOGUE_POSTGRES)}
    if service in EVENT_SERVICES and shop.backends.store == "postgres":
        password = secrets.get(f"{POSTGRES}-{service}")
        found["store"] = _postgres(shop, state) | {"user": f"shop_{service}", "password": password}
    if service == "notification" and shop.mail:
        place = {"host": shop.mail.host, "port": shop.mail.port}
        found["smtp"] = place | {"user": MAIL_USER, "password": secrets.get(MAIL)}
    if service == "order" and shop.mail:
        # By these settings commands place an order, and show what its customer was sent.
        found["mailbox"] = str(ShopFiles(state).data(shop.mail.name))
    if service in ("payment", "provider"):
        found["provider"] = {
            "url": urls["provider"],
            "api_key": secrets.get(PROVIDER),
            "webhook_secret": secrets.get(WEBHOOK),
        }
    if service == "provider":
        found["data_folder"] = str(data)
    if service == "console":
        found["instances"] = {one.name: [instance.url for instance in one.instances] for one in shop.services}
        found["cluster"] = {
            "uri": uri_of(cluster, MONITOR, secrets.get(MONITOR), authority),
            "members": {one.name: one.addresses for one in cluster.replica_sets},
        }
        found["chaos_records"] = str(state / "chaos" / "faults")
    return json.dumps(found, indent=1) + "\n"


def _postgres(shop: Shop, state: Path) -> dict[str, Any]:
    """Where PostgreSQL is: of several servers libpq finds the one that takes writes."""
    servers = shop.postgres_servers
    if not servers:
        raise ValueError("this shop has no PostgreSQL")
    place: dict[str, Any] = {
        "host": ",".join(server.host for server in servers),
        "port": ",".join(str(server.port) for server in servers) if len(servers) > 1 else servers[0].port,
        "flavour": shop.backends.postgres_flavour,
    }
    if shop.backends.tls and shop.backends.postgres_is_ours:
        return place | {"sslmode": "verify-full", "ca_file": str(state / "tls" / "ca.pem")}
    # A server elsewhere is asked with TLS or not at all; of one that is not ours nobody knows the authority.
    is_near = all(server.host in LOOPBACK for server in servers)
    return place | {"sslmode": "prefer" if is_near and not shop.backends.tls else "require"}
