"""Which fragments a query touches, and what is done where it lies: read from EXPLAIN, never guessed.

EXPLAIN (VERBOSE) names every table that is scanned and the SQL that a foreign scan sends; a fragment that is pruned
is not in the plan at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..configuration import Configuration, Node
from ..connection import Connection, reader

Plan = dict[str, Any]

PRICE_QUERIES: dict[str, tuple[str, frozenset[str]]] = {
    "one price": ("SELECT * FROM Products WHERE price_cents = 1999", frozenset({"products_10_to_100"})),
    "a range in one band": (
        "SELECT name FROM Products WHERE price_cents >= 10100 AND price_cents < 20000",
        frozenset({"products_101_to_250"}),
    ),
    "a range over two bands": (
        "SELECT count(*) FROM Products WHERE price_cents BETWEEN 20000 AND 30000",
        frozenset({"products_101_to_250", "products_251_to_500"}),
    ),
    "the last cent of a band": ("SELECT * FROM Products WHERE price_cents = 10099", frozenset({"products_10_to_100"})),
    "the first cent of the next": (
        "SELECT * FROM Products WHERE price_cents = 10100",
        frozenset({"products_101_to_250"}),
    ),
    "a list of prices": (
        "SELECT * FROM Products WHERE price_cents IN (1999, 49900)",
        frozenset({"products_10_to_100", "products_251_to_500"}),
    ),
    "a price and a category": (
        "SELECT sum(stock) FROM Products WHERE category = 'Books' AND price_cents < 5000",
        frozenset({"products_10_to_100"}),
    ),
    "a price that is in no band": ("SELECT * FROM Products WHERE price_cents = 60000", frozenset()),
    "no price": (
        "SELECT count(*) FROM Products",
        frozenset({"products_10_to_100", "products_101_to_250", "products_251_to_500"}),
    ),
}
"""Queries on prices and exactly the fragments that each may touch, without the catch-all."""

STOCK_BY_BAND = "SELECT price_cents, count(*), sum(stock) FROM Products GROUP BY price_cents"
"""Grouped by the key of the fragments: every group lies in one, so each node aggregates its own."""


@dataclass
class Reading:
    """What a plan says: tables scanned, indexes used, SQL sent to other nodes, and, if it was run, rows and
    milliseconds."""

    tables: set[str] = field(default_factory=set)
    indexes: set[str] = field(default_factory=set)
    remote: list[str] = field(default_factory=list)
    rows: int = 0
    milliseconds: float | None = None


def explain(configuration: Configuration, node: Node, query: str, *, run: bool = False) -> Reading:
    """Read the plan of a query on a node; with `run` execute it, too.  RefusedError where it would change something."""
    with reader(configuration, node) as connection:
        return read(connection, query, run=run)


def read(connection: Connection, query: str, *values: object, run: bool = False) -> Reading:
    """Read the plan of a query on a connection; `values` fill its %s."""
    options = "ANALYZE, VERBOSE, FORMAT JSON" if run else "VERBOSE, FORMAT JSON"
    # Prepared, PostgreSQL takes one statement: what follows a semicolon is refused, not run.
    explained = f"EXPLAIN ({options}) {query}".encode()
    found = connection.execute(explained, values or None, prepare=True).fetchone()
    assert found
    document = found[0] if isinstance(found[0], list) else json.loads(found[0])
    reading = Reading(milliseconds=document[0].get("Execution Time"))
    for plan in _nodes(document[0]["Plan"]):
        if name := plan.get("Relation Name"):
            reading.tables.add(name)
        if name := plan.get("Index Name"):
            reading.indexes.add(name)
        if statement := plan.get("Remote SQL"):
            reading.remote.append(statement)
            reading.tables |= _relations(plan)
        if "Plans" not in plan:
            reading.rows += int(plan.get("Actual Rows", 0) * plan.get("Actual Loops", 1))
    return reading


def _nodes(plan: Plan) -> Iterator[Plan]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _relations(plan: Plan) -> set[str]:
    """The tables of a foreign scan that stands for more than one, or for an aggregate of one."""
    words = str(plan.get("Relations", "")).replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {word.removeprefix("public.") for word in words if word.startswith(("products_", "public."))}


def unpruned(configuration: Configuration, node: Node) -> list[str]:
    """The price queries that touch another set of fragments than they should, in lines; empty where pruning holds."""
    catch_all = {"products_other"} if configuration.catch_all else set()
    faults = []
    for name, (query, expected) in PRICE_QUERIES.items():
        touched = explain(configuration, node, query).tables & {band.table for band in configuration.bands}
        if touched - catch_all != expected:
            faults.append(
                f"{name}: touches {', '.join(sorted(touched)) or 'nothing'}, expected {', '.join(sorted(expected))}"
            )
    return faults
