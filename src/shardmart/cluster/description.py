"""What there is of a cluster, typed: replica sets, nodes, the shop and where each of them runs; read and written here.

`cluster.json` in the state folder holds it, with the version of its shape; a file of an older version is still read.
Nothing here knows a topology file, Ansible or a platform, and nothing here talks to a server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UNREACHABLE
from .errors import ClusterError
from .shop import Shop
from .shop import parse as parse_shop

_T = TypeVar("_T", bound="Node | ReplicaSet")
VERSION = 3
"""Of the file.  2 had no shop; 1 had no version, called the platform `kind`, said of a pod its host name only."""

DISABLED, REQUIRE_TLS = "disabled", "requireTLS"
"""Of `net.tls.mode`; the chart also has `allowTLS` and `preferTLS`, whose servers answer both ways."""


LOOPBACK = ("localhost", "127.0.0.1")
"""Names that every server certificate carries."""
ROUTERS = "routers"
"""The group of the routers, which are in no replica set."""


class DescriptionError(ClusterError):
    """The description is missing a fact, holds one that cannot be, or was written by a newer Shardmart."""

    exit_code = UNREACHABLE


class Role(StrEnum):
    """What a node does."""

    CONFIG = "config"
    SHARD = "shard"
    ROUTER = "router"
    SERVICE = "service"
    """A process of the shop beside the cluster: an instance of a service, the cache, the load balancer."""


@dataclass(frozen=True)
class Pod:
    """Where a node of the kubernetes platform runs: its pod, the StatefulSet that keeps it, the namespace of both."""

    name: str
    workload: str
    namespace: str


@dataclass(frozen=True)
class Node:
    """One server: a member of a replica set or a router.

    `group` is the name of its replica set, ROUTERS for a router.  `pod` is None for a process of this machine.
    """

    name: str
    role: Role
    group: str
    host: str
    port: int
    pod: Pod | None = None

    @property
    def address(self) -> str:
        """ "host:port"; an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def as_document(self) -> dict[str, Any]:
        """Plain data without role and group: where a node stands in a description says both."""
        document = {key: value for key, value in asdict(self).items() if key not in {"role", "group"}}
        return document if self.pod else {key: value for key, value in document.items() if key != "pod"}


@dataclass(frozen=True)
class Member(Node):
    """A member of a replica set, with what its configuration says of it; `cache_mb` in MiB."""

    priority: float = 1
    votes: int = 1
    hidden: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    cache_mb: int = 256


@dataclass(frozen=True)
class ReplicaSet:
    """The config servers, or one shard."""

    name: str
    role: Role
    members: tuple[Member, ...]
    zones: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The members' addresses, in order."""
        return tuple(member.address for member in self.members)

    @property
    def connection_string(self) -> str:
        """ "name/host:port,host:port", as MongoDB writes the seeds of a set."""
        return f"{self.name}/{','.join(self.addresses)}"

    def as_document(self) -> dict[str, Any]:
        """Plain data; only a shard has zones."""
        document = {"name": self.name, "members": [member.as_document() for member in self.members]}
        return document | ({"zones": list(self.zones)} if self.role is Role.SHARD else {})


@dataclass(frozen=True)
class Election:
    """How soon a set notices that its primary is gone, milliseconds."""

    timeout_ms: int = 10_000
    heartbeat_ms: int = 2_000


@dataclass(frozen=True)
class TlsSettings:
    """Whether servers speak TLS, the names their certificate carries, and its life in days."""

    mode: str = DISABLED
    names: tuple[str, ...] = ()
    validity_days: int = 90
    renew_days: int = 30

    @property
    def spoken(self) -> bool:
        """Whether the servers are to be spoken to by TLS."""
        return self.mode != DISABLED

    @property
    def required(self) -> bool:
        """Whether every server speaks TLS and nothing else."""
        return self.mode == REQUIRE_TLS


@dataclass(frozen=True)
class Kubernetes:
    """The Helm release that runs a cluster of the kubernetes platform."""

    release: str
    namespace: str
    toolbox: str
    """Name of the toolbox's Deployment."""
    kubeconfig: str | None = None
    """The file that reaches its API from this machine; None for the state folder's own, or in a pod."""
    context: str | None = None
    """The context of that file; None for its current one."""


@dataclass(frozen=True)
class Cluster:
    """A whole cluster.  Its `platform`, `embedded` or `kubernetes`, has a module in `shardmart.platforms`; the fact
    `kubernetes` is None for the former."""

    name: str
    platform: str
    config_servers: ReplicaSet
    shards: tuple[ReplicaSet, ...]
    routers: tuple[Node, ...]
    zones: tuple[str, ...] = ()
    election: Election = Election()
    tls: TlsSettings = TlsSettings()
    kubernetes: Kubernetes | None = None
    shop: Shop | None = None

    @property
    def replica_sets(self) -> tuple[ReplicaSet, ...]:
        """The config servers, then the shards."""
        return (self.config_servers, *self.shards)

    @property
    def members(self) -> tuple[Member, ...]:
        """Every member of every set, config servers first."""
        return tuple(member for replica_set in self.replica_sets for member in replica_set.members)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every member, then every router."""
        return (*self.members, *self.routers)

    def node(self, name: str) -> Node:
        """The node called `name`; DescriptionError that lists the names there are."""
        return _named(name, self.nodes, "node")

    def replica_set(self, name: str) -> ReplicaSet:
        """The replica set called `name`; DescriptionError that lists the names there are."""
        return _named(name, self.replica_sets, "replica set")

    def reached_by(self, kubeconfig: str | None, context: str | None) -> Cluster:
        """The same cluster with the way to its API from this machine; nothing to say of one without Kubernetes."""
        if self.kubernetes is None:
            return self
        return replace(self, kubernetes=replace(self.kubernetes, kubeconfig=kubeconfig, context=context))

    def as_document(self) -> dict[str, Any]:
        """Plain data: the content of the file and of Ansible's `cluster` variable; `parse` reads it back."""
        return {
            "version": VERSION,
            "name": self.name,
            "platform": self.platform,
            "kubernetes": asdict(self.kubernetes) if self.kubernetes else None,
            "election": asdict(self.election),
            "tls": asdict(self.tls) | {"names": list(self.tls.names)},
            "zones": list(self.zones),
            "config_servers": self.config_servers.as_document(),
            "shards": [shard.as_document() for shard in self.shards],
            "routers": [router.as_document() for router in self.routers],
            "shop": self.shop.as_document() if self.shop else None,
        }

    def dumps(self) -> str:
        """The content of the file."""
        return json.dumps(self.as_document(), indent=2) + "\n"


