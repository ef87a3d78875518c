"""The ledger's system ring: carts on standalone servers, spoken to with the ring's own library.

The library is to a ring what PyMongo is to MongoDB: there is no other way to speak to one (docs/decisions/063).  What
stands behind is looked at without it (`copies`).
"""

from __future__ import annotations

from .system import RingSystem

__all__ = ["RingSystem"]
