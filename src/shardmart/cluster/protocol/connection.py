"""Connections to members and routers, and the identities they are made with.

Every Ansible module of Shardmart connects here.  A `Credentials` names a user and the file its password is in, or
the keyfile; secrets are read where the module runs and never travel as task arguments.  With the keyfile a
connection is authenticated as `__system@local` by SCRAM-SHA-256, the identity members use among themselves: the
password is the keyfile without white space (MongoDB 6.0.5, verified; the manual's "Keyfiles" chapter says that
white space is stripped).
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bson.errors import InvalidBSON
from pymongo import MongoClient
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError

from ..errors import ClusterError, DeadlineError, SecretMissingError
from .wire import say_hello

Document = dict[str, Any]
Client = MongoClient[Document]

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Tls:
    """How to speak TLS: the authority to trust and, for members that ask, this client's certificate and key."""

    ca_file: str
    certificate_key_file: str | None = None

    @classmethod
    def trusting(cls, authority: Path | None) -> Tls | None:
        """TLS that trusts the authority of this file; None, plain TCP, when there is none."""
        return cls(str(authority)) if authority else None

    def options(self) -> Document:
        """Keyword arguments of MongoClient. Raises SecretMissingError when there is no authority (yet)."""
        if not Path(self.ca_file).exists():
            raise SecretMissingError(f"the certificate of the authority {self.ca_file} does not exist")
        options: Document = {"tls": True, "tlsCAFile": self.ca_file}
        if self.certificate_key_file:
            options["tlsCertificateKeyFile"] = self.certificate_key_file
        return options


@dataclass(frozen=True)
class Credentials:
    """Who to connect as: nobody (all None), `__system` with the keyfile, or a user with a password file."""

    username: str | None = None
    password_file: Path | None = None
    keyfile: Path | None = None
    database: str = "admin"
    tls: Tls | None = None

    def options(self) -> Document:
        """Keyword arguments of MongoClient; reads the secret. Raises ClusterError when its file cannot be read."""
        options: Document = self.tls.options() if self.tls else {}
        if self.keyfile:
            return options | system_login(read_secret(self.keyfile))
        if self.username:
            if not self.password_file:
                raise ClusterError(f"user {self.username} was given without a password file")
            return options | {
                "username": self.username,
                "password": read_secret(self.password_file).strip(),
                "authSource": self.database,
            }
        return options

    def anonymous(self) -> Credentials:
        """The same way to connect, as nobody."""
        return Credentials(tls=self.tls)


def system_login(keyfile: str) -> Document:
    """Keyword arguments of MongoClient that log in as `__system`, whose password a keyfile's content is."""
    return {
        "username": "__system",
        "password": "".join(keyfile.split()),
        "authSource": "local",
        "authMechanism": "SCRAM-SHA-256",
    }


def read_secret(path: Path) -> str:
    """The content of a secret file; ClusterError when it cannot be read or is empty."""
    try:
        content = path.read_text()
    except FileNotFoundError:
        raise SecretMissingError(f"the secret file {path} does not exist") from None
    except OSError as error:
        raise ClusterError(f"cannot read the secret file {path}: {error.strerror}") from None
    if not content.strip():
        raise ClusterError(f"the secret file {path} is empty")
    return content


@contextmanager
def connect(address: str, credentials: Credentials, *, timeout_seconds: float = 10) -> Iterator[Client]:
    """A client of exactly one server (`address` is "host:port"), closed at the end of the block.

    No command runs before the caller's first one: an unreachable server raises from there (see `describe`).
    """
    milliseconds = int(timeout_seconds * 1000)
    try:
        client: Client = MongoClient(
            f"mongodb://{address}/",
            directConnection=True,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=max(milliseconds, 30_000),
            appname="shardmart",
            **credentials.options(),
        )
    except (ConfigurationError, OSError) as error:  # OSError: the files of TLS, which are read here
        raise ClusterError(f"{address}: {error}") from None
    try:
        yield client
    finally:
        client.close()


def hello(address: str, tls: Tls | None = None, *, timeout_seconds: float = 2) -> Document:
    """What the server at `address` says of itself, without authentication; PyMongoError when it does not answer."""
    with connect(address, Credentials(tls=tls), timeout_seconds=timeout_seconds) as client:
        return client.admin.command("hello")


def answers_without_tls(address: str, *, timeout_seconds: float = 5) -> bool:
    """Whether the server answers a plain `hello`; one that wants TLS closes the connection."""
    try:
        say_hello(address, timeout_seconds)
    except (OSError, struct.error, InvalidBSON):
        return False
    return True


UNRESOLVED = (
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "nodename nor servname",
)
"""getaddrinfo's EAI_NONAME and EAI_NODATA in the words of glibc (the first two), musl and macOS."""
NO_ADDRESS = "no such name: a pod that no node has room for has none; kubectl get events names what it waits for"


def describe(error: PyMongoError) -> str:
    """The error in one line, without PyMongo's dump of the topology.

    A name without an address is explained: a Kubernetes pod has none before it runs (its Service publishes it at once).
    """
    text = " ".join(str(error).split())
    for marker in (", full error:", ", Timeout:", " (configured timeouts:"):
        text = text.split(marker)[0]
    return f"{text} ({NO_ADDRESS})" if any(words in text for words in UNRESOLVED) else text


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Within the block, what PyMongo raises is raised as a ClusterError that says it in one line."""
    try:
        yield
    except PyMongoError as error:
        raise ClusterError(describe(error)) from None


def is_code(error: PyMongoError, *codes: int) -> bool:
    """Whether the server gave one of these error codes."""
    return isinstance(error, OperationFailure) and error.code in codes


@dataclass
class Deadline:
    """A point in time every wait of one operation shares."""

    seconds: float
    _end: float = field(init=False)

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - time.monotonic())

    def pause(self, waiting_for: str) -> None:
        """Wait one poll interval; DeadlineError that says what was awaited once the time is up."""
        if not self.remaining:
            raise DeadlineError(f"waited {self.seconds:g} s for {waiting_for}")
        time.sleep(min(POLL_SECONDS, self.remaining))


def tls_from(argument: Mapping[str, Any] | None) -> Tls | None:
    """The `tls` argument of a module as a Tls, None when it was not given."""
    if not argument:
        return None
    return Tls(ca_file=argument["ca_file"], certificate_key_file=argument.get("certificate_key_file"))
