"""What an exception of PyMongo says about the operation: it did not happen, or nobody knows.

Called by `ledger.runner`.  The rule is Jepsen's: an operation `failed` only if it certainly had no effect, everything
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

from .journal import Outcome

CERTAIN_CODES = {
    2: "BadValue",
    13: "Unauthorized",
    18: "AuthenticationFailed",
    59: "CommandNotFound",
    61: "ShardKeyNotFound",
    112: "WriteConflict",
    121: "DocumentValidationFailure",
}
"""Codes with which the server refuses before it writes.  WriteConflict inside a transaction aborts it."""


def classify(error: PyMongoError, *, retried: bool = False) -> tuple[Outcome, str]:
    """Whether `error` proves that nothing was written (`failed`) or not (`unknown`), and the error in short.

    PyMongo raises the first error of a write, not the server selection timeout of its retry, so a
    ServerSelectionTimeoutError means that nothing was ever sent - unless the caller `retried` by itself.
    """
    name = type(error).__name__
    code = getattr(error, "code", None)
    text = f"{name}{f' {code}' if code else ''}: {str(error).split(', full error')[0].splitlines()[0][:160]}"
    certain: bool
    if isinstance(error, DuplicateKeyError):
        certain = False
    elif isinstance(error, OperationFailure):
        labels = error.has_error_label("UnknownTransactionCommitResult") or error.has_error_label("RetryableWriteError")
        certain = code in CERTAIN_CODES and not labels
    else:
        certain = isinstance(error, ServerSelectionTimeoutError | ConfigurationError | InvalidOperation)
    return ("failed" if certain and not retried else "unknown"), text
