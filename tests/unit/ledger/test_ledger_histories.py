"""Histories that are judged by their order: what stale reads, lines, and the search for an order say, and to whom."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from synthetic_run import SyntheticRun

from shardmart.ledger import checker, cli
from shardmart.ledger.checks.linearizability import Call, check
from shardmart.ledger.checks.verdict import Verdict
from shardmart.ledger.journal import Operation
from shardmart.ledger.workloads import WORKLOADS
from shardmart.ledger.workloads.append import stale_reads

Make = Callable[[str], SyntheticRun]


def read(number: int, start: int, end: int | None, length: int) -> Operation:
    return Operation(0, number, "read", {"key": 0}, start, end, "ok", list(range(length)))


def stale(*reads: Operation) -> list[tuple[int, int]]:
    return [(earlier.number, later.number) for earlier, later in stale_reads(reads)]


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        # the first ends last: what counts is when a read ended, not when it began
        ([read(0, 0, 100, 5), read(1, 1, 10, 3), read(2, 20, 30, 2)], [(1, 2)]),
        ([read(0, 0, 10, 1), read(1, 5, 20, 3), read(2, 30, 40, 2)], [(1, 2)]),
        ([read(0, 0, 10, 3), read(1, 5, 20, 1), read(2, 30, 40, 2)], [(0, 2)]),
        ([read(0, 0, 10, 2), read(1, 11, 20, 2), read(2, 21, 30, 2)], []),
        ([read(0, 0, 10, 2), read(1, 10, 20, 1)], []),
        ([read(0, 0, 10, 2), read(1, 11, 20, 1), read(2, 21, 30, 1)], [(0, 1), (0, 2)]),
        ([read(0, 0, None, 2), read(1, 11, 20, 1)], []),
    ],
)
def test_a_read_is_stale_after_the_longest_that_had_ended(
    reads: list[Operation], expected: list[tuple[int, int]]
) -> None:
    assert stale(*reads) == expected


@pytest.mark.parametrize(
    "more",
    [
        [Call("write", 0, None, number) for number in range(8)],
        [Call("write", 0, None, 7), Call("write", 0, None, 7)],
        [Call("read", 0, None, None), Call("write", 0, None, 7)],
    ],
)
def test_what_nobody_answered_and_nobody_saw_is_not_tried(more: list[Call]) -> None:
    """Each would double what is to be searched, and the budget is for what can matter."""
    seven, wrong = Call("write", 0, 1, 7), Call("read", 2, 3, 55)
    result = check([seven, wrong, *more])
    assert (result.linearizable, result.visited) == (False, 2)


def test_what_ended_first_is_tried_first() -> None:
    """Most often it is what happened first, so that the search seldom turns back."""
    writes = [Call("write", 0, 10 + number, number) for number in range(6)]
    result = check([*writes, Call("read", 20, 21, 5)])
    assert (result.linearizable, result.visited) == (True, 8)


def put(start: int, end: int | None, token: int, outcome: str = "ok", key: int = 0) -> Any:
    return start, end, "put", {"key": key, "value": token}, outcome, 1 if outcome == "ok" else None


def delete(start: int, end: int, outcome: str = "ok", key: int = 0) -> Any:
    return start, end, "delete", {"key": key}, outcome, 1 if outcome == "ok" else None


def get(start: int, end: int, token: int | None) -> Any:
    return start, end, "get", {"key": 0}, "ok", {"value": token, "version": None if token is None else "1-u"}


def judged(synthetic: Make, operations: list[Any], final: int | None) -> Verdict:
    """A line's history, with a client for each operation."""
    run = synthetic("carts")
    for number, one in enumerate(operations):
        run.timed(number, [one])
    run.final["carts"] = [] if final is None else [{"_id": "0", "op": final}]
    return run.check()


@pytest.mark.parametrize(
    ("operations", "final"),
    [
        ([put(0, 10, 1), get(10, 12, None)], 1),
        ([put(0, 10, 1), put(10, 20, 2)], 1),
        ([put(0, 10, 1), delete(10, 20)], 1),
        ([put(0, 10, 1), get(11, 12, 1), put(11, 20, 2), get(15, 16, 1)], 2),
    ],
)
def test_what_begins_as_another_ends_may_come_before_it(
    synthetic: Make, operations: list[Any], final: int | None
) -> None:
    assert judged(synthetic, operations, final).anomalies == []


@pytest.mark.parametrize(
    ("operations", "final", "ordered"),
    [
        # nothing is there in the end, as it has to be, but what was read on the way cannot be
        (
            [put(0, 50, 1), put(0, 50, 2), get(10, 12, 1), get(13, 15, 2), get(16, 18, 1), delete(60, 70)],
            None,
            "4 of 7",
        ),
        # whose answer was lost took effect before the read, so the end is not what was written before
        ([put(0, 50, 2), put(0, None, 1, "unknown"), get(51, 53, 1)], 2, "3 of 4"),
    ],
)
def test_no_order_explains_the_end_and_the_reads(
    synthetic: Make, operations: list[Any], final: int | None, ordered: str
) -> None:
    (anomaly,) = judged(synthetic, operations, final).anomalies
    assert anomaly.kind == "not linearizable"
    assert anomaly.detail == f"line 0: {ordered} operations can be ordered, the end included"


