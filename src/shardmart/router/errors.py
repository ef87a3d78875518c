"""Errors as MongoDB clients expect them: a code, its name, a message and labels.

Every part of the router raises `RouterError`; the client connection turns it into a reply.  Codes and names
are those of `error_codes.yml` of MongoDB 6.0.
"""

from __future__ import annotations

from typing import Any

CODE_NAMES: dict[int, str] = {
    1: "InternalError",
    2: "BadValue",
    6: "HostUnreachable",
    9: "FailedToParse",
    11: "UserNotFound",
    13: "Unauthorized",
    14: "TypeMismatch",
    18: "AuthenticationFailed",
    20: "IllegalOperation",
    26: "NamespaceNotFound",
    43: "CursorNotFound",
    48: "NamespaceExists",
    50: "MaxTimeMSExpired",
    59: "CommandNotFound",
    61: "ShardKeyNotFound",
    63: "StaleShardVersion",
    70: "ShardNotFound",
    72: "InvalidOptions",
    73: "InvalidNamespace",
    89: "NetworkTimeout",
    91: "ShutdownInProgress",
    115: "CommandNotSupported",
    118: "NamespaceNotSharded",
    125: "CommandFailed",
    133: "FailedToSatisfyReadPreference",
    202: "NetworkInterfaceExceededTimeLimit",
    225: "TransactionTooOld",
    246: "SnapshotUnavailable",
    251: "NoSuchTransaction",
    256: "TransactionCommitted",
    263: "OperationNotSupportedInTransaction",
    283: "WouldChangeOwningShard",
    11000: "DuplicateKey",
    11601: "Interrupted",
    13388: "StaleConfig",
}

_REPLY_FIELDS = frozenset({
    "ok", "code", "codeName", "errmsg", "errorLabels", "$clusterTime", "operationTime", "lastCommittedOpTime",
    "$gleStats", "$configServerState", "$configTime", "$topologyTime", "electionId", "opTime",
    "topologyVersion",
})  # fmt: skip

# A member says one of these when it is not, or no longer, the primary (drivers' specification "SDAM").
NOT_PRIMARY = frozenset({10107, 13435, 11602, 189, 91, 11600, 10058, 13436})
# The router's idea of who owns what was old: StaleConfig, StaleDbVersion, StaleEpoch, ShardInvalidatedForTargeting.
STALE = frozenset({13388, 249, 150, 63, 304})
# No member of a shard that could answer was found, or it stopped answering.
UNREACHABLE = frozenset({6, 7, 89, 133, 202, 9001, 91, 11600})
# Errors after which a driver may send a retryable write again (drivers' specification "Retryable writes").
RETRYABLE = NOT_PRIMARY | {6, 7, 89, 91, 262, 9001, 134, 133, 202}
# Errors that end a transaction so that the whole of it may be run again (labelled TransientTransactionError).
TRANSIENT = RETRYABLE | STALE | {24, 112, 246, 251, 267, 239}


class RouterError(Exception):
    """An error reply: `code` as MongoDB numbers it, `labels` as drivers read them, `extra` fields of the reply."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        name: str | None = None,
        labels: tuple[str, ...] = (),
        extra: dict[str, Any] | None = None,
    ):
        super().__init__(message)
        self.code = code
        self.name = name or CODE_NAMES.get(code, f"Location{code}")
        self.message = message
        self.labels = labels
        self.extra = extra or {}

    def reply(self) -> dict[str, Any]:
        """The document a client receives."""
        document: dict[str, Any] = {"ok": 0.0, "errmsg": self.message, "code": self.code, "codeName": self.name}
        document.update(self.extra)
        if self.labels:
            document["errorLabels"] = list(self.labels)
        return document


class MemberUnreachableError(RouterError):
    """No answer from a member: it is down, it closed the connection, or it did not answer in time."""

    def __init__(self, message: str, *, sent: bool = True):
        super().__init__(6, message)
        self.sent = sent


def failure(reply: dict[str, Any]) -> RouterError:
    """The error in a member's reply, with its name, labels and details."""
    return RouterError(
        int(reply.get("code", 8)),
        str(reply.get("errmsg", "unknown error")),
        name=reply.get("codeName"),
        labels=tuple(reply.get("errorLabels", ())),
        extra={k: v for k, v in reply.items() if k not in _REPLY_FIELDS},
    )


def unauthorized(db: str, command: str) -> RouterError:
    """The error of a client whose roles do not allow `command` on `db`."""
    return RouterError(13, f"not authorized on {db} to execute command {command}")


def is_retryable_reply(reply: dict[str, Any]) -> bool:
    """Whether a member's reply says: not done here, send it again to the (new) primary."""
    if reply.get("ok") == 1:
        concern = reply.get("writeConcernError")
        return bool(concern and concern.get("code") in NOT_PRIMARY)
    return reply.get("code") in RETRYABLE
