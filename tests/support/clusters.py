"""Real clusters for tests: mongod processes of this machine on free ports, formed by the `cluster` package itself."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from shardmart.cluster.converge import replica_set, sharding, users
from shardmart.cluster.converge.outcome import Outcome
from shardmart.cluster.description import Cluster, ReplicaSet
from shardmart.cluster.host import binaries, certificates, processes
from shardmart.cluster.protocol.connection import Credentials, Deadline
from shardmart.declare import access, data_model, topology, versions
from shardmart.platforms import embedded
from shardmart.platforms.state import State

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("SHARDMART_BINARIES") or ROOT / ".shardmart" / "binaries")


@cache
def servers() -> dict[str, str | None]:
    """Paths of mongod and mongos: `$SHARDMART_MONGOD`, else what the role `mongodb_binaries` would take."""
    if mongod := os.environ.get("SHARDMART_MONGOD"):
        return {"mongod": mongod, "mongos": shutil.which("mongos")}
    pins = versions.load()
    found = binaries.locate(CACHE, pins.sources(pins.mongodb)).binaries
    assert found
    return {"mongod": str(found.mongod), "mongos": str(found.mongos) if found.mongos else None}


PORTS = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections (Linux: from 32768)."""
WORKERS = 4


def known_access(*, shop: bool = False) -> access.Access:
    """Users, as the roles and the chart make them."""
    return access.load(data_model.load().database, shop=shop)


