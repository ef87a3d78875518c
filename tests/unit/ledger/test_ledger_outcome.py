"""Only an error that proves there was no effect makes an operation `failed`."""

from __future__ import annotations

import pytest
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    DuplicateKeyError,
    InvalidOperation,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from shardmart.ledger.mongodb.outcome import classify


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ServerSelectionTimeoutError("no primary"), "failed"),
        (OperationFailure("invalid", 121), "failed"),
        # The retry of a write whose first answer was lost meets a server that does not know the user yet.
        (OperationFailure("not authorized", 13), "unknown"),
        (OperationFailure("authentication failed", 18), "unknown"),
        (AutoReconnect("connection closed"), "unknown"),
        (NetworkTimeout("timed out"), "unknown"),
        (OperationFailure("not primary", 10107), "unknown"),
        (OperationFailure("stepped down", 189), "unknown"),
        (WriteConcernError("waiting for replication timed out", 64), "unknown"),
        (WTimeoutError("wtimeout", 64), "unknown"),
        (DuplicateKeyError("E11000", 11000), "unknown"),
        (OperationFailure("x", 112, {"errorLabels": ["UnknownTransactionCommitResult"]}), "unknown"),
        (PyMongoError("anything else"), "unknown"),
        *((OperationFailure("refused", code), "failed") for code in (2, 59, 61, 112, 121)),
        (OperationFailure("x", 112, {"errorLabels": ["RetryableWriteError"]}), "unknown"),
        (OperationFailure("x", 121, {"errorLabels": ["TransientTransactionError"]}), "failed"),
        (ConfigurationError("no such option"), "failed"),
        (InvalidOperation("closed"), "failed"),
    ],
)
def test_outcome_of_an_error(error: PyMongoError, outcome: str) -> None:
    assert classify(error)[0] == outcome


def test_the_error_is_told_in_one_short_line() -> None:
    _, text = classify(OperationFailure("a\nb" + "x" * 500, 121))
    assert text.startswith("OperationFailure 121: a")
    assert "\n" not in text


def test_an_error_without_a_code_is_told_without_one() -> None:
    assert classify(AutoReconnect("connection closed")) == ("unknown", "AutoReconnect: connection closed")
