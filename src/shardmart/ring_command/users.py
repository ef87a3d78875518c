"""What a holder of the servers' keyfile does on servers that this machine did not start (pods of helm/ring): make the
user that clients are, and have a renewed certificate taken.

Whoever holds a server's keyfile may act as `__system` (authentication source `local`, SCRAM-SHA-256, the password is
the keyfile without white space; seen on MongoDB 6.0.5).  Nothing secret is printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from shardmart.errors import BadUseError, UnreachableError
from shardmart.ring import Settings

USER_EXISTS = 51003


def make(settings: Settings, keyfile: Path, wait_seconds: float) -> list[str]:
    """Have the user of the connection strings on every server; the names of those where it was made or changed.

    UnreachableError when a server does not answer within `wait_seconds`, BadUseError for strings without a user.
    """
    password = _read(keyfile)
    return [name for name, uri in _servers(settings) if _have(name, uri, password, settings.database, wait_seconds)]


def take_certificates(settings: Settings, keyfile: Path, wait_seconds: float) -> list[str]:
    """Have every server that speaks TLS take its certificate's file as it is now; their names.

    `rotateCertificates` (MongoDB 5.0 and later): no restart, and connections that are open stay open.  UnreachableError
    when a server does not answer within `wait_seconds`, or refuses the file.
    """
    password = _read(keyfile)
    speaking = [(name, uri) for name, uri in _servers(settings) if parse_uri(uri)["options"].get("tls")]
    for name, uri in speaking:
        try:
            with _as_system(uri, password, wait_seconds) as client:
                client.admin.command("rotateCertificates", 1)
        except PyMongoError as error:
            raise UnreachableError(f"{name}: {type(error).__name__}: {str(error)[:200]}") from None
    return [name for name, _ in speaking]


def _servers(settings: Settings) -> list[tuple[str, str]]:
    return [("the store", settings.store), *settings.nodes.items()]


def _read(keyfile: Path) -> str:
    try:
        return "".join(keyfile.read_text().split())
    except OSError as error:
        raise BadUseError(f"{keyfile}: cannot be read: {error.strerror}") from None


def _as_system(uri: str, password: str, seconds: float) -> MongoClient[dict[str, Any]]:
    options: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": int(seconds * 1000)}
    options |= {"username": "__system", "password": password, "authSource": "local"}
    return MongoClient(uri, **options, authMechanism="SCRAM-SHA-256")


def _have(name: str, uri: str, system: str, database: str, seconds: float) -> bool:
    parsed = parse_uri(uri)
    user, password = parsed["username"], parsed["password"]
    if not user or not password:
        raise BadUseError(f"{name}: the connection string names no user")
    user, password = unquote(user), unquote(password)
    options: dict[str, Any] = {"directConnection": True, "serverSelectionTimeoutMS": int(seconds * 1000)}
    client: MongoClient[dict[str, Any]]
    roles = [{"role": "readWrite", "db": database}, {"role": "dbAdmin", "db": database}]
    try:
        client = MongoClient(uri, **options)
        with client:
            try:
                client.admin.command("connectionStatus")
            except OperationFailure as error:
                if error.code != 18:
                    raise
            else:
                return False
        with _as_system(uri, system, seconds) as client:
            try:
                client.admin.command("createUser", user, pwd=password, roles=roles)
            except OperationFailure as error:
                if error.code != USER_EXISTS:
                    raise
                client.admin.command("updateUser", user, pwd=password, roles=roles)
    except PyMongoError as error:
        raise UnreachableError(f"{name}: {type(error).__name__}: {str(error)[:200]}") from None
    return True
