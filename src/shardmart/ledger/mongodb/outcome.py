"""What an exception of PyMongo says about the operation: it did not happen, or nobody knows.

The rule is Jepsen's: an operation `failed` only if it certainly had no effect, everything
else is `unknown` and may have happened at most once.  A wrong `failed` would make the checker cry phantom.
"""

from __future__ import annotations

from pymongo.errors import (
    ConfigurationError,
    DuplicateKeyError,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from shardmart.cluster.protocol import codes
from shardmart.cluster.protocol.connection import is_code

from ..journal import Outcome

CERTAIN_CODES = frozenset(
    {
        codes.BAD_VALUE,
        codes.COMMAND_NOT_FOUND,
        codes.SHARD_KEY_NOT_FOUND,
        codes.WRITE_CONFLICT,  # inside a transaction it aborts it
        codes.DOCUMENT_VALIDATION_FAILURE,
    }
)
"""Codes with which the server refuses what the operation itself asks for, at its first try as at any other.

Not Unauthorized (13) and AuthenticationFailed (18): a driver's retry may get them on a new connection, after a first
try that had its effect and whose answer was lost.
"""


def classify(error: PyMongoError) -> tuple[Outcome, str]:
    """Whether `error` proves that nothing was written (`failed`) or not (`unknown`), and the error in short.

    PyMongo raises the first error of a write, not the server selection timeout of its retry, so a
    ServerSelectionTimeoutError means that nothing was ever sent.
    """
    name = type(error).__name__
    code = getattr(error, "code", None)
    text = f"{name}{f' {code}' if code else ''}: {str(error).split(', full error')[0].splitlines()[0][:160]}"
    certain: bool
    if isinstance(error, DuplicateKeyError):
        certain = False
    elif isinstance(error, OperationFailure):
        labels = error.has_error_label("UnknownTransactionCommitResult") or error.has_error_label("RetryableWriteError")
        certain = is_code(error, *CERTAIN_CODES) and not labels
    else:
        certain = isinstance(error, ServerSelectionTimeoutError | ConfigurationError | InvalidOperation)
    return ("failed" if certain else "unknown"), text
