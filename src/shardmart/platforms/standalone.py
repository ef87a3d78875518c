"""Standalone mongods as processes of this machine: the nodes of a ring and the store of its membership.

Each has authentication on and listens on loopback.  Its administrator is made through the localhost exception (MongoDB
manual, "Localhost Exception") and makes the one user that clients are: with rights in one database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from ..cluster.description import REQUIRE_TLS
from ..cluster.host.processes import Process, start, stop, wait_until_listening
from ..cluster.protocol import codes
from ..cluster.protocol.connection import Deadline
from .embedded import JOURNAL_MB, NO_DIAGNOSTICS, NO_WARNING_ABOUT_CLIENTS, SHUTDOWN_MILLISECONDS, as_yaml
from .platform import PlatformError

LOOPBACK = "127.0.0.1"
ADMINISTRATOR = "admin"
USER_EXISTS = 51003
DEFAULT_CACHE_MB = 256
CONNECT_MILLISECONDS = 10_000


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
            "security": {"authorization": "enabled"},
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
            "setParameter": {"shutdownTimeoutMillisForSignaledShutdown": SHUTDOWN_MILLISECONDS}
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

    def take_certificate(self, admin: str) -> None:
        """Have the server take its certificate's file as it is now (`rotateCertificates`, MongoDB 5.0 and later)."""
        if self.tls:
            with self._client((ADMINISTRATOR, admin)) as client:
                client.admin.command("rotateCertificates", 1)

    def make_users(self, admin: str, user: str, password: str, database: str) -> bool:
        """Have an administrator (password `admin`) and a `user` who may work in `database`; False when both are there.

        PlatformError when the server does not answer, or knows another password.
        """
        roles = [{"role": "readWrite", "db": database}, {"role": "dbAdmin", "db": database}]
        if self._knows(user, password):
            return False
        made = not self._knows(ADMINISTRATOR, admin)
        if made:
            self._create(None, ADMINISTRATOR, admin, [{"role": "root", "db": "admin"}])
        self._create((ADMINISTRATOR, admin), user, password, roles)
        return True

    def _client(self, login: tuple[str, str] | None) -> MongoClient[dict[str, Any]]:
        address = self.uri(*login) if login else f"mongodb://{LOOPBACK}:{self.port}/?{self._trust().lstrip('&')}"
        return MongoClient(address, directConnection=True, serverSelectionTimeoutMS=CONNECT_MILLISECONDS)

    def _knows(self, user: str, password: str) -> bool:
        with self._client((user, password)) as client:
            try:
                client.admin.command("connectionStatus")
            except OperationFailure as error:
                if error.code != codes.AUTHENTICATION_FAILED:
                    raise PlatformError(f"{self.name}: {error}") from None
                return False
            except PyMongoError as error:
                raise PlatformError(f"{self.name} does not answer: {type(error).__name__}") from None
            return True

    def _create(self, login: tuple[str, str] | None, user: str, password: str, roles: list[dict[str, str]]) -> None:
        with self._client(login) as client:
            try:
                client.admin.command("createUser", user, pwd=password, roles=roles)
            except OperationFailure as error:
                if error.code == USER_EXISTS:
                    client.admin.command("updateUser", user, pwd=password, roles=roles)
                    return
                raise PlatformError(
                    f"{self.name} has users already, and {user} another password: give it the secrets it was made with"
                ) from None


def start_all(servers: list[Standalone], folder: Path, mongod: str, *, wait_seconds: float = 60) -> list[str]:
    """Start those that do not run, wait until all listen; names those it started."""
    processes = [server.process(folder, mongod) for server in servers]
    started = start(processes)
    wait_until_listening(started, Deadline(wait_seconds))
    return [one.process.name for one in started]


def stop_all(servers: list[Standalone], folder: Path, *, wait_seconds: float = 60) -> list[str]:
    """Ask those that run to end, wait until they have; names them."""
    return stop([server.process(folder, "mongod") for server in servers], wait_seconds=wait_seconds)