def test_a_deletion_that_failed_explains_no_line_that_is_gone(synthetic: Make) -> None:
    (anomaly,) = judged(synthetic, [put(0, 10, 1), delete(11, 20, "failed")], None).anomalies
    assert (anomaly.kind, anomaly.detail) == ("lost", "line 0 at the end: acknowledged, and not there")


def test_the_last_four_that_can_be_ordered_are_shown_and_those_that_cannot_follow(synthetic: Make) -> None:
    operations = [put(10 * number, 10 * number + 5, number) for number in range(5)]
    first, second = put(50, 90, 8), put(50, 90, 9)
    reads = [get(60, 61, 8), get(62, 63, 9), get(64, 65, 8)]
    (anomaly,) = judged(synthetic, [*operations, first, second, *reads], 9).anomalies
    assert anomaly.kind == "not linearizable"
    shown = [words.split(" operation")[0] for words in anomaly.operations]
    assert shown == [f"client {number}" for number in (5, 7, 6, 8, 9)]


def test_lines_puts_and_deletions_are_counted_as_checked(synthetic: Make) -> None:
    run = synthetic("carts")
    operations = [
        put(0, 1, 1), put(2, 3, 2), put(4, 5, 3, "failed"), delete(6, 7), delete(8, 9, "failed"), put(10, 11, 4),
        put(20, 21, 5, key=1), delete(22, 23, key=1),
    ]  # fmt: skip
    run.timed(0, operations)
    run.final["carts"] = [{"_id": "0", "op": 4}]
    verdict = run.check()
    assert verdict.clean, verdict.anomalies
    assert verdict.checked == ["carts: 2 lines, 4 acknowledged puts and 2 deletions in the order of each line"]


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (["APJ", "EMEA"], "2 customers, 1 of them the same on APJ, EMEA"),
        ([], "2 customers, 2 of them the same on no node"),
    ],
)
def test_customers_are_counted_as_checked(synthetic: Make, nodes: list[str], said: str) -> None:
    run = synthetic("regions")
    for key in (0, 1):
        run.timed(key, [(0, 5, "insert", {"key": key, "node": 0}, "ok", {"version": [1, "APJ"]})])
    run.final["customers"] = [
        {"_id": f"{node}:{key}", "key": key, "node": node, "version": [1 + (node == "EMEA") * key, "APJ"],
         "deleted": False, "name": "1"}
        for node in nodes for key in (0, 1)
    ]  # fmt: skip
    assert run.check().checked == [f"regions: {said}"]


@pytest.mark.parametrize(
    ("final", "words"),
    [
        ([0], "is in list 0 although it was refused or answered 0"),
        ([1], "is in list 0 although no client journaled it"),
    ],
)
def test_each_phantom_has_its_own_reason(synthetic: Make, final: list[int], words: str) -> None:
    run = synthetic("append")
    run.timed(0, [(0, 10, "append", {"key": 0}, "failed", None)])
    run.final["lists"] = [{"_id": "0", "items": final}]
    (anomaly,) = run.check().anomalies
    assert (anomaly.kind, anomaly.detail) == ("phantom", words)


def test_units_that_do_not_add_up_are_told_in_figures(synthetic: Make) -> None:
    run = synthetic("stock")
    run.client(0, [("reserve", {"product": 0, "units": 2}, "ok", 1)])
    entry = {"op": 0, "units": 2}
    run.final["stock"] = [{"_id": "0", "initial": 9, "available": 6, "sold": 2, "reservations": [entry]}]
    (anomaly,) = run.check().anomalies
    assert anomaly.detail == "product 0: initial 9 - available 6 = 3, sold 2, reservations add up to 2"


def test_writes_are_counted_that_were_acknowledged_and_changed_something(synthetic: Make) -> None:
    run = synthetic("carts")
    refused = (6, 7, "put_if", {"key": 0, "value": 9, "expected": 5, "version": None}, "ok", 0)
    run.timed(0, [put(0, 1, 1), put(2, 3, 2), put(4, 5, 3, "failed"), refused, get(8, 9, 2)])
    run.final["carts"] = [{"_id": "0", "op": 2}]
    verdict = run.check()
    assert dict(verdict.written) == {"carts": 2}
    assert verdict.operations == {"carts": {"ok": 4, "failed": 1}}


@pytest.mark.parametrize(("workloads", "named"), [(["append", "orders"], "append, orders"), ([], "run")])
def test_an_empty_run_names_its_workloads(workloads: list[str], named: str) -> None:
    verdict = Verdict("r")
    for workload in workloads:
        verdict.count(workload, "failed")
    checker.refuse_empty(verdict)
    (anomaly,) = verdict.anomalies
    assert (anomaly.workload, anomaly.detail) == (named, "no write was acknowledged in the whole run")


@pytest.mark.parametrize(
    ("workload", "everywhere"),
    [
        *((name, True) for name in ("append", "orders", "register", "stock", "transfer")),
        *((name, False) for name in ("carts", "regions", "shop")),
    ],
)
def test_all_workloads_are_those_that_every_cluster_has(workload: str, everywhere: bool) -> None:
    function, _ = WORKLOADS[workload].generator().next(1, 0, random.Random(1))
    assert function in WORKLOADS[workload].writes | {"stock", "audit"}
    assert (WORKLOADS[workload] in cli._workloads(["all"])) is everywhere
    assert WORKLOADS[workload] in cli._workloads([workload])
