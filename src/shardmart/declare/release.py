"""The cluster that a release of the Helm chart is: names of pods, their addresses, what the certificate is for.

The chart writes what it knows of its release to the file `release.json` of a ConfigMap: names, counts and settings, no
address.  `describe` makes the description from it; the chart's pods read the file, a laptop makes the same document
from the topology (`declare.chart`).  Names follow helm/sharded-mongodb: a StatefulSet of each replica set, pods counted
from 1, one headless Service per StatefulSet.  Nothing here talks to a cluster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..cluster.description import (
    LOOPBACK,
    ROUTERS,
    Cluster,
    DescriptionError,
    Election,
    Kubernetes,
    Member,
    Node,
    Pod,
    ReplicaSet,
    Role,
    TlsSettings,
)
from ..cluster.shop import Backends, Instance, Service, Shop

RELEASE_FILE = "release.json"
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
"""What the charts take for the beginning of their objects' names, whole."""
SHOP_SUFFIX = "-shop"
"""The release of helm/shop is called so after the cluster's, unless it is said otherwise."""
FRAGMENTS_SUFFIX = "-fragments"
"""The same of the release of helm/fragments."""
CACHE_PORT = 6379
MONGODB = "mongodb"
POSTGRES = "shop-postgres"
"""What the shop's PostgreSQL is called, on every platform."""
VERSION = 1
"""Of the document in it; helm/sharded-mongodb/templates/_release.tpl writes it."""


PORT = 27_017
"""Every pod has an address of its own, so every server listens at MongoDB's default port unless told otherwise."""


@dataclass(frozen=True)
class Release:
    """Where a Helm release of the chart lives; `fullname` begins the name of every object of it."""

    name: str
    namespace: str
    fullname: str
    cluster_domain: str = "cluster.local"
    port: int = PORT


def read(path: Path) -> Cluster:
    """The cluster of the release that RELEASE_FILE tells of; FileNotFoundError, or DescriptionError."""
    try:
        return describe(json.loads(path.read_text()))
    except ValueError as error:
        raise DescriptionError(f"{path} is not JSON: {error}") from None


def describe(document: Mapping[str, Any]) -> Cluster:
    """The cluster of a release.  DescriptionError for a document of a newer chart, or that lacks something."""
    version = document.get("version")
    if version != VERSION:
        raise DescriptionError(f"{RELEASE_FILE} has version {version}, this Shardmart reads {VERSION}: use the chart's")
    try:
        return _Description(document).cluster()
    except TypeError as error:
        raise DescriptionError(f"{RELEASE_FILE} cannot be understood: {error}") from None
    except KeyError as error:
        raise DescriptionError(f"{RELEASE_FILE} lacks {error.args[0]!r}") from None


@dataclass(frozen=True)
class _Postgres:
    """What the chart's key `shop.postgres` says; `host` is a server that is there."""

    store: bool = False
    catalogue: bool = False
    host: str = ""
    port: int = 5432
    flavour: str = "plain"
    tls: bool = True

    @classmethod
    def of(cls, declared: Mapping[str, Any]) -> _Postgres:
        """The same of the document, which has the names of Secrets, too."""
        return cls(**{one.name: declared[one.name] for one in fields(cls) if one.name in declared})

    @property
    def is_there(self) -> bool:
        return self.store or self.catalogue


