"""The ledger's system of region nodes: one table, written on every node, that its peers carry to each other."""

from __future__ import annotations

from .system import RegionSystem

__all__ = ["RegionSystem"]
