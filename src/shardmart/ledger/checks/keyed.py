"""Histories of one key at a time: registers must be linearizable, lists must only grow and hide nothing.

Works on the table `history` of `staging`, sorted by key outside memory; one key's operations are few by construction
(the workloads retire keys).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

from ..journal import Operation
from . import linearizability
from .staging import Row, Staging
from .verdict import Verdict

BY_KEY = "SELECT key, body FROM history ORDER BY key, start"


def row(operation: Operation) -> Row:
    """The row of `history` that keeps `operation`."""
    body = (
        operation.client,
        operation.number,
        operation.function,
        operation.value,
        operation.start,
        operation.end,
        operation.outcome,
        operation.result,
        operation.error,
    )
    return operation.value["key"], operation.start, json.dumps(body)


def _histories(staging: Staging) -> Iterator[tuple[int, list[Operation]]]:
    for key, rows in groupby(staging.ask(BY_KEY), key=lambda r: r[0]):
        yield key, [Operation(*json.loads(body)) for _, body in rows]


def as_call(operation: Operation) -> linearizability.Call | None:
    """The call on the register an operation was; None if it certainly did nothing."""
    if operation.outcome == "failed":
        return None
    answered = operation.outcome == "ok"
    end = operation.end if answered else None
    value, result = operation.value, operation.result
    if operation.function == "read":
        return linearizability.Call("read", operation.start, end, result["value"] if answered else None)
    if operation.function == "write":
        return linearizability.Call("write", operation.start, end, value["value"])
    return linearizability.Call(
        "cas", operation.start, end, value["value"], value["expected"], done=bool(result) if answered else True
    )


def check_registers(staging: Staging, verdict: Verdict) -> int:
    """Check every register's history; returns how many were checked."""
    checked = 0
    for key, operations in _histories(staging):
        pairs = [(operation, call) for operation in operations if (call := as_call(operation)) is not None]
        result = linearizability.check([call for _, call in pairs])
        checked += 1
        if result.linearizable:
            continue
        stuck = tuple(pairs[i][0].describe() for i in result.stuck[:6])
        before = tuple(pairs[i][0].describe() for i in result.prefix[-3:])
        if result.linearizable is None:
            verdict.add("undecided", "register", f"register {key}: {result.visited:,} configurations tried", stuck)
        else:
            verdict.add(
                "not linearizable",
                "register",
                f"register {key}: {len(result.prefix)} of {len(pairs)} operations can be ordered, leaving the value"
                f" {result.state}; none of the next {len(result.stuck)} can follow",
                (*before, "— and then none of —", *stuck),
            )
    return checked


def check_lists(staging: Staging, verdict: Verdict) -> int:
    """Check every list's history against its final content; returns how many reads were checked."""
    reads = 0
    for key, operations in _histories(staging):
        final: list[int] = []
        for (body,) in staging.ask("SELECT body FROM document WHERE key = ?", key):
            final = json.loads(body)
        reads += _check_list(key, operations, final, verdict)
    return reads


def _check_list(key: int, operations: list[Operation], final: list[int], verdict: Verdict) -> int:
    appends = [o for o in operations if o.function == "append" and o.outcome == "ok"]
    reads = [o for o in operations if o.function == "read" and o.outcome == "ok"]
    positions = {token: position for position, token in enumerate(final)}
    for read in reads:
        items: list[int] = read.result or []
        if items != final[: len(items)]:
            missing = [token for token in items if token not in positions]
            if missing:
                verdict.add(
                    "lost", "append", f"list {key}: {missing[0]} was read, and is gone at the end", (read.describe(),)
                )
            else:
                verdict.add(
                    "reordered", "append", f"list {key}: a read is no beginning of the final list", (read.describe(),)
                )
        held = set(items)
        for append in appends:
            if append.end is not None and append.end < read.start and append.token not in held:
                verdict.add(
                    "stale",
                    "append",
                    f"list {key}: a read does not hold an append acknowledged"
                    f" {(read.start - append.end) / 1e6:.1f} ms before it began",
                    (append.describe(), read.describe()),
                )
                break
    longest: Operation | None = None
    for read in sorted(reads, key=lambda o: o.end or 0):
        # Reads by end: whoever starts after the longest one ended must see at least as much.
        if longest and longest.end is not None and read.start > longest.end and len(read.result) < len(longest.result):
            verdict.add("stale", "append", f"list {key}: a later read saw less", (longest.describe(), read.describe()))
        if longest is None or len(read.result) > len(longest.result):
            longest = read
    return len(reads)
