"""The topology file, read and checked: every replica set, member, zone, router and port of a cluster.

A wrong topology raises `TopologyError` with one line per fault, each naming the key.  A file may extend another one: it
has that one's keys, and its own instead of those.  `Topology.resolve` describes the cluster on the embedded platform,
`declare.chart` on Kubernetes.  Nothing here touches a server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from shardmart.cluster import description
from shardmart.cluster.description import DISABLED, LOOPBACK, ROUTERS, Cluster, Node, Role, TlsSettings
from shardmart.declare import versions, yaml_files
from shardmart.declare.data_model import DataModel
from shardmart.declare.data_model import load as load_data_model
from shardmart.declare.replica_sets import MIN_CACHE_MB, Election, Name, Port, ReplicaSet, Routers, Shard, Strict
from shardmart.declare.rings import Ring
from shardmart.declare.services import CARTS, MONGODB, Backends, Services
from shardmart.declare.services import describe as describe_shop
from shardmart.errors import BadUseError

ServerName = Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9:]([A-Za-z0-9.:-]*[A-Za-z0-9])?$", max_length=253)]


class TopologyError(BadUseError):
    """The topology file cannot be used; every line of the message names the key that is wrong."""


class Tls(Strict):
    """Whether servers and clients speak TLS, and how long a server certificate lives, days."""

    mode: Literal["disabled", "requireTLS"] = "disabled"
    names: list[ServerName] = Field(default_factory=list)
    validity_days: int = Field(90, ge=1, le=825)
    renew_days: int = Field(30, ge=0)

    @model_validator(mode="after")
    def _renewed_before_the_end(self) -> Self:
        if self.renew_days >= self.validity_days:
            raise ValueError(
                f"`renew_days` ({self.renew_days}) must be less than `validity_days` ({self.validity_days}), "
                "or every run would renew"
            )
        return self


class MongoDB(Strict):
    """Which MongoDB the members run; without a version, the first of versions.yml."""

    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+(-[a-z0-9]+)?$")] = Field(
        default_factory=lambda: versions.load().mongodb
    )


class Fragments(Strict):
    """The relational store in fragments (docs/fragments.md): a PostgreSQL server for each region of the data model.

    With `catch_all` products outside every price band have a fragment of their own; without it they are refused.
    `tls` is that of the cluster unless it is said.
    """

    port: Port = 5501
    catch_all: bool = False
    tls: bool | None = None

    def servers(self) -> list[tuple[str, int]]:
        """Name and port of each server; a server is called like its region."""
        return [(region, self.port + n) for n, region in enumerate(load_data_model().regions)]

    def as_variable(self) -> dict[str, Any]:
        """Plain data for Ansible."""
        servers = [{"name": name, "port": port} for name, port in self.servers()]
        return {"servers": servers, "catch_all": self.catch_all, "tls": self.tls}


class Topology(Strict):
    """A cluster as its topology file declares it."""

    name: Name = "shardmart"
    mongodb: MongoDB = Field(default_factory=MongoDB)
    cache_mb: int = Field(256, ge=MIN_CACHE_MB)
    election: Election = Election()
    tls: Tls = Tls()
    zones: list[Name] = Field(default_factory=lambda: list(load_data_model().zones))
    config_servers: ReplicaSet
    shards: list[Shard] = Field(min_length=1)
    routers: Routers = Routers()
    rings: list[Ring] = Field(default_factory=list)
    fragments: Fragments = Fragments()
    services: Services | None = None
    backends: Backends = Backends()

    def replica_sets(self) -> list[tuple[str, ReplicaSet]]:
        """Every replica set with the key it stands under, config servers first."""
        return [("config_servers", self.config_servers)] + [(f"shards[{i}]", s) for i, s in enumerate(self.shards)]

    @field_validator("services", mode="before")
    @classmethod
    def _services_are_said(cls, value: object) -> object:
        """A key without a value could mean none or all of them."""
        if value is None:
            raise ValueError("expected a mapping of services; `services: {}` is every one with its defaults")
        return value

    @model_validator(mode="after")
    def _names_and_zones_agree(self) -> Self:
        _refuse_duplicates("replica set name", ((f"{key}.name", s.name) for key, s in self.replica_sets()))
        _refuse_duplicates("member name", self._member_names())
        _refuse_duplicates("zone", ((f"zones[{i}]", zone) for i, zone in enumerate(self.zones)))
        named = "zones" in self.model_fields_set
        home = "`zones`" if named else "the data model"
        for i, shard in enumerate(self.shards):
            for zone in shard.zones:
                if zone not in self.zones:
                    raise ValueError(f"shards[{i}].zones: unknown zone {zone!r}, {home} has {self.zones}")
        served = {zone for shard in self.shards for zone in shard.zones}
        for i, zone in enumerate(self.zones):
            if zone not in served:
                key = f"zones[{i}]" if named else "shards"
                raise ValueError(
                    f"{key}: no shard serves zone {zone!r}, its documents would have no home: add it to "
                    "the `zones` of one"
                )
        if self.services is None and "backends" in self.model_fields_set:
            raise ValueError(
                "backends: there are no `services` that would use them: add `services: {}`, or leave it out"
            )
        if self.backends.carts not in (None, MONGODB, *(ring.name for ring in self.rings)):
            known = ", ".join([*(ring.name for ring in self.rings), MONGODB])
            raise ValueError(f"backends.carts: there is no ring {self.backends.carts!r} in `rings`, it may be {known}")
        self._refuse_what_tls_excludes()
        _refuse_duplicates("port", self._ports())
        names = ((f"{key}.name", name) for key, name, _ in self._ring_servers())
        _refuse_duplicates("member name", chain(self._member_names(), names))
        return self

    def _member_names(self) -> Iterator[tuple[str, str]]:
        for key, replica_set in self.replica_sets():
            for name in replica_set.member_names():
                yield f"{key}.member_name", name
        for name in self.routers.member_names():
            yield "routers.member_name", name

    def _ring_servers(self) -> Iterator[tuple[str, str, int]]:
        for i, ring in enumerate(self.rings):
            for name, port in ring.servers():
                yield f"rings[{i}]", name, port

    def _ports(self) -> Iterator[tuple[str, int]]:
        for i, (key, replica_set) in enumerate(self.replica_sets()):
            for n in range(len(replica_set.members)):
                yield f"{key}.port", self.first_port(i) + n
        for n in range(self.routers.count):
            yield "routers.port", self.routers.port + n
        for key, _, port in self._ring_servers():
            yield f"{key}.port", port
        for _, port in self.fragments.servers():
            yield "fragments.port", port
        if self.services is not None:
            yield from self.services.ports()
            yield from self.backends.ports()

    def _refuse_what_tls_excludes(self) -> None:
        if self.backends.tls and self.tls.mode == DISABLED:
            raise ValueError(
                "backends.tls: there is no certificate while `tls.mode` is disabled: leave it out, or say "
                "`tls: {mode: requireTLS}`"
            )
        if self.backends.cache_replicas and self.backends_speak_tls():
            raise ValueError(
                "backends.cache_replicas: a replica of the cache copies without TLS, which the cluster speaks: say 0, "
                "or `backends: {tls: false}`"
            )

    def backends_speak_tls(self) -> bool:
        """Whether the shop's PostgreSQL and cache speak TLS on this machine."""
        return self.tls.mode != DISABLED if self.backends.tls is None else self.backends.tls

    def carts(self) -> str:
        """The ring that has the shop's carts, or `mongodb`."""
        if self.backends.carts is not None:
            return self.backends.carts
        return CARTS if any(ring.name == CARTS for ring in self.rings) else MONGODB

    def first_port(self, position: int) -> int:
        """Port of the first member of the set at `position` in `replica_sets()`: declared, or 100 apart from 27101."""
        return self.replica_sets()[position][1].port or 27_101 + 100 * position

    def resolve(self, address: Callable[[str], tuple[str, int]] | None = None) -> Cluster:
        """The cluster on the embedded platform; on Kubernetes it is `declare.chart` that describes it.

        `address(server name)` gives host and port; the default is this machine's loopback and the ports declared here.
        """
        ports: dict[str, int] = {}
        for i, (_, replica_set) in enumerate(self.replica_sets()):
            ports |= {name: self.first_port(i) + n for n, name in enumerate(replica_set.member_names())}
        ports |= {name: self.routers.port + n for n, name in enumerate(self.routers.member_names())}
        locate = address or (lambda name: ("127.0.0.1", ports[name]))

        def resolved(replica_set: ReplicaSet, role: Role) -> description.ReplicaSet:
            return description.ReplicaSet(
                name=replica_set.name,
                role=role,
                members=tuple(
                    description.Member(
                        *(name, role, replica_set.name, *locate(name)),
                        priority=member.priority,
                        votes=member.votes,
                        hidden=member.hidden,
                        tags=member.tags,
                        cache_mb=member.cache_mb or replica_set.cache_mb or self.cache_mb,
                    )
                    for name, member in zip(replica_set.member_names(), replica_set.members, strict=True)
                ),
                zones=tuple(replica_set.zones) if isinstance(replica_set, Shard) else (),
            )

        names = [*LOOPBACK, *(name for _, name in self._member_names()), *self.tls.names]
        return Cluster(
            name=self.name,
            platform="embedded",
            config_servers=resolved(self.config_servers, Role.CONFIG),
            shards=tuple(resolved(shard, Role.SHARD) for shard in self.shards),
            routers=tuple(Node(name, Role.ROUTER, ROUTERS, *locate(name)) for name in self.routers.member_names()),
            zones=tuple(self.zones),
            election=description.Election(self.election.timeout_ms, self.election.heartbeat_ms),
            tls=TlsSettings()
            if self.tls.mode == DISABLED
            else TlsSettings(self.tls.mode, tuple(dict.fromkeys(names)), self.tls.validity_days, self.tls.renew_days),
            shop=None
            if self.services is None
            else describe_shop(self.services, self.backends, self.carts(), tls=self.backends_speak_tls()),
        )


