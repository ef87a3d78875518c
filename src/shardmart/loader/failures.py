"""What can go wrong between the loader and a cluster: what passes by itself, what does not, and how it is said.

Called by every module of the loader that talks to servers.
"""

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

DUPLICATE_KEY = 11000
DOCUMENT_VALIDATION_FAILURE = 121
AUTHENTICATION_FAILED = 18
UNAUTHORIZED = 13

# Elections, shutdowns, lost connections, stale routing tables, waits cut short (MongoDB 6.0, error_codes.yml).
PASSING_CODES = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        24,  # LockTimeout
        50,  # MaxTimeMSExpired
        63,  # StaleShardVersion
        64,  # WriteConcernFailed: not yet on a majority
        70,  # ShardNotFound: a router that has not heard of it yet
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        112,  # WriteConflict
        117,  # ConflictingOperationInProgress
        133,  # FailedToSatisfyReadPreference: no primary
        134,  # ReadConcernMajorityNotAvailableYet
        150,  # StaleEpoch
        175,  # QueryPlanKilled
        189,  # PrimarySteppedDown
        202,  # NetworkInterfaceExceededTimeLimit
        234,  # RetryChangeStream: what a router passes on while a shard is away
        249,  # StaleDbVersion
        262,  # ExceededTimeLimit
        317,  # ConnectionPoolExpired
        384,  # ConnectionError
        9001,  # SocketException
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11602,  # InterruptedDueToReplStateChange
        13388,  # StaleConfig
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
    }
)


class LoadError(Exception):
    """The load cannot go on; `exit_code` is what the command ends with."""

    exit_code = 1


class WrongArgumentsError(LoadError):
    """What was asked for does not fit what is there."""

    exit_code = 2


class UnreachableError(LoadError):
    """The cluster does not answer, lets nobody in, or is not set up."""

    exit_code = 3


class RefusedError(LoadError):
    """The cluster does not take the documents."""

    exit_code = 4


def is_passing(error: BaseException) -> bool:
    """Whether waiting can mend `error`."""
    if isinstance(error, BulkWriteError):
        details = error.details
        codes = {e["code"] for e in details.get("writeErrors", ())} - {DUPLICATE_KEY}
        return codes <= PASSING_CODES  # what is left are write concern errors: on too few members yet
    if isinstance(error, ConnectionFailure | AutoReconnect | WTimeoutError | WriteConcernError):
        return not (isinstance(error, OperationFailure) and error.code in {AUTHENTICATION_FAILED, UNAUTHORIZED})
    return isinstance(error, OperationFailure) and (
        error.code in PASSING_CODES or error.has_error_label("RetryableWriteError")
    )


def reason(error: BaseException | None) -> str:
    """`error` in one line, without topology dumps or credentials."""
    if isinstance(error, BulkWriteError):
        errors = [e for e in error.details.get("writeErrors", ()) if e["code"] != DUPLICATE_KEY]
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
