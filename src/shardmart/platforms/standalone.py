"""Standalone mongods as processes of this machine: the nodes of a ring and the store of its membership.

Each has authentication on, listens on loopback, and has no administrator: whoever holds the keyfile in the servers'
folder makes the one user that clients are (`keyfile`), so the localhost exception is closed from the first start on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from ..cluster.description import REQUIRE_TLS
from ..cluster.host import generated
from ..cluster.host.files import write_whole
from ..cluster.host.processes import Process, start, stop, wait_until_listening
from ..cluster.protocol.connection import Deadline
from .embedded import JOURNAL_MB, NO_DIAGNOSTICS, NO_WARNING_ABOUT_CLIENTS, SHUTDOWN_MILLISECONDS, as_yaml

LOOPBACK = "127.0.0.1"
DEFAULT_CACHE_MB = 256


@dataclass(frozen=True)
class Standalone:
    """One standalone server: name, port, the cache of its storage engine in MiB.

    `tls` is the folder of the cluster's certificate (server.pem, ca.pem) where servers speak TLS and nothing else.
    """

    name: str
    port: int
    cache_mb: int = DEFAULT_CACHE_MB
    tls: Path | None = None

    @classmethod
    def of(cls, declared: Mapping[str, Any], cache_mb: int, tls: Path | None = None) -> Standalone:
        """The server that a topology declares; what else is said of it (its weight) is not its process's."""
        own = {key: value for key, value in declared.items() if key in ("name", "port")}
        return cls(**own, cache_mb=cache_mb, tls=tls)

    def process(self, folder: Path, mongod: str) -> Process:
        """The process, with everything it keeps in `folder`."""
        configuration_file = folder / "config" / f"{self.name}.yaml"
        log_file, data = folder / "logs" / f"{self.name}.log", folder / "data" / self.name
        net: dict[str, Any] = {"bindIp": LOOPBACK, "port": self.port, "unixDomainSocket": {"enabled": False}}
        if self.tls:
            net["tls"] = {
                "mode": REQUIRE_TLS,
                "certificateKeyFile": str(self.tls / "server.pem"),
                "CAFile": str(self.tls / "ca.pem"),
                # Clients show a password, not a certificate.
                "allowConnectionsWithoutCertificates": True,
            }
        configuration: dict[str, Any] = {
            "net": net,
            "security": {"authorization": "enabled", "keyFile": str(keyfile_in(folder))},
            "storage": {
                "dbPath": str(data),
                "wiredTiger": {
                    "engineConfig": {
                        "cacheSizeGB": self.cache_mb / 1024,
                        "configString": f"log=(prealloc=false,file_max={JOURNAL_MB}MB)",
                    }
                },
            },
            "systemLog": {
                "destination": "file",
                "path": str(log_file),
                "logAppend": True,
                "logRotate": "reopen",
            },
            "setParameter": {
                "enableLocalhostAuthBypass": False,
                "shutdownTimeoutMillisForSignaledShutdown": SHUTDOWN_MILLISECONDS,
            }
            | NO_DIAGNOSTICS
            | (NO_WARNING_ABOUT_CLIENTS if self.tls else {}),
        }
        return Process(
            name=self.name,
            command=(mongod, "--config", str(configuration_file)),
            host=LOOPBACK,
            port=self.port,
            marker=str(configuration_file),
            pid_file=folder / "run" / f"{self.name}.pid",
            log_file=log_file,
            data_folder=data,
            configuration_file=configuration_file,
            configuration=as_yaml(configuration),
        )

    def uri(self, user: str, password: str) -> str:
        """The connection string. It holds the password: never print it."""
        return f"mongodb://{quote_plus(user)}:{quote_plus(password)}@{LOOPBACK}:{self.port}/?authSource=admin{self._trust()}"

    def _trust(self) -> str:
        return f"&tls=true&tlsCAFile={quote_plus(str(self.tls / 'ca.pem'))}" if self.tls else ""


def keyfile_in(folder: Path) -> Path:
    """The keyfile of the servers in a folder."""
    return folder / "keyfile"


def start_all(servers: list[Standalone], folder: Path, mongod: str, *, wait_seconds: float = 60) -> list[str]:
    """Start those that do not run, wait until all listen, their keyfile made first; names those it started."""
    if not keyfile_in(folder).exists():
        write_whole(keyfile_in(folder), generated.keyfile())
    processes = [server.process(folder, mongod) for server in servers]
    started = start(processes)
    wait_until_listening(started, Deadline(wait_seconds))
    return [one.process.name for one in started]


def stop_all(servers: list[Standalone], folder: Path, *, wait_seconds: float = 60) -> list[str]:
    """Ask those that run to end, wait until they have; names them."""
    return stop([server.process(folder, "mongod") for server in servers], wait_seconds=wait_seconds)
