"""The embedded platform: every member of a cluster as a process of this machine, in one state folder.

`processes` turns a description into the processes to run, so that command line, files and
port of a server have one home.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..cluster.description import REQUIRE_TLS, Cluster, Member, Node, Role
from ..cluster.errors import ClusterError
from ..cluster.host.processes import Process, live, recorded, start, stop, wait_until_listening
from ..cluster.protocol.connection import Deadline, Tls
from .embedded_shop.files import ShopFiles
from .platform import PlatformError, Way, chosen, play_of, way
from .shop_nodes import described

if TYPE_CHECKING:
    from .state import State

SHUTDOWN_MILLISECONDS = 1000
"""How long a member told to end lets its clients leave (server default 15000: clients of a laptop need less)."""
OPLOG_MB = 512
RINGS = "rings"
"""The folder of the rings in a state folder; each has one of its own there."""
JOURNAL_MB = 8
"""Size of one journal file (docs/decisions/052): with WiredTiger's default of 100 MB a new member takes 301 MB."""
NO_DIAGNOSTICS = {"diagnosticDataCollectionEnabled": False}
"""No full time diagnostic data capture, which is for MongoDB's support: all counters of a server every second, 0.6 %
of a core and up to 200 MB of disk, for each of the many on one machine (docs/decisions/159)."""
CONFIG_ROLE, SHARD_ROLE = "configsvr", "shardsvr"
NO_WARNING_ABOUT_CLIENTS = {"suppressNoTLSPeerCertificateWarning": True}
"""Clients have no certificate of their own here; without this every connection is a warning in the log."""


