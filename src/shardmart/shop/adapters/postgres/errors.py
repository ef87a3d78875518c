"""What PostgreSQL's errors mean to the shop, by SQLSTATE (PostgreSQL 18 manual, appendix A; CockroachDB's too)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from ...ports import ConflictError, StoreError

AGAIN = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: nothing was written, and the next time may be better."""
READ_ONLY = "25006"
"""The server takes no writes: it was the primary, and is it no more."""
UNDECIDED = frozenset({"40003", "08007"})
"""Nobody knows whether the transaction was committed."""
UNIQUE = "23505"
PASSING_CLASSES = ("08", "53", "57", "58")
"""Connection, resources, operator's intervention (time limits, too), the system."""
PASSING = AGAIN | UNDECIDED | {READ_ONLY, "25P03", "25P04", "55P03"}
"""And the time limits of idle sessions, of transactions and of waiting for a lock."""


def is_gone(error: Exception) -> bool:
    """Whether the connection ended, and with it what had not been committed."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate[:2] == "08" or error.sqlstate in ("57P01", "57P02", "57P03")


def may_try_again(error: Exception) -> bool:
    """Whether a transaction that ended so before its COMMIT did nothing, and may end otherwise the next time."""
    if not isinstance(error, psycopg.Error):
        return False
    return error.sqlstate in AGAIN | {UNIQUE, READ_ONLY} or is_gone(error)


def is_undecided(error: psycopg.Error) -> bool:
    """Whether a COMMIT that ended so may have happened."""
    return error.sqlstate in UNDECIDED or is_gone(error)


@contextmanager
def errors_of_the_store() -> Iterator[None]:
    """Turn what the driver raises where the store is away into StoreError; a mistake of ours stays what it is."""
    try:
        yield
    except TimeoutError:
        raise StoreError("PostgreSQL did not answer in time") from None
    except psycopg.Error as error:
        if error.sqlstate == UNIQUE:
            raise ConflictError(said(error)) from error
        if is_gone(error) or error.sqlstate in PASSING or (error.sqlstate or "")[:2] in PASSING_CLASSES:
            raise StoreError(said(error)) from error
        raise


def said(error: psycopg.Error) -> str:
    """The error in short, without rows and addresses of data."""
    return f"PostgreSQL: {type(error).__name__}{f' {error.sqlstate}' if error.sqlstate else ''}"
