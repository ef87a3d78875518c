"""The workloads, by name.  Each one says which collections it needs, what a client does next, and how to do it."""

from __future__ import annotations

from .append import Append
from .orders import Orders
from .register import Register
from .stock import Stock
from .transfer import Transfer
from .workload import Context, NoEffectError, Workload

WORKLOADS: dict[str, type[Workload]] = {
    workload.name: workload for workload in (Orders, Stock, Transfer, Register, Append)
}

__all__ = ["WORKLOADS", "Context", "NoEffectError", "Workload"]
