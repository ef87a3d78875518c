"""The state of the nodes and of what goes between them, and what is wrong with it, in lines that name the place.

It changes nothing.  Without `compare` no row is read but counted.
"""

from __future__ import annotations

import time
from typing import Any

from shardmart.errors import ShardmartError, UnreachableError

from ..configuration import Configuration, Node
from ..connection import Connection, administrator, rows, scalar
from . import comparison, subscriptions, timer

FUTURE_SECONDS = 5
"""A version that is later than the node's clock by more than this was stamped by a clock that is ahead."""
LAGGING_BYTES = 16 * 2**20
"""More than this untold is worth a line."""
KEPT_BYTES = 128 * 2**20
"""So is more than this of log that is kept for a node, though it was told: a transaction is open, or was prepared."""
SETTLE_SECONDS = 10.0
"""What was written is told, and a peer that comes back is connected to, within this time, or something is wrong."""

COUNTS = """SELECT count(*) FILTER (WHERE NOT deleted), count(*) FILTER (WHERE deleted),
        count(*) FILTER (WHERE version_time > (extract(epoch FROM clock_timestamp()) + %s) * 1000000)
    FROM Customer_Region"""
SLOT = """SELECT active, wal_status, pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint,
        pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = %s"""


def status(
    configuration: Configuration, *, compare: bool = True, settle_seconds: float = SETTLE_SECONDS
) -> dict[str, Any]:
    """Nodes, peers and differences as plain data; `problems` are lines, empty when all is well."""
    end = time.monotonic() + settle_seconds
    problems: list[str] = []
    nodes = [_node(configuration, node, problems) for node in configuration.nodes]
    up = tuple(node for node, facts in zip(configuration.nodes, nodes, strict=True) if facts["up"])
    waiting: list[tuple[Node, Node]] = []
    compared: dict[str, Any] = {"rows_different": None}
    differ: list[str] = []
    if compare and up:
        waiting, found = _compared(configuration, up, settle_seconds)
        compared = {
            "checksums": found.checksums,
            "rows_different": len(found.different),
            "compared": [node.name for node in up],
            "everything_told": not waiting,
        }
        differ = _different(found, settled=not waiting)
    peers = _peers(configuration, up, problems, end)
    states = {(peer["to"], peer["from"]): peer["state"] for peer in peers}
    problems += [
        f"{node.name} was not told within {settle_seconds:g} s all that {other.name} has written"
        for node, other in waiting
        if states[node.name, other.name] == "streaming"  # the others are named already
    ]
    facts: dict[str, Any] = {"nodes": nodes, "peers": peers} | compared
    problems += differ
    facts["repairs"] = timer.last(configuration, up)
    if missed := timer.late(facts["repairs"]):
        problems.append(missed)
    return facts | {"problems": problems}


def _compared(
    configuration: Configuration, nodes: tuple[Node, ...], seconds: float
) -> tuple[list[tuple[Node, Node]], comparison.Comparison]:
    """Who was not told everything in time, and on what the nodes differ.

    They are read one after the other: what differs is looked at again when all were told what was there to see.
    """
    waiting = comparison.untold(configuration, nodes, seconds=seconds)
    found = comparison.compare(configuration, nodes)
    if found.different and not waiting:
        waiting = comparison.untold(configuration, nodes, seconds=seconds)
        if not waiting:
            comparison.confirm(configuration, found)
    return waiting, found


def _different(found: comparison.Comparison, *, settled: bool) -> list[str]:
    if not found.different:
        return []
    some = ", ".join(f"{region}/{key}" for region, key in list(found.different)[:3])
    hint = "" if settled else " (changes are still on their way)"
    among = ", ".join(node.name for node in found.nodes)
    return [f"{len(found.different)} rows differ between {among}, such as {some}{hint}: `shardmart fragments repair`"]


def _peers(configuration: Configuration, up: tuple[Node, ...], problems: list[str], end: float) -> list[dict[str, Any]]:
    """Who is told by whom; looked at again until `end` while one is connecting."""
    while True:
        said: list[str] = []
        pairs = subscriptions.pairs(configuration.nodes)
        peers = [_peer(configuration, node, other, up, said) for node, other in pairs]
        if time.monotonic() > end or all(peer["state"] != "connecting" for peer in peers):
            problems += said
            return peers
        time.sleep(0.2)


