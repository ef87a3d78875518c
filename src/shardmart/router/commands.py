"""Importing this module fills the table of commands."""

from .administration import collections, diagnostics, sharding, users
from .operations import aggregation, reads, transactions, writes

__all__ = [
    "aggregation", "collections", "diagnostics", "reads", "sharding", "transactions", "users", "writes",
]  # fmt: skip
