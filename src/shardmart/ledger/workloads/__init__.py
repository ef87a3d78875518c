"""The workloads, by name.  Each stands in a file of its own; a new one is that file and a line here."""

from __future__ import annotations

from . import append, carts, orders, regions, register, shop, stock, transfer
from .workload import Workload, connected

WORKLOADS: dict[str, Workload] = {
    module.WORKLOAD.name: module.WORKLOAD
    for module in (
        orders,
        stock,
        transfer,
        register,
        append,
        regions,
        carts,
        shop,
    )
}

__all__ = ["WORKLOADS", "Workload", "connected"]
