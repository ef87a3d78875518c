"""The carts workload: what may be found of a line, at its end and by a read, and what must not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from synthetic_run import SyntheticRun

from shardmart.ledger.workloads.carts import DELETE, CartsGenerator
from shardmart.ring import Version

Make = Callable[[str], SyntheticRun]
Timed = tuple[int, int | None, str, dict[str, Any], str, Any]


def put(start: int, end: int | None, token: int, outcome: str = "ok") -> Timed:
    return start, end, "put", {"key": 0, "value": token}, outcome, 1 if outcome == "ok" else None


def put_if(start: int, end: int, token: int, expected: int | None, result: int) -> Timed:
    value = {"key": 0, "value": token, "expected": expected, "version": None}
    return start, end, "put_if", value, "ok", result


def delete(start: int, end: int | None, outcome: str = "ok") -> Timed:
    return start, end, "delete", {"key": 0}, outcome, 1 if outcome == "ok" else None


def get(start: int, end: int, token: int | None) -> Timed:
    return start, end, "get", {"key": 0}, "ok", {"value": token, "version": None if token is None else "1-u"}


def kinds(synthetic: Make, operations: list[Timed], final: int | None) -> dict[str, int]:
    run = synthetic("carts")
    for number, one in enumerate(operations):  # a client each: they may overlap
        run.timed(number, [one])
    run.final["carts"] = [] if final is None else [{"_id": "0", "op": final}]
    return dict(run.check().counts)


@pytest.mark.parametrize(
    ("operations", "final"),
    [
        ([], None),
        ([put(0, 10, 1)], 1),
        ([put(0, 10, 1), put(11, 20, 2)], 2),
        ([put(0, 10, 1), put(5, 20, 2)], 1),  # at once: either may be last
        ([put(0, 10, 1), delete(11, 20)], None),
        ([put(0, 10, 1), delete(5, 20)], 1),
        ([put(0, 10, 1), delete(11, 20, "unknown")], 1),
        ([put(0, 10, 1), delete(11, 20, "unknown")], None),
        ([put(0, 10, 1), delete(11, 20, "failed")], 1),
        ([put(0, None, 1, "unknown"), delete(11, 20)], 1),  # it may take effect late
        ([put(0, 10, 1, "failed")], None),
        ([put(0, 10, 1), put_if(11, 20, 2, 1, 1)], 2),
        ([put(0, 10, 1), put_if(11, 20, 2, 7, 0)], 1),
        ([put(0, 10, 1), get(11, 12, 1), delete(13, 20), get(21, 22, None)], None),
    ],
)
def test_what_may_be_found(synthetic: Make, operations: list[Timed], final: int | None) -> None:
    assert kinds(synthetic, operations, final) == {}


@pytest.mark.parametrize(
    ("operations", "final", "kind"),
    [
        ([put(0, 10, 1)], None, "lost"),
        ([put(0, 10, 1), put(11, 20, 2)], 1, "lost"),
        ([delete(0, 10), put(11, 20, 2)], None, "lost"),
        ([put(0, 10, 1), delete(11, 20)], 1, "back from the dead"),
        ([put(0, 10, 1), delete(11, 20), get(21, 22, 1)], None, "back from the dead"),
        ([put(0, 10, 1, "failed")], 1, "phantom"),
        ([put(0, 10, 1), put_if(11, 20, 2, 7, 0)], 2, "phantom"),
        ([put(0, 10, 1)], 9, "phantom"),
        ([], 9, "phantom"),
        ([put(0, 10, 1), get(11, 12, None)], 1, "stale"),
        ([put(0, 10, 1), put(11, 20, 2), get(21, 22, 1)], 2, "stale"),
        # each read alone could be, but the second goes back in time
        ([put(0, 50, 1), put(0, 50, 2), get(10, 12, 1), get(13, 15, 2), get(16, 18, 1)], 2, "not linearizable"),
        ([put(0, 10, 1), put_if(11, 20, 2, 1, 1), put_if(11, 20, 3, 1, 1)], 3, "not linearizable"),
    ],
)
def test_what_must_not_be_found(synthetic: Make, operations: list[Timed], final: int | None, kind: str) -> None:
    assert kinds(synthetic, operations, final) == {kind: 1}


def test_the_operations_that_show_a_loss_are_told(synthetic: Make) -> None:
    run = synthetic("carts")
    run.timed(0, [put(0, 10, 1), put(11, 20, 2)])
    (anomaly,) = run.check().anomalies
    assert anomaly.detail == "line 0 at the end: acknowledged, and not there"
    assert [words.split(" [")[0] for words in anomaly.operations] == ["client 0 operation 1"]


def test_conditional_puts_name_the_version_that_was_seen() -> None:
    generator, dice = CartsGenerator(), random.Random(3)
    for number in range(12):
        generator.acknowledged("get", {"key": number}, {"value": 77, "version": "9-u1"})
    drawn = [generator.next(0, number, dice) for number in range(200)]
    conditional = [value for function, value in drawn if function == "put_if" and value["key"] < 12]
    assert conditional
    assert {(value["expected"], Version.parse(value["version"])) for value in conditional} == {(77, Version(9, "u1"))}
    assert any(function == DELETE for function, _ in drawn)
