"""Errors as MongoDB clients expect them: a code, its name, a message and labels.

Every part of the router raises `RouterError`; the client connection turns it into a reply.  Codes and names
are those of `error_codes.yml` of MongoDB 6.0.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

# The codes the router knows, by MongoDB's names.
Code = IntEnum("Code", {
    "InternalError": 1, "BadValue": 2, "HostUnreachable": 6, "HostNotFound": 7, "FailedToParse": 9, "Unauthorized": 13,
    "TypeMismatch": 14, "InvalidLength": 16, "ProtocolError": 17, "AuthenticationFailed": 18, "IllegalOperation": 20,
    "InvalidBSON": 22, "LockTimeout": 24, "NamespaceNotFound": 26, "CursorNotFound": 43,
    "MaxTimeMSExpired": 50, "CommandNotFound": 59, "ShardKeyNotFound": 61, "StaleShardVersion": 63, "ShardNotFound": 70,
    "InvalidOptions": 72, "InvalidNamespace": 73, "NetworkTimeout": 89, "ShutdownInProgress": 91, "WriteConflict": 112,
    "ConflictingOperationInProgress": 117, "NamespaceNotSharded": 118, "CommandFailed": 125,
    "FailedToSatisfyReadPreference": 133, "ReadConcernMajorityNotAvailableYet": 134, "InvalidSSLConfiguration": 140,
    "StaleEpoch": 150, "MaxStalenessOutOfRange": 160, "InvalidPipelineOperator": 168,
    "CommandOnShardedViewNotSupportedOnMongod": 169, "PrimarySteppedDown": 189,
    "NetworkInterfaceExceededTimeLimit": 202, "MultipleErrorsOccurred": 206,
    "TransactionTooOld": 225, "RetryChangeStream": 234, "CursorKilled": 237, "SnapshotTooOld": 239,
    "SnapshotUnavailable": 246, "StaleDbVersion": 249, "NoSuchTransaction": 251, "TransactionCommitted": 256,
    "ExceededTimeLimit": 262, "OperationNotSupportedInTransaction": 263, "PreparedTransactionInProgress": 267,
    "ChangeStreamFatalError": 280, "WouldChangeOwningShard": 283, "ShardInvalidatedForTargeting": 304,
    "MechanismUnavailable": 334, "UnsupportedOpQueryCommand": 352, "SocketException": 9001, "NotWritablePrimary": 10107,
    "BSONObjectTooLarge": 10334, "InterruptedAtShutdown": 11600, "InterruptedDueToReplStateChange": 11602,
    "StaleConfig": 13388, "NotPrimaryNoSecondaryOk": 13435, "NotPrimaryOrSecondary": 13436,
    # MongoDB has numbers only for these, and shows them as "Location" and the number.
    "LegacyNotPrimary": 10058, "CursorInUse": 12051, "UnknownStage": 40324, "MissingField": 40414,
    "UnknownField": 40415, "StreamNeedsDocument": 50808, "UnreadableResumeToken": 50811,
    "NegativeValue": 51024,
})  # fmt: skip


def code_name(code: int) -> str:
    """What a reply calls the code: those of assertions are numbers without a name."""
    named = code < 40_000 and code not in (Code.LegacyNotPrimary, Code.CursorInUse)
    return Code(code).name if named and code in Code.__members__.values() else f"Location{code}"


_REPLY_FIELDS = frozenset({
    "ok", "code", "codeName", "errmsg", "errorLabels", "$clusterTime", "operationTime", "lastCommittedOpTime",
    "$gleStats", "$configServerState", "$configTime", "$topologyTime", "electionId", "opTime", "topologyVersion",
})  # fmt: skip

# A member says one of these when it is not, or no longer, the primary (drivers' specification "SDAM").
NOT_PRIMARY = frozenset({
    Code.NotWritablePrimary, Code.NotPrimaryNoSecondaryOk, Code.NotPrimaryOrSecondary, Code.LegacyNotPrimary,
    Code.PrimarySteppedDown, Code.ShutdownInProgress, Code.InterruptedAtShutdown, Code.InterruptedDueToReplStateChange,
})  # fmt: skip
# The router's idea of who owns what was old.
STALE = frozenset({
    Code.StaleConfig, Code.StaleDbVersion, Code.StaleEpoch, Code.StaleShardVersion, Code.ShardInvalidatedForTargeting,
})  # fmt: skip
# Errors after which a driver may send a retryable write again (drivers' specification "Retryable writes").
RETRYABLE = NOT_PRIMARY | {
    Code.HostUnreachable, Code.HostNotFound, Code.NetworkTimeout, Code.ExceededTimeLimit, Code.SocketException,
    Code.ReadConcernMajorityNotAvailableYet, Code.FailedToSatisfyReadPreference, Code.NetworkInterfaceExceededTimeLimit,
}  # fmt: skip
# Errors that end a transaction so that the whole of it may be run again (labelled TransientTransactionError).
TRANSIENT = RETRYABLE | STALE | {
    Code.LockTimeout, Code.WriteConflict, Code.SnapshotUnavailable, Code.NoSuchTransaction,
    Code.PreparedTransactionInProgress, Code.SnapshotTooOld,
}  # fmt: skip


class RouterError(Exception):
    """An error reply: `code` as MongoDB numbers it, `labels` as drivers read them, `extra` fields of the reply."""

    def __init__(
        self, code: int, message: str, *, name: str | None = None, labels: Iterable[str] = (), extra: Any = None
    ):
        super().__init__(message)
        self.code = int(code)
        self.name = name or code_name(code)
        self.message = message
        self.labels = tuple(labels)
        self.extra: dict[str, Any] = extra or {}

    def reply(self) -> dict[str, Any]:
        """The document a client receives."""
        labels = {"errorLabels": list(self.labels)} if self.labels else {}
        said = {"ok": 0.0, "errmsg": self.message, "code": self.code, "codeName": self.name}
        return {**said, **self.extra, **labels}


class MemberUnreachableError(RouterError):
    """No answer from a member: it is down, it closed the connection, or it did not answer in time."""

    def __init__(self, message: str, *, sent: bool = True):
        super().__init__(Code.HostUnreachable, message)
        self.sent = sent


def failure(reply: dict[str, Any]) -> RouterError:
    """The error in a member's reply, with its name, labels and details."""
    code, message, labels = int(reply.get("code", 8)), str(reply.get("errmsg")), reply.get("errorLabels", ())
    details = {k: v for k, v in reply.items() if k not in _REPLY_FIELDS}
    return RouterError(code, message, name=reply.get("codeName"), labels=labels, extra=details)
