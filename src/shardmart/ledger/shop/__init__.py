"""The shop as a system of the ledger: its services by HTTP, its stores by URI, and the rules that both have to keep.

It imports nothing of the shop: what it checks is what a customer and an auditor see.
"""

from .system import ShopSystem

__all__ = ["ShopSystem"]
