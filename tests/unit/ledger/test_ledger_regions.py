"""The workload `regions`: what of rows and versions is an anomaly, each shown by a history made by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from synthetic_run import SyntheticRun

from shardmart.fragments import configuration
from shardmart.ledger.journal import token
from shardmart.ledger.regions import connections
from shardmart.ledger.regions.system import RegionSystem
from shardmart.ledger.workloads import WORKLOADS
from shardmart.ledger.workloads.regions import INSERT, NODES, RegionsGenerator

Make = Callable[[str], SyntheticRun]
NAMES = ("APJ", "EMEA", "LATAM")


def write(number: int, function: str, node: int, outcome: str = "ok", at: int | None = None) -> tuple[Any, ...]:
    """Operation `number` of one client, which made a version at time `at` (its number) on a node."""
    result = {"version": [number if at is None else at, NAMES[node]]} if outcome == "ok" else None
    return 10 * number, 10 * number + 5, function, {"key": 0, "node": node}, outcome, result


def row(node: str, at: int, of: str, number: int | None, *, deleted: bool = False) -> dict[str, Any]:
    name = "before" if number is None else str(token(0, number))
    return {"_id": f"{node}:0", "key": 0, "node": node, "version": [at, of], "deleted": deleted, "name": name}


def on_every_node(at: int, of: str, number: int | None, *, deleted: bool = False) -> list[dict[str, Any]]:
    return [row(node, at, of, number, deleted=deleted) for node in NAMES]


HISTORY = [write(0, "insert", 0), write(1, "update", 1), write(2, "delete", 2)]


@pytest.mark.parametrize(
    ("operations", "rows", "found"),
    [
        (HISTORY, on_every_node(2, "LATAM", 1, deleted=True), {}),
        (HISTORY[:2], on_every_node(1, "EMEA", 1), {}),
        # The greater version wins, whoever came last: the node decides between equal times.
        ([write(0, "insert", 0), write(1, "update", 1, at=9), write(2, "update", 2, at=9)],
         on_every_node(9, "LATAM", 2), {}),
        (HISTORY, on_every_node(1, "EMEA", 1), {"lost": 1}),
        (HISTORY, [], {"lost": 3}),
        (HISTORY, on_every_node(2, "LATAM", 1), {"returned": 1}),
        (HISTORY[:2], on_every_node(1, "EMEA", 0), {"tampered": 1}),
        (HISTORY[:2], on_every_node(1, "EMEA", 1, deleted=True), {"tampered": 1}),
        (HISTORY[:2], on_every_node(7, "EMEA", 1), {"phantom": 1}),
        (HISTORY[:2], [row("APJ", 1, "EMEA", 1), row("EMEA", 1, "EMEA", 1), row("LATAM", 0, "APJ", 0)],
         {"diverged": 1}),
        (HISTORY[:2], [*on_every_node(1, "EMEA", 1)[:2], {**row("LATAM", 1, "EMEA", 1), "key": 1}],
         {"phantom": 1, "diverged": 1}),
        # Nobody knows of the update's commit: it may be the end, or not.
        ([HISTORY[0], write(1, "update", 1, "unknown")], on_every_node(8, "EMEA", 1), {}),
        ([HISTORY[0], write(1, "update", 1, "unknown")], on_every_node(0, "APJ", 0), {}),
        ([HISTORY[0], write(1, "delete", 1, "unknown")], on_every_node(8, "EMEA", 0, deleted=True), {}),
        ([HISTORY[0], write(1, "update", 1, "failed")], on_every_node(8, "EMEA", 1), {"phantom": 1}),
        ([HISTORY[0], write(1, "update", 1, "unknown")], on_every_node(8, "EMEA", 0, deleted=True), {"phantom": 1}),
        # On one node a version never goes back; on another one it may be late.
        ([HISTORY[0], write(1, "update", 1, at=5), write(2, "read", 1, at=0)], on_every_node(5, "EMEA", 1),
         {"stale": 1}),
        ([HISTORY[0], write(1, "update", 1, at=5), write(2, "read", 2, at=0)], on_every_node(5, "EMEA", 1), {}),
        ([HISTORY[0], write(1, "update", 1, at=5), write(2, "update", 1, at=5)], on_every_node(5, "EMEA", 2),
         {"doubled": 1}),
    ],
)  # fmt: skip
def test_what_the_nodes_hold_is_judged_by_the_versions_that_were_acknowledged(
    synthetic: Make, operations: list[Any], rows: list[dict[str, Any]], found: dict[str, int]
) -> None:
    run = synthetic("regions")
    # Reads show [time, node] of whoever wrote: here the first write's.
    told = [(*o[:5], {"version": [o[5]["version"][0], "APJ"]}) if o[2] == "read" else o for o in operations]
    run.timed(0, told)
    run.final["customers"] = rows
    assert dict(run.check().counts) == found


def test_a_key_is_inserted_at_home_and_first_of_all() -> None:
    generator, dice = RegionsGenerator(), random.Random(1)
    seen: set[int] = set()
    for number in range(3000):
        function, value = generator.next(0, number, dice)
        if value["key"] not in seen or function == INSERT:
            assert (function, value["node"]) == (INSERT, value["key"] % NODES)
        seen.add(value["key"])
    assert len(seen) > 30


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (psycopg.errors.DeadlockDetected, "failed"),
        (psycopg.errors.CheckViolation, "failed"),
        (psycopg.errors.AdminShutdown, "unknown"),
        (psycopg.OperationalError, "unknown"),
    ],
)
def test_a_commit_without_an_answer_is_unknown(error: type[Exception], outcome: str) -> None:
    told = RegionSystem.classify(None, error("x"))  # type: ignore[arg-type]
    assert told is not None
    assert told[0] == outcome


def test_what_it_knows_of_the_stores_is_what_the_stores_say() -> None:
    """The ledger reads the file and never imports the fragments: two texts, one truth."""
    assert (connections.FILE, connections.VERSION) == (configuration.FILE, configuration.VERSION)
    assert (connections.USER, connections.DATABASE) == (configuration.APPLICATION, configuration.DATABASE)
    assert configuration.PASSWORDS[configuration.APPLICATION] == connections.PASSWORD_FILE


def test_all_leaves_it_out() -> None:
    assert WORKLOADS["regions"].by_name_only
