"""The connection to the cluster, and what its errors mean to the shop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import AsyncMongoClient, ReadPreference
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shardmart.errors import BadUseError

from ...ports import ConflictError, StoreError

Document = dict[str, Any]
Database = AsyncDatabase[Document]
Client = AsyncMongoClient[Document]

WRITE_CONFLICT, DUPLICATE_KEY = 112, 11000
PASSING_CODES = frozenset(
    {6, 7, 50, 64, 70, 89, 91, 112, 133, 189, 202, 246, 251, 262, 9001, 10058, 10107, 11600, 11601, 11602, 13435, 13436}
)
"""Codes that say "later": host unreachable, timeouts, elections, write conflicts, a lost transaction, a session that
another ended (MongoDB 6.0)."""


def connect(uri: str, seconds: float, name: str) -> Client:
    """A client for `uri`; BadUseError if that is no connection string.  The message never quotes it."""
    milliseconds = int(seconds * 1000)
    try:
        return AsyncMongoClient(
            uri,
            appname=f"shop-{name}"[:128],
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            maxPoolSize=64,
            retryWrites=True,
            retryReads=True,
            tz_aware=True,
        )
    except (PyMongoError, ValueError) as error:
        raise BadUseError(f"mongodb.uri is not a usable connection string: {type(error).__name__}") from None


def database(client: Client, name: str) -> Database:
    """The database, read from primaries what a majority has, written to a majority."""
    return client.get_database(
        name,
        read_concern=ReadConcern("majority"),
        write_concern=WriteConcern("majority"),
        read_preference=ReadPreference.PRIMARY,
    )


@contextmanager
def errors_of_the_store() -> Iterator[None]:
    """Turn what the driver raises where the store is away into StoreError; a mistake of ours stays what it is."""
    try:
        yield
    except PyMongoError as error:
        if is_conflict(error):
            raise ConflictError(said(error)) from error
        if is_passing(error):
            raise StoreError(said(error)) from error
        raise


def is_conflict(error: PyMongoError) -> bool:
    """Whether somebody else has written the same document, also as one of several writes."""
    if isinstance(error, BulkWriteError):
        codes = {each["code"] for each in error.details.get("writeErrors", ())}
        return bool(codes) and codes <= {WRITE_CONFLICT, DUPLICATE_KEY}
    return isinstance(error, DuplicateKeyError) or (
        isinstance(error, OperationFailure) and error.code == WRITE_CONFLICT
    )


def is_passing(error: PyMongoError) -> bool:
    """Whether the same may succeed later."""
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError):
        return True
    if error.has_error_label("TransientTransactionError") or error.has_error_label("UnknownTransactionCommitResult"):
        return True
    return isinstance(error, OperationFailure) and error.code in PASSING_CODES


def said(error: PyMongoError) -> str:
    """The error in short, without documents and addresses of data."""
    code = getattr(error, "code", None)
    return f"{type(error).__name__}{f' {code}' if code else ''}"