def _node(configuration: Configuration, node: Node, problems: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": node.name, "address": f"{node.host}:{node.port}", "up": False}
    try:
        with administrator(configuration, node) as connection:
            live, tombstones, future = rows(connection, COUNTS, FUTURE_SECONDS)[0]
            facts |= {
                "up": True,
                "version": str(scalar(connection, "SHOW server_version")),
                "customers": live,
                "tombstones": tombstones,
                "from_the_future": future,
                "conflicts": scalar(connection, "SELECT count(*) FROM Customer_Region_Conflicts"),
                "last_conflict": _last_conflict(connection),
                "in_doubt": scalar(connection, "SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'shardmart:%%'"),
            }
    except ShardmartError as error:
        problems.append(str(error))
        return facts
    if future:
        problems.append(f"{node.name}: {future} rows are stamped in the future: a node's clock is ahead")
    if facts["in_doubt"]:
        problems.append(
            f"{node.name}: {facts['in_doubt']} prepared transactions hold locks: `shardmart fragments recover`"
        )
    return facts


def _last_conflict(connection: Connection) -> str | None:
    query = """SELECT seen_at::timestamptz(0)::text || ' ' || region || '/' || customer_id || ': ' || kept_node
        || ' kept, ' || lost_node || ' lost' FROM Customer_Region_Conflicts ORDER BY seen_at DESC LIMIT 1"""
    found = connection.execute(query.encode()).fetchone()
    return str(found[0]) if found else None


def _peer(
    configuration: Configuration, node: Node, other: Node, up: tuple[Node, ...], problems: list[str]
) -> dict[str, Any]:
    """What `node` is told by `other`."""
    facts: dict[str, Any] = {"to": node.name, "from": other.name, "state": "streaming"}
    subscription = slot = None
    if node in up:
        with administrator(configuration, node) as connection:
            subscription = subscriptions.standing(connection, other)
    if other in up:
        with administrator(configuration, other) as connection:
            slot = connection.execute(SLOT.encode(), (subscriptions.slot(node, other),)).fetchone()
    if slot:
        facts |= {"wal_status": slot[1], "lag_bytes": slot[2], "kept_bytes": slot[3]}
    if subscription:
        facts["errors"] = subscription.errors
    facts["state"] = _state(node, other, up, subscription, slot)
    if facts["state"] in ("missing", "disabled", "slot missing", "slot lost", "stopped"):
        problems.append(f"{node.name} is not told by {other.name}: {facts['state']}: `shardmart fragments repair`")
    elif facts["state"] == "connecting":
        problems.append(
            f"{node.name} is not told by {other.name}: it does not get through to it: see {node.name}'s log"
        )
    elif slot and slot[2] is not None and slot[2] > LAGGING_BYTES:
        problems.append(
            f"{node.name} has not been told {slot[2]:,} bytes by {other.name}, which keeps {slot[3]:,} for it"
        )
    elif slot and slot[3] is not None and slot[3] > KEPT_BYTES:
        problems.append(
            f"{other.name} keeps {slot[3]:,} bytes of log for {node.name}, which was told: a transaction is open for "
            "long, or `shardmart fragments recover`"
        )
    return facts


def _state(
    node: Node,
    other: Node,
    up: tuple[Node, ...],
    subscription: subscriptions.Standing | None,
    slot: tuple[Any, ...] | None,
) -> str:
    if node not in up or other not in up:
        return "away"
    if subscription is None:
        return "missing"
    if not subscription.enabled:
        return "disabled"
    if slot is None:
        return "slot missing"
    if slot[1] == "lost":
        return "slot lost"
    if not subscription.running or not slot[0]:
        # A worker that fails is started again and again; one that waits for its peer has no error.
        return "stopped" if subscription.errors else "connecting"
    return "streaming"


def wait_until_streaming(configuration: Configuration, seconds: float) -> None:
    """Wait until every node is told by every other.  UnreachableError that names those who are not."""
    end = time.monotonic() + seconds
    while True:
        peers = [
            _peer(configuration, *pair, configuration.nodes, []) for pair in subscriptions.pairs(configuration.nodes)
        ]
        late = [f"{p['to']} is not told by {p['from']} ({p['state']})" for p in peers if p["state"] != "streaming"]
        if not late:
            return
        if time.monotonic() > end:
            raise UnreachableError(f"waited {seconds:g} s for the peers: {'; '.join(late)}")
        time.sleep(0.1)


def wait_until_answering(configuration: Configuration, seconds: float) -> None:
    """Wait until every node answers as it does to the administrator: a pod may still be starting.  UnreachableError
    with what the nodes that do not answer said last."""
    end = time.monotonic() + seconds
    while True:
        away: dict[str, ShardmartError] = {}
        for node in configuration.nodes:
            try:
                with administrator(configuration, node, database="postgres"):
                    pass
            except ShardmartError as error:
                away[node.name] = error
        if not away:
            return
        if time.monotonic() > end:
            raise UnreachableError(f"waited {seconds:g} s: {'; '.join(map(str, away.values()))}")
        time.sleep(0.5)