def load(path: Path) -> Topology:
    """Read and check the topology at `path`; raises TopologyError that names the file and every wrong key.

    Its zones are those of the data model, or it is refused.
    """
    document = _document(path)
    if isinstance(document, dict) and "extends" in document:
        document = _extended(document, path)
    topology = parse(document, str(path))
    refuse_other_zones(topology, load_data_model(), str(path))
    return topology


def _document(path: Path) -> Any:
    try:
        return yaml_files.read(path)
    except OSError as error:
        raise TopologyError(f"{path}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise TopologyError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None


def _extended(document: dict[Any, Any], path: Path) -> dict[Any, Any]:
    """The keys of the file that `extends` names, relative to `path`, with those of `document` in their place."""
    name = document["extends"]
    if not isinstance(name, str):
        raise TopologyError(f"{path}: extends: expected the name of a topology file, found {name!r}")
    base = _document(path.parent / name)
    if not isinstance(base, dict) or "extends" in base:
        reason = "extends another one itself" if isinstance(base, dict) else "is not a mapping"
        raise TopologyError(f"{path}: extends: {name} {reason}")
    return base | {key: value for key, value in document.items() if key != "extends"}


def parse(document: object, source: str) -> Topology:
    """Check a topology already read; `source` names it in the message of a TopologyError."""
    if not isinstance(document, dict):
        raise TopologyError(f"{source}: expected a mapping with `config_servers` and `shards`")
    try:
        return Topology.model_validate(document)
    except ValidationError as error:
        raise TopologyError("\n".join(_line(source, fault) for fault in error.errors())) from None


def refuse_other_zones(topology: Topology, model: DataModel, source: str) -> None:
    """TopologyError, a line for each fault, unless the topology has exactly the zones in which documents live."""
    faults = [
        f"{source}: zones[{i}]: the data model has no zone {zone!r}, it has {', '.join(model.zones)}"
        for i, zone in enumerate(topology.zones)
        if zone not in model.zones
    ]
    faults += [
        f"{source}: zones: {zone} is missing, the documents of region {', '.join(model.regions_of(zone))} "
        "would have no home"
        for zone in model.zones
        if zone not in topology.zones
    ]
    if faults:
        raise TopologyError("\n".join(faults))


def _line(source: str, fault: Any) -> str:
    """One line for one fault: file, key, what is wrong."""
    key = ""
    for part in fault["loc"]:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            key += f".{part}" if key else str(part)
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        message = f"unknown key, there {_keys(fault['loc'][:-1])}"
    elif not fault["type"].endswith(("value_error", "missing")):
        message += f", found {fault['input']!r}"
    return f"{source}: {key}: {message}" if key else f"{source}: {message}"


def _keys(place: tuple[int | str, ...]) -> str:
    """Which keys there are at a place of a topology."""
    model: Any = Topology
    for part in place:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            models = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
            model = next(one for one in models if issubclass(one, BaseModel))
    return f"are {', '.join(model.model_fields)}"


def _refuse_duplicates(what: str, pairs: Iterator[tuple[str, Any]]) -> None:
    found = list(pairs)
    twice = [value for value, times in Counter(value for _, value in found).items() if times > 1]
    if twice:
        keys = list(dict.fromkeys(key for key, value in found if value == twice[0]))
        raise ValueError(f"{' and '.join(keys)}: {what} {twice[0]} is used twice")