class _Description:
    """One document on its way to a description."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.release = Release(**document["release"])
        self.domain = f"{self.release.namespace}.svc.{self.release.cluster_domain}"

    def cluster(self) -> Cluster:
        document, release = self.document, self.release
        config_servers, *shards = document["sets"]
        election, routers = document["election"], document["routers"]
        pattern = routers["memberName"] or f"{routers['name']}-{{n}}"
        return Cluster(
            name=document["clusterName"] or release.fullname,
            platform="kubernetes",
            config_servers=self.replica_set(config_servers, Role.CONFIG),
            shards=tuple(self.replica_set(shard, Role.SHARD) for shard in shards),
            routers=tuple(
                Node(**self.place(pattern, Role.ROUTER, ROUTERS, routers["name"], n))
                for n in range(1, int(routers["replicas"]) + 1)
            ),
            zones=tuple(document["zones"]),
            election=Election(int(election["timeoutMs"]), int(election["heartbeatMs"])),
            tls=self.tls(),
            kubernetes=Kubernetes(release.name, release.namespace, f"{release.fullname}-toolbox"),
            shop=self.shop(),
        )

    def shop(self) -> Shop | None:
        """The release of helm/shop beside this one: each service is one address, behind which Kubernetes spreads."""
        declared = self.document.get("shop")
        if not declared or not declared["enabled"]:
            return None
        name = declared["name"] or f"{self.release.fullname}{SHOP_SUFFIX}"

        def one(component: str, port: int) -> Instance:
            return Instance(component, f"{name}-{component}.{self.domain}", port)

        places = [one(component, int(port)) for component, port in sorted(declared["ports"].items())]
        kafka = self.brokers(f"{name}-kafka", **declared.get("kafka", {"brokers": 0, "port": 0}))
        postgres = _Postgres.of(declared.get("postgres", {}))
        return Shop(
            services=tuple(Service(place.name, place.host, place.port, (place,)) for place in places),
            backends=Backends(
                "postgres" if postgres.store else MONGODB,
                "postgres" if postgres.store else "kafka" if kafka else MONGODB,
                "redis" if declared["cache"] else "memory",
                "postgres" if postgres.catalogue else MONGODB,
                postgres.flavour,
                postgres_is_ours=not postgres.host,
                # A server elsewhere is asked with TLS or not at all.
                tls=postgres.is_there and bool(postgres.host or (self.document["tls"]["enabled"] and postgres.tls)),
                cache_tls=self.document["tls"]["enabled"] and bool(declared.get("cacheTls")),
            ),
            cache=one("cache", CACHE_PORT) if declared["cache"] else None,
            kafka=kafka,
            postgres=self.postgres(f"{name}-postgres", postgres) if postgres.is_there else None,
        )

    def postgres(self, workload: str, declared: _Postgres) -> Instance:
        """The server that is given, else the shop's own, which is asked by its Service's name whatever pod it has."""
        if declared.host:
            return Instance(POSTGRES, declared.host, declared.port)
        return Instance(POSTGRES, f"{workload}.{self.domain}", declared.port, f"{workload}-1")

    def brokers(self, workload: str, brokers: int, port: int) -> tuple[Instance, ...]:
        """Kafka's, each by its pod's own name; none where the shop's events are in the cluster."""
        pods = {n: f"{workload}-{n}" for n in range(1, int(brokers) + 1)}
        return tuple(
            Instance(f"kafka-{n}", f"{pod}.{workload}.{self.domain}", int(port), pod) for n, pod in pods.items()
        )

    def replica_set(self, declared: Mapping[str, Any], role: Role) -> ReplicaSet:
        name = declared["replicaSet"]
        members = tuple(
            Member(
                **self.place(declared["memberName"], role, name, declared["name"], n),
                priority=float(member["priority"]),
                votes=int(member["votes"]),
                hidden=member["hidden"],
                tags=member["tags"],
                cache_mb=int(declared["cacheMB"]),
            )
            for n, member in enumerate(declared["members"], start=1)
        )
        return ReplicaSet(name, role, members, tuple(declared["zones"]) if role is Role.SHARD else ())

    def place(self, pattern: str, role: Role, group: str, component: str, ordinal: int) -> dict[str, Any]:
        """What every node has: pod `ordinal` (from 1) of the component's StatefulSet."""
        workload = self.workload(component)
        pod = Pod(f"{workload}-{ordinal}", workload, self.release.namespace)
        return {
            "name": pattern.replace("{n}", str(ordinal)),
            "role": role,
            "group": group,
            "host": f"{pod.name}.{workload}.{self.domain}",
            "port": self.release.port,
            "pod": pod,
        }

    def workload(self, component: str) -> str:
        return f"{self.release.fullname}-{component}"

    def tls(self) -> TlsSettings:
        declared = self.document["tls"]
        if not declared["enabled"]:
            return TlsSettings()
        names = dict.fromkeys([*LOOPBACK, *self.server_names(), *declared["names"]])
        return TlsSettings(declared["mode"], tuple(names), int(declared["validityDays"]), int(declared["renewDays"]))

    def server_names(self) -> list[str]:
        """What a server certificate is for: a wildcard per StatefulSet, so that more members need no new one, and the
        names of the Service that clients use."""
        release, routers = self.release, self.document["routers"]["name"]
        components = [declared["name"] for declared in self.document["sets"]]
        wildcards = [f"*.{self.workload(component)}.{self.domain}" for component in [*components, routers]]
        services = [f"{self.workload(routers)}.{self.domain}", f"{release.fullname}.{self.domain}"]
        short = [f"{release.fullname}.{release.namespace}.svc", f"{release.fullname}.{release.namespace}"]
        return [*wildcards, *services, *short, release.fullname]
