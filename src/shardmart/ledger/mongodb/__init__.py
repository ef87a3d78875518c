"""The ledger's system MongoDB: a sharded cluster spoken to through its routers, or a plain replica set."""

from __future__ import annotations

from .system import MongoSystem

__all__ = ["MongoSystem"]
