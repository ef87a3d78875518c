"""What can go wrong between the loader and a cluster: what passes by itself, what does not, and how it is said."""

from __future__ import annotations

import re

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WTimeoutError,
)

from shardmart.cluster.protocol import codes

PASSING_CODES = frozenset(
    {
        codes.HOST_UNREACHABLE,
        codes.HOST_NOT_FOUND,
        codes.LOCK_TIMEOUT,
        codes.MAX_TIME_MS_EXPIRED,
        codes.STALE_SHARD_VERSION,
        codes.WRITE_CONCERN_FAILED,  # not yet on a majority
        codes.SHARD_NOT_FOUND,  # a router that has not heard of it yet
        codes.NETWORK_TIMEOUT,
        codes.SHUTDOWN_IN_PROGRESS,
        codes.WRITE_CONFLICT,
        codes.CONFLICTING_OPERATION_IN_PROGRESS,
        codes.FAILED_TO_SATISFY_READ_PREFERENCE,  # no primary
        codes.READ_CONCERN_MAJORITY_NOT_AVAILABLE_YET,
        codes.STALE_EPOCH,
        codes.QUERY_PLAN_KILLED,
        codes.PRIMARY_STEPPED_DOWN,
        codes.NETWORK_INTERFACE_EXCEEDED_TIME_LIMIT,
        codes.RETRY_CHANGE_STREAM,  # what a router passes on while a shard is away
        codes.STALE_DB_VERSION,
        codes.EXCEEDED_TIME_LIMIT,
        codes.CONNECTION_POOL_EXPIRED,
        codes.CONNECTION_ERROR,
        codes.SOCKET_EXCEPTION,
        codes.NOT_WRITABLE_PRIMARY,
        codes.INTERRUPTED_AT_SHUTDOWN,
        codes.INTERRUPTED_DUE_TO_REPL_STATE_CHANGE,
        codes.STALE_CONFIG,
        codes.NOT_PRIMARY_NO_SECONDARY_OK,
        codes.NOT_PRIMARY_OR_SECONDARY,
    }
)
"""Elections, shutdowns, lost connections, stale routing tables, waits cut short."""

NOT_LET_IN = frozenset({codes.UNAUTHORIZED, codes.AUTHENTICATION_FAILED})


def is_passing(error: BaseException) -> bool:
    """Whether waiting can mend `error`."""
    if isinstance(error, BulkWriteError):
        details = error.details
        found = {e["code"] for e in details.get("writeErrors", ())} - {codes.DUPLICATE_KEY}
        return found <= PASSING_CODES  # what is left are write concern errors: on too few members yet
    if isinstance(error, ConnectionFailure | AutoReconnect | WTimeoutError | WriteConcernError):
        return not (isinstance(error, OperationFailure) and error.code in NOT_LET_IN)
    return isinstance(error, OperationFailure) and (
        error.code in PASSING_CODES or error.has_error_label("RetryableWriteError")
    )


def reason(error: BaseException | None) -> str:
    """`error` in one line, without topology dumps or credentials."""
    if isinstance(error, BulkWriteError):
        errors = [e for e in error.details.get("writeErrors", ()) if e["code"] != codes.DUPLICATE_KEY]
        said: dict[str, object] = next(iter(errors + error.details.get("writeConcernErrors", [])), {})
        return _one_line(f"{said.get('errmsg', 'bulk write failed')} (code {said.get('code')})")
    if isinstance(error, OperationFailure):
        details = error.details
        message = details.get("errmsg") if details else None
        return _one_line(f"{message or error} (code {error.code})")
    if isinstance(error, PyMongoError):
        return _one_line(f"{str(error) or type(error).__name__}")
    return _one_line(str(error))


def _one_line(text: str) -> str:
    # PyMongo appends its settings and the whole topology; a connection string may hold a password.
    text = re.split(r",? ?\(?configured timeouts|, Timeout: |, Topology Description", text)[0]
    text = re.sub(r"://[^@/\s]*@", "://", text)
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:297] + "..."