def free_ports(count: int) -> list[int]:
    """`count` ports in a row nobody listens on, of the part of PORTS that is this worker's of pytest-xdist alone."""
    share = len(PORTS) // WORKERS
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    while True:
        first = PORTS.start + worker * share + secrets.randbelow(share - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return list(range(first, first + count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def small_topology(
    *, config: int = 1, shards: int = 2, members: int = 1, routers: int = 1, tls: bool = False
) -> Cluster:
    """A cluster of these sizes on free ports, elections fast."""
    shard_zones = [["APJ", "EMEA"], ["EMEA", "LATAM"]] + [["EMEA"]] * (shards - 2)
    if shards == 1:
        shard_zones = [["APJ", "EMEA", "LATAM"]]
    document = {
        "name": "test",
        "election": {"timeout_ms": 2000, "heartbeat_ms": 500},
        "tls": {"mode": "requireTLS" if tls else "disabled"},
        "config_servers": {"name": "configReplSet", "member_name": "configsvr{n}", "members": config},
        "shards": [
            {"name": f"shard{i + 1}ReplSet", "members": members, "zones": zones} for i, zones in enumerate(shard_zones)
        ],
        "routers": {"count": routers},
    }
    ports = iter(free_ports(config + shards * members + routers))
    return topology.parse(document, "test").resolve(lambda _name: ("127.0.0.1", next(ports)))


class EmbeddedCluster:
    """A cluster in a folder: its processes, secrets and addresses."""

    def __init__(self, folder: Path, description: Cluster, *, shop: bool = False) -> None:
        """`shop`: with the users and collections that a topology with services has."""
        self.folder, self.shop = folder, shop
        self.description = description
        self.state = State(folder)
        self.tls = embedded.tls(description, folder)
        self.members_credentials = Credentials(keyfile=self.state.keyfile, tls=self.tls)
        self.admin = Credentials("admin", folder / "secrets" / "admin.password", tls=self.tls)
        self.processes = {p.name: p for p in embedded.processes(description, folder, servers())}

    @property
    def router(self) -> str:
        """Address of the first router."""
        return self.description.routers[0].address

    def uri(self, user: str = "admin") -> str:
        """A connection string through every router."""
        return self.state.uri(user)

    def client(self, user: str = "admin", **options: Any) -> MongoClient[dict[str, Any]]:
        """A client through every router; the caller closes it."""
        return MongoClient(self.uri(user), **options)

    def set_of(self, name: str) -> ReplicaSet:
        """The replica set called `name`."""
        return self.description.replica_set(name)

    def primary_of(self, name: str) -> str:
        """Name of the member that is the set's primary now."""
        members = {member.address: member.name for member in self.set_of(name).members}
        primary = replica_set.primary_of(members, self.members_credentials)
        assert primary, f"{name} has no primary"
        return members[primary]

    def write_secrets(self) -> None:
        """Keyfile, passwords, certificates and cluster.json, as the roles that make them do."""
        folder = self.folder / "secrets"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in known_access(shop=self.shop).secrets:
            if not (folder / name).exists():
                (folder / name).touch(mode=0o600)
                (folder / name).write_text(secrets.token_hex(20) + "\n")
        if self.tls:
            made = certificates.make_authority(self.description.name)
            (self.folder / "tls").mkdir(mode=0o700, exist_ok=True)
            (self.folder / "tls" / "ca.pem").write_bytes(made.certificate)
            (self.folder / "tls" / "ca-key.pem").write_bytes(made.key)
            tls = self.description.tls
            server = certificates.make_server_certificate(made, list(tls.names), tls.validity_days)
            (self.folder / "tls" / "server.pem").write_bytes(server.combined)
        (self.folder / "cluster.json").write_text(self.description.dumps())

    def start(self, *names: str) -> None:
        """Start these processes (all of them when none is named) and wait until members listen."""
        started = processes.start([p for p in self.processes.values() if not names or p.name in names])
        processes.wait_until_listening(started, Deadline(60))

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a member or router; after SIGKILL wait until it is gone."""
        process = self.processes[name].running()
        assert process, f"{name} does not run"
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait(10)

    def bootstrap(self) -> None:
        """Sets, administrator, shards, zones, collections and users, as playbooks/bootstrap.yml makes them."""
        for declared in self.description.replica_sets:
            self.form(declared)
        primary = replica_set.primary_of(self.description.config_servers.addresses, self.members_credentials)
        assert primary
        keepers = users.Administrators(keyfile=self.members_credentials)
        administrator, *others = (self._user(user.as_task_argument()) for user in known_access(shop=self.shop).users)
        users.converge([administrator], primary, keepers)
        deadline = Deadline(60)
        sharding.wait_for_router(self.router, self.admin, deadline)
        shards = [sharding.ShardSpec.of(shard) for shard in self.description.shards]
        with sharding.connect(self.router, self.admin) as client:
            sharding.converge_shards(shards, client, deadline)
            sharding.converge_zones(shards, client, deadline)
            sharding.converge_balancer(client, deadline, enabled=True)
            model = data_model.load(shop=self.shop)
            sharding.converge_collections(model.database, collection_specs(model), client, deadline)
        users.converge(others, self.router, users.Administrators(login=self.admin))

    def form(self, declared: ReplicaSet) -> Outcome:
        """Form one replica set."""
        spec = replica_set.ReplicaSetSpec.of(declared, self.description.election)
        return replica_set.converge(spec, self.members_credentials)

    def _user(self, declared: Mapping[str, Any]) -> users.UserSpec:
        return users.UserSpec(
            name=declared["name"],
            password_file=self.folder / "secrets" / f"{declared['name']}.password",
            roles=tuple(declared["roles"]),
            privileges=tuple(declared["privileges"]),
        )

    def destroy(self) -> None:
        """End every process at once and remove the data; logs stay for whoever asks why."""
        for process in self.processes.values():
            if found := process.running():
                found.kill()
                found.wait(10)
        shutil.rmtree(self.folder / "data", ignore_errors=True)


def collection_specs(model: data_model.DataModel) -> list[sharding.CollectionSpec]:
    """The data model's collections as the `cluster` package takes them."""
    return [
        sharding.CollectionSpec(
            name=entry["name"],
            shard_key=entry["shard_key"],
            indexes=tuple(entry["indexes"]),
            zone_ranges=tuple(sharding.ZoneRange(r["zone"], r["min"], r["max"]) for r in entry["zone_ranges"]),
            validator=entry["validator"],
        )
        for entry in (collection.as_task_argument() for collection in model.collections)
    ]


@contextmanager
def embedded_cluster(folder: Path, *, shop: bool = False, **sizes: Any) -> Iterator[EmbeddedCluster]:
    """A bootstrapped cluster of the given sizes (see `small_topology`), destroyed at the end of the block."""
    cluster = EmbeddedCluster(folder, small_topology(**sizes), shop=shop)
    cluster.write_secrets()
    try:
        cluster.start()
        cluster.bootstrap()
        yield cluster
    finally:
        cluster.destroy()
