"""The user that clients of a ring are, on servers that this machine did not start: pods of helm/ring.

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
    try:
        password = "".join(keyfile.read_text().split())
    except OSError as error:
        raise BadUseError(f"{keyfile}: cannot be read: {error.strerror}") from None
    servers = {"the store": settings.store, **settings.nodes}
    return [name for name, uri in servers.items() if _have(name, uri, password, settings.database, wait_seconds)]


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
        as_system: dict[str, Any] = {"username": "__system", "password": system, "authSource": "local"}
        client = MongoClient(uri, **options, **as_system, authMechanism="SCRAM-SHA-256")
        with client:
            try:
                client.admin.command("createUser", user, pwd=password, roles=roles)
            except OperationFailure as error:
                if error.code != USER_EXISTS:
                    raise
                client.admin.command("updateUser", user, pwd=password, roles=roles)
    except PyMongoError as error:
        raise UnreachableError(f"{name}: {type(error).__name__}: {str(error)[:200]}") from None
    return True
