"""Histories of one key at a time, sorted by key outside memory.

A key's operations are few by construction: workloads that keep histories retire their keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby

from ..journal import Operation
from .staging import Row, Staging

BY_KEY = "SELECT key, body FROM history ORDER BY key, start"


def row(operation: Operation) -> Row:
    """The row of `history` that keeps `operation`, whose value names a `key`."""
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


def histories(staging: Staging) -> Iterator[tuple[int, list[Operation]]]:
    """Each key with its operations, by their start."""
    for key, rows in groupby(staging.ask(BY_KEY), key=lambda r: r[0]):
        yield key, [Operation(*json.loads(body)) for _, body in rows]
