"""Importing this module fills the table of commands."""

from .administration import collections, diagnostics, sessions, sharding, users
from .operations import aggregation, reads, transactions, writes

__all__ = [
    "aggregation", "collections", "diagnostics", "reads", "sessions", "sharding", "transactions", "users", "writes",
]  # fmt: skip