def host_and_port(address: str) -> tuple[str, int]:
    """What `Node.address` was made of; an IPv6 host without its brackets."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def read(path: Path) -> Cluster:
    """The description in a file.  FileNotFoundError when there is none, DescriptionError when it makes no sense."""
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise DescriptionError(f"{path} is not JSON: {error}") from None
    return parse(document, str(path))


def parse(document: Mapping[str, Any], source: str = "the description of the cluster") -> Cluster:
    """The cluster that plain data describes, of this version or an older one; `source` names it in an error."""
    if not isinstance(document, Mapping):
        raise DescriptionError(f"{source} is not a mapping")
    version = document.get("version", 1)
    if not isinstance(version, int) or version > VERSION:
        raise DescriptionError(f"{source} has version {version}, this Shardmart reads up to {VERSION}: use a newer one")
    with _understood(source):
        return _cluster(_from_version_1(document) if version == 1 else document)


def parse_set(document: Mapping[str, Any], role: Role = Role.SHARD) -> ReplicaSet:
    """The replica set that plain data describes, as `ReplicaSet.as_document` gives it.

    A member without a name is called by its address.  DescriptionError for what makes no sense.
    """
    with _understood("the description of the replica set"):
        return _replica_set(document, role)


@contextmanager
def _understood(source: str) -> Iterator[None]:
    """What is wrong with plain data, said of `source` in a DescriptionError."""
    try:
        yield
    except KeyError as error:
        raise DescriptionError(f"{source} lacks {error.args[0]!r}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise DescriptionError(f"{source} cannot be understood: {error}") from None


def _cluster(document: Mapping[str, Any]) -> Cluster:
    tls = document.get("tls") or {}
    return Cluster(
        name=document["name"],
        platform=document["platform"],
        kubernetes=Kubernetes(**document["kubernetes"]) if document.get("kubernetes") else None,
        election=Election(**document.get("election") or {}),
        tls=TlsSettings(**{**tls, "names": tuple(tls.get("names", ()))}),
        zones=tuple(document.get("zones", ())),
        config_servers=_replica_set(document["config_servers"], Role.CONFIG),
        shards=tuple(_replica_set(shard, Role.SHARD) for shard in document["shards"]),
        routers=tuple(Node(**_node_arguments(router, Role.ROUTER, ROUTERS)) for router in document["routers"]),
        shop=parse_shop(document.get("shop")),
    )


def _replica_set(document: Mapping[str, Any], role: Role) -> ReplicaSet:
    name = document["name"]
    members = tuple(Member(**_node_arguments(member, role, name)) for member in document["members"])
    return ReplicaSet(name, role, members, tuple(document.get("zones", ())))


def _node_arguments(document: Mapping[str, Any], role: Role, group: str) -> dict[str, Any]:
    place = Node("", role, group, str(document["host"]), int(document["port"]))
    return dict(document) | {
        "name": document.get("name") or place.address,
        "role": role,
        "group": group,
        "host": place.host,
        "port": place.port,
        "pod": Pod(**document["pod"]) if document.get("pod") else None,
    }


def _from_version_1(document: Mapping[str, Any]) -> dict[str, Any]:
    """The same cluster in the shape of version 2."""
    return {"kind": _from_kind}.get(document["platform"], dict)(document)


def _from_kind(document: Mapping[str, Any]) -> dict[str, Any]:
    """What version 1 said of pods: host names POD.WORKLOAD.NAMESPACE.svc.DOMAIN; a router's workload was
    RELEASE-COMPONENT."""
    namespace = ""

    def with_pod(node: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal namespace
        pod, workload, namespace = node["host"].split(".")[:3]
        return dict(node) | {"pod": {"name": pod, "workload": workload, "namespace": namespace}}

    def with_pods(replica_set: Mapping[str, Any]) -> dict[str, Any]:
        return dict(replica_set) | {"members": [with_pod(member) for member in replica_set["members"]]}

    routers = [with_pod(router) for router in document["routers"]]
    release = routers[0]["pod"]["workload"].rpartition("-")[0] if routers else document["name"]
    return dict(document) | {
        "platform": "kubernetes",
        "config_servers": with_pods(document["config_servers"]),
        "shards": [with_pods(shard) for shard in document["shards"]],
        "routers": routers,
        "kubernetes": {"release": release, "namespace": namespace, "toolbox": f"{release}-toolbox"},
    }


def _named(name: str, things: tuple[_T, ...], what: str) -> _T:
    for thing in things:
        if thing.name == name:
            return thing
    raise DescriptionError(f"no {what} {name!r}; there are {', '.join(thing.name for thing in things)}")