class EmbeddedPlatform:
    """The cluster of one state folder on this machine."""

    name = "embedded"
    direct = True
    python = sys.executable

    def __init__(self, state: State, cluster: Cluster) -> None:
        self.cluster = cluster
        self.state_folder = state.folder

    def address(self, node: Node) -> str:
        """See Platform."""
        return node.address

    def reach(self, node: Node, user: str | None = None) -> Way:
        """See Platform."""
        return way(self.cluster, node, self.state_folder, user, direct=True)

    def run(self, command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        """See Platform: on this machine."""
        try:
            return subprocess.run(  # noqa: S603
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise PlatformError(f"waited {timeout_s:g} s for {' '.join(command[:4])}") from None

    def spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """See Platform."""
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C stops the caller, which stops this in order
        )

    def start(self, names: Iterable[str] = (), *, wait_s: float = 60) -> list[str]:
        """See Platform: with the command lines they were started with last."""
        started = start(self._processes(names))
        wait_until_listening(started, Deadline(wait_s))
        return [one.process.name for one in started]

    def stop(self, names: Iterable[str] = (), *, wait_s: float = 60) -> list[str]:
        """See Platform: SIGTERM, in the order of `stop_in_order`."""
        return stop_in_order(self._processes(names), wait_seconds=wait_s)

    def pid_file(self, node: Node) -> Path:
        """Where the pid of a server is."""
        if node.role is Role.SERVICE:
            return ShopFiles(self.state_folder).pid(node.name)
        folder = self.state_folder / RINGS / node.group if node.role is Role.RING else self.state_folder
        return folder / "run" / f"{node.name}.pid"

    def process(self, node: Node) -> Process:
        """The process of a server, running or not, as it was started last; PlatformError when it never was."""
        if node.role is Role.SERVICE:
            return self.shop_process(node.name)
        return self._recorded(self.pid_file(node), "`make ring`" if node.role is Role.RING else play_of(self.cluster))

    def shop_nodes(self) -> list[Node]:
        """See Platform."""
        return described(self.cluster)

    def shop_is_short_of(self) -> list[str]:
        """See Platform: nothing, for every process has its name and is asked by it."""
        return []

    def shop_process(self, name: str) -> Process:
        """The same of a process of the shop."""
        return self._recorded(ShopFiles(self.state_folder).pid(name), play_of(self.cluster, shop=True))

    def _recorded(self, pid_file: Path, command: str) -> Process:
        if (found := recorded(pid_file)) is None:
            folder = self.state_folder
            raise PlatformError(f"no record of how {pid_file.stem} was started in {folder}: run {command}")
        return found

    def _processes(self, names: Iterable[str]) -> list[Process]:
        """Those of these servers and processes of the shop; every server, and nothing of the shop, without names."""
        wanted = list(names)
        rings = {node.name: node for node in ring_servers(self.state_folder)}
        of_rings = [self.process(rings[name]) for name in wanted if name in rings]
        if of_rings and len(of_rings) == len(wanted):
            return of_rings
        wanted = [name for name in wanted if name not in rings]
        shop = {one.name for one in self.cluster.shop.processes} if self.cluster.shop else set()
        servers = [name for name in wanted if name not in shop]
        nodes = chosen(self.cluster, servers) if servers or not wanted else []
        return [self.process(node) for node in nodes] + [self.shop_process(n) for n in wanted if n in shop] + of_rings


def ring_servers(state: Path) -> list[Node]:
    """Every server of the rings in a state folder, as it was started last; by ring and name."""
    return [
        Node(process.name, Role.RING, pid_file.parent.parent.name, process.host, process.port)
        for pid_file in sorted((state / RINGS).glob("*/run/*.pid"))
        if (process := recorded(pid_file))
    ]


def processes(cluster: Cluster, state: Path, binaries: Mapping[str, str | None]) -> list[Process]:
    """Every member, then every router; `binaries` has paths: "mongod", "mongos" (None: the development router)."""
    mongod, mongos = binaries["mongod"], binaries.get("mongos")
    if mongod is None:
        raise ValueError("no path of mongod was given")
    config_db = cluster.config_servers.connection_string
    members = [member_process(member, state, mongod, speaks_tls=cluster.tls.spoken) for member in cluster.members]
    routers = [
        router_process(router, config_db, state, mongos, speaks_tls=cluster.tls.spoken) for router in cluster.routers
    ]
    return members + routers


def left_over(declared: Iterable[Process], state: Path) -> list[Process]:
    """What an earlier topology started in this state folder, and still runs, but is not `declared`.

    A router is one without a data folder.
    """
    names = {process.name for process in declared}
    found = []
    for pid_file in sorted((state / "run").glob("*.pid")):
        if pid_file.stem in names:
            continue
        process = recorded(pid_file) or _of_pid_file(pid_file, state)
        if _is_server(process) and process.running():
            found.append(process)
    return found


def _is_server(process: Process) -> bool:
    """Whether it is a member or a router; the timer of the fragments' repair keeps its pid file beside theirs."""
    return process.command[process.command.index(process.marker) - 1] in ("--config", "--logpath")


def stop_in_order(processes: Iterable[Process], *, wait_seconds: float = 60) -> list[str]:
    """Ask those that run to end, and name them: routers, then shards, then config servers, each kind at once.

    A shard's member that ends tells the config servers, and waits 15 s for their primary if they ended before it (seen
    on 6.0.5: "Error cleaning up distributed ping entry").  Raises ClusterError when one is still there at the deadline;
    those after it are left running.
    """
    deadline, listed, names = Deadline(wait_seconds), list(processes), []
    for kind in _Kind:
        names += stop([one for one in listed if _kind(one) is kind], wait_seconds=deadline.remaining)
    return names


class _Kind(Enum):
    """What a server is, in the order in which servers end."""

    ROUTER = auto()
    SHARD = auto()
    CONFIG = auto()


def _kind(process: Process) -> _Kind:
    """By what it was started with: a router keeps no data, a config server's configuration says what it is."""
    if process.data_folder is None:
        return _Kind.ROUTER
    try:
        configuration = yaml.safe_load(process.configuration or Path(process.marker).read_text())
        role = configuration["sharding"]["clusterRole"]
    except (OSError, yaml.YAMLError, LookupError, TypeError):  # whatever has no such file: the shop's cache
        return _Kind.SHARD
    return _Kind.CONFIG if role == CONFIG_ROLE else _Kind.SHARD


def refuse_switched_tls(declared: Iterable[Process]) -> None:
    """ClusterError when a server that runs would have to speak TLS and does not, or the other way round.

    A member that speaks only TLS and one that speaks none cannot be of one set, so there is no rolling switch.
    """
    # A development router has no configuration: its members' change decides.
    changes = [(process, change) for process in declared if (change := process.configuration_change())]
    running = live(process for process, _ in changes)
    for process, change in changes:
        if process.name not in running:
            continue
        before, after = ("\n  tls:" in text for text in change)
        if before != after:
            raise ClusterError(
                f"tls.mode: {process.name} runs {'with' if before else 'without'} TLS, and all servers must change "
                "together: stop them first (playbooks/destroy.yml keeps the data), then run this again"
            )


def refuse_other_tls(cluster: Cluster, state: Path) -> None:
    """The same for all of a cluster's servers in this state folder; on another platform there are none."""
    if cluster.platform == EmbeddedPlatform.name:
        refuse_switched_tls(processes(cluster, state, {"mongod": "mongod"}))


def refuse_missing_packages(cluster: Cluster) -> None:
    """PlatformError where services are wanted as processes and what they import is not installed: `make up` does
    not."""
    if cluster.platform == EmbeddedPlatform.name and cluster.shop and not importlib.util.find_spec("fastapi"):
        raise PlatformError(
            "`services`: the packages of the shop are not installed, only those of a cluster: run `make install`"
        )


def _of_pid_file(pid_file: Path, state: Path) -> Process:
    """A server started before records were kept, as its files tell it: a router without a configuration is the
    development router."""
    name = pid_file.stem
    configuration, log, data = state / "config" / f"{name}.yaml", state / "logs" / f"{name}.log", state / "data" / name
    program = "mongod" if data.exists() else "mongos"
    command: tuple[str, ...] = (program, "--config", str(configuration))
    if not configuration.exists():
        command = (sys.executable, "-m", "shardmart.router", "--logpath", str(log))
    return Process(name, command, "", 0, command[-1], pid_file, log, data if data.exists() else None)


def tls(cluster: Cluster, state: Path) -> Tls | None:
    """How to connect to the servers of this cluster."""
    return Tls.trusting(state / "tls" / "ca.pem" if cluster.tls.spoken else None)


def member_process(member: Member, state: Path, mongod: str, *, speaks_tls: bool = False) -> Process:
    """One mongod."""
    is_config_server = member.role is Role.CONFIG
    configuration_file = state / "config" / f"{member.name}.yaml"
    configuration = _common(member, state, speaks_tls=speaks_tls) | {
        "storage": {
            "dbPath": str(state / "data" / member.name),
            "wiredTiger": {
                "engineConfig": {
                    "cacheSizeGB": member.cache_mb / 1024,
                    "configString": f"log=(prealloc=false,file_max={JOURNAL_MB}MB)",
                }
            },
        },
        "replication": {"replSetName": member.group, "oplogSizeMB": OPLOG_MB},
        "sharding": {"clusterRole": CONFIG_ROLE if is_config_server else SHARD_ROLE},
        "setParameter": {
            # Whoever holds the keyfile makes the first user; the exception would let anybody on this machine do it.
            "enableLocalhostAuthBypass": False,
            "shutdownTimeoutMillisForSignaledShutdown": SHUTDOWN_MILLISECONDS,
            # mongos holds back a change stream until every set has passed its events' time, a quiet one by this note.
            "periodicNoopIntervalSecs": 1,
        }
        | NO_DIAGNOSTICS
        | (NO_WARNING_ABOUT_CLIENTS if speaks_tls else {}),
    }
    configuration["security"]["authorization"] = "enabled"
    return Process(
        name=member.name,
        command=(mongod, "--config", str(configuration_file)),
        host=member.host,
        port=member.port,
        marker=str(configuration_file),
        pid_file=state / "run" / f"{member.name}.pid",
        log_file=state / "logs" / f"{member.name}.log",
        data_folder=state / "data" / member.name,
        configuration_file=configuration_file,
        configuration=as_yaml(configuration),
    )


def router_process(
    router: Node, config_db: str, state: Path, mongos: str | None, *, speaks_tls: bool = False
) -> Process:
    """One router: mongos with a configuration file, or the development router with the same settings as flags."""
    name = router.name
    log_file = state / "logs" / f"{name}.log"
    pid_file = state / "run" / f"{name}.pid"
    if mongos is None:
        command: tuple[str, ...] = (
            sys.executable, "-m", "shardmart.router",
            "--configdb", config_db,
            "--bind_ip", router.host,
            "--port", str(router.port),
            "--keyFile", str(state / "secrets" / "keyfile"),
            "--logpath", str(log_file),
            "--setParameter", "enableLocalhostAuthBypass=false",
        )  # fmt: skip
        if speaks_tls:
            command += (
                "--tlsMode", REQUIRE_TLS,
                "--tlsCertificateKeyFile", str(state / "tls" / "server.pem"),
                "--tlsCAFile", str(state / "tls" / "ca.pem"),
                "--tlsAllowConnectionsWithoutCertificates",
            )  # fmt: skip
        return Process(name, command, router.host, router.port, str(log_file), pid_file, log_file)
    configuration_file = state / "config" / f"{name}.yaml"
    configuration = _common(router, state, speaks_tls=speaks_tls) | {
        "sharding": {"configDB": config_db},
        "setParameter": {
            "enableLocalhostAuthBypass": False,
            "mongosShutdownTimeoutMillisForSignaledShutdown": SHUTDOWN_MILLISECONDS,
        }
        | (NO_WARNING_ABOUT_CLIENTS if speaks_tls else {}),
    }
    return Process(
        name=name,
        command=(mongos, "--config", str(configuration_file)),
        host=router.host,
        port=router.port,
        marker=str(configuration_file),
        pid_file=pid_file,
        log_file=log_file,
        configuration_file=configuration_file,
        configuration=as_yaml(configuration),
    )


def _common(server: Node, state: Path, *, speaks_tls: bool) -> dict[str, Any]:
    """What mongod and mongos configure alike: loopback only, TLS, keyfile, a log that SIGUSR1 reopens."""
    net: dict[str, Any] = {"bindIp": server.host, "port": server.port, "unixDomainSocket": {"enabled": False}}
    if speaks_tls:
        net["tls"] = {
            "mode": REQUIRE_TLS,
            "certificateKeyFile": str(state / "tls" / "server.pem"),
            "CAFile": str(state / "tls" / "ca.pem"),
            # Who somebody is, is proved by keyfile or SCRAM; the certificate is the servers'.
            "allowConnectionsWithoutCertificates": True,
        }
    return {
        "net": net,
        "security": {"keyFile": str(state / "secrets" / "keyfile")},
        "systemLog": {
            "destination": "file",
            "path": str(state / "logs" / f"{server.name}.log"),
            "logAppend": True,
            "logRotate": "reopen",
        },
    }


def as_yaml(configuration: Mapping[str, Any]) -> str:
    """A configuration file, with a line that says whose it is."""
    return "# Written by Shardmart from the topology; changed there, not here.\n" + yaml.safe_dump(
        configuration, sort_keys=True
    )
