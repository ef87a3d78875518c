"""Make nodes equal by comparing them: row by row, the greater version wins, whatever was or was not replicated.

It writes as a peer would (the trigger decides, so a row that changed meanwhile stays as it is) and under a
replication origin of its own, so that nothing it writes is told to the peers again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
from psycopg import errors

from shardmart.errors import BadUseError, RefusedError, ShardmartError

from ..configuration import Configuration, Node
from ..connection import Connection, administrator, is_away, rows
from . import comparison, subscriptions
from .comparison import COLUMNS, CONTENT, TIME, Row, version

DAY_SECONDS = 86_400
KEEP_TOMBSTONES_DAYS = 7.0
"""A tombstone ends when it is older than this AND every node is there, was told everything, and has it: no absent node
outlives one, however long it is away."""

WATCH_SECONDS = 3.0
"""A worker that fails is started again every second, and is gone for a part of each; one that is slow never is."""

INSERT = f"INSERT INTO Customer_Region ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"  # noqa: S608


@dataclass
class Repair:
    """What a repair did: to subscriptions, to rows per node, to tombstones; what it could not do; which nodes were
    away."""

    subscriptions: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    different: int = 0
    tombstones: int = 0
    failed: list[str] = field(default_factory=list)
    """Lines: a subscription that could not be mended, a row that a node does not take."""
    away: list[str] = field(default_factory=list)

    @property
    def changes(self) -> list[str]:
        """Everything that was changed, in lines."""
        lines = list(self.subscriptions)
        lines += [f"{node}: {count} rows" for node, count in self.rows.items() if count]
        return lines + ([f"{self.tombstones} tombstones removed everywhere"] if self.tombstones else [])


def repair(
    configuration: Configuration,
    names: Sequence[str] = (),
    *,
    keep_tombstones_days: float = KEEP_TOMBSTONES_DAYS,
    settle_seconds: float = 10,
) -> Repair:
    """Mend the subscriptions and make the rows of these nodes (all that answer when none is named) equal.

    BadUseError for a node that there is not, or one alone: it has nobody to be equal to.
    """
    done = Repair()
    wanted = [configuration.node(name) for name in dict.fromkeys(names)] or list(configuration.nodes)
    if len(wanted) < 2:
        raise BadUseError(f"a repair is between two nodes or more, and {wanted[0].name} alone is named")
    answers = subscriptions.reachable(configuration)
    there = tuple(node for node in wanted if answers[node] is None)
    done.away = [node.name for node in wanted if answers[node] is not None]
    # What is wrong with subscriptions keeps nobody from comparing rows: where they do not come, the repair brings them.
    done.subscriptions = subscriptions.converge(configuration, there, failed=done.failed)
    if not comparison.settle(configuration, there, seconds=settle_seconds):
        done.subscriptions += _restart_the_stuck(configuration, there, done.failed)
    found = comparison.compare(configuration, there)
    done.different = len(found.different)
    for node in there:
        missing = [winner for by_node in found.different.values() if (winner := _winner(by_node)) != by_node[node]]
        done.rows[node.name] = len(missing)
        if missing:
            refused = _write(configuration, node, missing)
            done.rows[node.name] -= len(refused)
            done.failed += refused
    if not done.away and len(there) == len(configuration.nodes):
        done.tombstones = purge(configuration, there, keep_tombstones_days)
    return done


def _restart_the_stuck(configuration: Configuration, nodes: tuple[Node, ...], failed: list[str]) -> list[str]:
    """Subscriptions that fail again and again begin anew from now; those that are only slow go on."""
    changes = []
    for node, other in subscriptions.pairs(nodes):
        try:
            if _is_stuck(configuration, node, other):
                changes.append(subscriptions.make_anew(configuration, node, other))
        except ShardmartError as error:
            failed.append(subscriptions.not_mended(node, other, error))
    return changes


def _is_stuck(configuration: Configuration, node: Node, other: Node) -> bool:
    with administrator(configuration, node) as connection:
        end = time.monotonic() + WATCH_SECONDS
        while True:
            found = subscriptions.standing(connection, other)
            if not found or not found.errors:
                return False
            if not found.running:
                # One that is only cut off has errors, too; it goes on by itself, and could not be made anew now.
                return subscriptions.reaches(connection, other)
            if time.monotonic() > end:
                return False
            time.sleep(0.05)


def _winner(by_node: dict[Node, Row | None]) -> Row:
    """The row that has to be everywhere."""
    there = [row for row in by_node.values() if row is not None]
    best = max(there, key=lambda row: cast(Any, (version(row), row[: len(CONTENT)])))
    twins = {row[: len(CONTENT)] for row in there if version(row) == version(best)}
    if len(twins) > 1:  # written behind the triggers' back: one version, two contents; a new version decides
        return (*best[:TIME], cast(int, best[TIME]) + 1, *best[TIME + 1 :])
    return best


def _write(configuration: Configuration, node: Node, winners: Sequence[Row]) -> list[str]:
    """Write rows to a node; lines about those that it does not take, which keep no other from being written."""
    with administrator(configuration, node) as connection:
        _as_peer(connection, node)
        try:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(INSERT.encode(), winners)
            return []
        except psycopg.Error as error:
            if is_away(error):
                raise
        refused = []
        for row in winners:
            try:
                connection.execute(INSERT.encode(), row)
            except psycopg.Error as error:
                if is_away(error):
                    raise
                why = error.diag.message_primary or type(error).__name__
                refused.append(f"{node.name} does not take {row[0]}/{row[1]}: {why}")
        return refused


def _as_peer(connection: Connection, node: Node) -> None:
    """What this connection writes is applied by the triggers of replication, and told to nobody."""
    try:
        connection.execute("SELECT pg_replication_origin_session_setup(%s)", (subscriptions.REPAIR_ORIGIN,))
    except (errors.ObjectInUse, psycopg.errors.ObjectNotInPrerequisiteState):
        raise RefusedError(f"{node.name}: another repair is at work there: wait for it") from None
    connection.execute("SET session_replication_role = replica")
    connection.execute("SET shardmart.repair = 'on'")


def purge(configuration: Configuration, nodes: tuple[Node, ...], keep_days: float) -> int:
    """Remove tombstones that every node has and that are old enough; returns how many keys.

    Only when every node was told everything: a change that is still on its way could bring a removed row back.
    """
    if len(nodes) < len(configuration.nodes) or not comparison.settle(configuration, nodes, seconds=5):
        return 0
    query = """SELECT region, customer_id, version_time, version_node FROM Customer_Region
        WHERE deleted AND version_time < (extract(epoch FROM clock_timestamp()) - %s) * 1000000"""
    common: set[Row] | None = None
    for node in nodes:
        with administrator(configuration, node) as connection:
            here = {tuple(row) for row in rows(connection, query, keep_days * DAY_SECONDS)}
        common = here if common is None else common & here
    if not common:
        return 0
    statement = b"""DELETE FROM Customer_Region WHERE deleted AND region = %s AND customer_id = %s
        AND version_time = %s AND version_node = %s"""
    for node in nodes:
        with administrator(configuration, node) as connection:
            _as_peer(connection, node)
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(statement, sorted(common, key=str))
    return len(common)
