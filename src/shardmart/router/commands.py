"""Importing this module fills the table of commands."""

from .administration import collections, diagnostics, sharding, users  # noqa: F401
from .operations import aggregation, reads, transactions, writes  # noqa: F401
