"""Two or more nodes compared: checksums per region and range first, then the rows of ranges that differ.

It changes nothing.  A checksum is the sum of a hash of every row (tombstones and versions included), so its order is
of no matter; a range is one of RANGES classes of keys by their hash.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from ..configuration import Configuration, Node
from ..connection import Connection, administrator, rows, scalar
from . import subscriptions

RANGES = 64
COLUMNS = (
    "region", "customer_id", "customer_name", "email", "city", "country", "deleted", "version_time", "version_node",
    "base_time", "base_node",
)  # fmt: skip
CONTENT = COLUMNS[:9]
"""What has to be equal. What a version was made from only serves to see conflicts."""
TIME, NODE = COLUMNS.index("version_time"), COLUMNS.index("version_node")
Key = tuple[str, str]
Row = tuple[object, ...]
Version = tuple[int, str]

CHECKSUMS = f"""SELECT region, hashtext(customer_id) & {RANGES - 1}, count(*),
        sum(hashtextextended(ROW({", ".join(CONTENT)})::text, 0)::numeric)::text
    FROM Customer_Region GROUP BY 1, 2"""  # noqa: S608  our own names
ROWS = f"""SELECT {", ".join(COLUMNS)} FROM Customer_Region
    WHERE region = %s AND hashtext(customer_id) & {RANGES - 1} = %s"""  # noqa: S608
THESE = f"""SELECT {", ".join(COLUMNS)} FROM Customer_Region
    WHERE (region, customer_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"""  # noqa: S608


@dataclass
class Comparison:
    """Which nodes were compared, each one's checksum per region, and the rows of every key on which they differ."""

    nodes: tuple[Node, ...]
    checksums: dict[str, dict[str, str]] = field(default_factory=dict)
    """Node → region → rows and checksum."""
    different: dict[Key, dict[Node, Row | None]] = field(default_factory=dict)


def compare(configuration: Configuration, nodes: tuple[Node, ...]) -> Comparison:
    """Compare Customer_Region on these nodes."""
    found = Comparison(nodes)
    sums: dict[Node, dict[tuple[str, int], tuple[int, str]]] = {}
    for node in nodes:
        with administrator(configuration, node) as connection:
            sums[node] = {(r, n): (count, checksum) for r, n, count, checksum in rows(connection, CHECKSUMS)}
        found.checksums[node.name] = _per_region(sums[node])
    ranges = {place for each in sums.values() for place in each}
    unequal = sorted(place for place in ranges if len({each.get(place) for each in sums.values()}) > 1)
    if not unequal:
        return found
    seen: dict[Key, dict[Node, Row | None]] = {}
    for node in nodes:
        with administrator(configuration, node) as connection:
            for place in unequal:
                for row in rows(connection, ROWS, *place):
                    seen.setdefault((row[0], row[1]), dict.fromkeys(nodes))[node] = row
    found.different = {
        key: by_node
        for key, by_node in seen.items()
        if len({row and row[: len(CONTENT)] for row in by_node.values()}) > 1
    }
    return found


def confirm(configuration: Configuration, found: Comparison) -> None:
    """Keep of the differences those that no write explains which came between the reading of one node and the next.

    To be called when every node was told (`settle`) all that was written before `found` was read: what was the newest
    row then is on each of them by now, or a newer one.
    """
    keys = [list(part) for part in zip(*found.different, strict=True)] or [[], []]
    again: dict[Key, dict[Node, Row | None]] = {key: dict.fromkeys(found.nodes) for key in found.different}
    for node in found.nodes:
        with administrator(configuration, node) as connection:
            for row in rows(connection, THESE, *keys):
                again[row[0], row[1]][node] = row
    found.different = {
        key: again[key]
        for key, before in found.different.items()
        if _differs(list(again[key].values()), max(version(row) for row in before.values() if row))
    }


def _differs(now: Sequence[Row | None], newest: Version) -> bool:
    there = [row for row in now if row is not None]
    if not there:
        return False
    behind = len(there) < len(now) or any(version(row) < newest for row in there)
    return behind or len({row[: len(CONTENT)] for row in there}) > len({version(row) for row in there})


def version(row: Row) -> Version:
    """What decides between two rows of one key: the time, then the node."""
    return cast(Version, (row[TIME], row[NODE]))


def _per_region(sums: Mapping[tuple[str, int], tuple[int, str]]) -> dict[str, str]:
    totals: dict[str, tuple[int, int]] = {}
    for (region, _), (count, checksum) in sums.items():
        before = totals.get(region, (0, 0))
        totals[region] = before[0] + count, before[1] + int(checksum)
    return {region: f"{count} rows {checksum % 2**32:08x}" for region, (count, checksum) in sorted(totals.items())}


def settle(configuration: Configuration, nodes: tuple[Node, ...], *, seconds: float) -> bool:
    """Wait until each of these nodes has been told all that the others have written so far; whether that came to be."""
    return not untold(configuration, nodes, seconds=seconds)


def untold(configuration: Configuration, nodes: tuple[Node, ...], *, seconds: float) -> list[tuple[Node, Node]]:
    """Wait as `settle` does; the pairs (node, other) of which the node was not told all that the other has written."""
    end = time.monotonic() + seconds
    marks: dict[Node, str] = {}
    for node in nodes:
        with administrator(configuration, node) as connection:
            marks[node] = _mark(connection)
    waiting = list(subscriptions.pairs(nodes))
    while True:
        waiting = [(node, other) for node, other in waiting if not _told(configuration, node, other, marks[other])]
        if not waiting or time.monotonic() > end:
            return waiting
        time.sleep(0.1)


def _mark(connection: Connection) -> str:
    """A place in the log behind everything written so far, that a peer confirms also where nothing was for it."""
    return str(scalar(connection, "SELECT pg_logical_emit_message(true, 'shardmart', 'settle')::text"))


def _told(configuration: Configuration, node: Node, other: Node, mark: str) -> bool:
    with administrator(configuration, other) as connection:
        query = """SELECT coalesce(bool_and(active AND confirmed_flush_lsn >= %s::pg_lsn), false)
            FROM pg_replication_slots WHERE slot_name = %s"""
        return bool(scalar(connection, query, mark, subscriptions.slot(node, other)))
