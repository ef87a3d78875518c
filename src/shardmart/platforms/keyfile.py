"""What a holder of a standalone server's keyfile does there: make the user that clients are, have a renewed certificate
taken.

Whoever holds a server's keyfile may act as `__system` (authentication source `local`, SCRAM-SHA-256, the password is
the keyfile without white space; seen on MongoDB 6.0.5).  So no server needs the localhost exception, by which the first
who comes would be its administrator, and none has an administrator.  Nothing secret is printed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from ..cluster.protocol import codes
from ..cluster.protocol.connection import system_login
from ..errors import BadUseError, UnreachableError

USER_EXISTS = 51003


def read(keyfile: Path) -> str:
    """The content of a keyfile; BadUseError when it cannot be read."""
    try:
        return keyfile.read_text()
    except OSError as error:
        raise BadUseError(f"{keyfile}: cannot be read: {error.strerror}") from None


def as_system(uri: str, keyfile: str, seconds: float) -> MongoClient[dict[str, Any]]:
    """A client of the server of a connection string that may do everything; the caller closes it."""
    milliseconds = int(seconds * 1000)
    return MongoClient(uri, directConnection=True, serverSelectionTimeoutMS=milliseconds, **system_login(keyfile))


def have_user(name: str, uri: str, keyfile: str, database: str, seconds: float) -> bool:
    """Have the user of a connection string, with rights in one database; False when it is there with its password.

    `name` is the server's in errors, `keyfile` the content of its keyfile.  UnreachableError when the server does not
    answer within `seconds` or refuses the keyfile, BadUseError for a string without a user.
    """
    parsed = parse_uri(uri)
    if not parsed["username"] or not parsed["password"]:
        raise BadUseError(f"{name}: the connection string names no user")
    user, own = unquote(parsed["username"]), unquote(parsed["password"])
    roles = [{"role": "readWrite", "db": database}, {"role": "dbAdmin", "db": database}]
    try:
        if _accepts(uri, seconds):
            return False
        with as_system(uri, keyfile, seconds) as client:
            try:
                client.admin.command("createUser", user, pwd=own, roles=roles)
            except OperationFailure as error:
                if error.code != USER_EXISTS:
                    raise
                client.admin.command("updateUser", user, pwd=own, roles=roles)
    except PyMongoError as error:
        raise UnreachableError(f"{name}: {type(error).__name__}: {str(error)[:200]}") from None
    return True


def _accepts(uri: str, seconds: float) -> bool:
    client: MongoClient[dict[str, Any]] = MongoClient(
        uri, directConnection=True, serverSelectionTimeoutMS=int(seconds * 1000)
    )
    with client:
        try:
            client.admin.command("connectionStatus")
        except OperationFailure as error:
            if error.code != codes.AUTHENTICATION_FAILED:
                raise
            return False
        return True


def take_certificate(name: str, uri: str, keyfile: str, seconds: float) -> bool:
    """Have a server that speaks TLS take its certificate's file as it is now; False for one that does not speak it.

    `rotateCertificates` (MongoDB 5.0 and later): no restart, and connections that are open stay open.  UnreachableError
    when the server does not answer within `seconds`, or refuses the file.
    """
    if not parse_uri(uri)["options"].get("tls"):
        return False
    try:
        with as_system(uri, keyfile, seconds) as client:
            client.admin.command("rotateCertificates", 1)
    except PyMongoError as error:
        raise UnreachableError(f"{name}: {type(error).__name__}: {str(error)[:200]}") from None
    return True
