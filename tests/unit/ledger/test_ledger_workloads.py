"""The parts of the workloads that decide: what an operation is on a register, what its effect must be, what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import SyntheticRun

from shardmart.ledger import checker, final_state
from shardmart.ledger.checks.linearizability import Call
from shardmart.ledger.checks.staging import MAY, MUST, MUST_NOT
from shardmart.ledger.checks.verdict import Verdict
from shardmart.ledger.journal import JournalWriter, Operation, Run, token
from shardmart.ledger.workloads import WORKLOADS
from shardmart.ledger.workloads.orders import REMEMBERED
from shardmart.ledger.workloads.register import as_call
from shardmart.ledger.workloads.workload import Effect, demand

Make = Callable[[str], SyntheticRun]
KEY = {"key": 7}


def operation(
    function: str, value: Any, outcome: Any = "ok", result: Any = 1, start: int = 10, end: int = 20
) -> Operation:
    return Operation(0, 3, function, value, start, None if outcome == "unknown" else end, outcome, result)


@pytest.mark.parametrize(
    ("outcome", "result", "wanted"),
    [
        ("ok", 1, MUST),
        ("ok", 0, MUST_NOT),
        ("ok", None, MUST_NOT),
        ("failed", None, MUST_NOT),
        ("failed", 1, MUST_NOT),
        ("unknown", None, MAY),
        ("unknown", 1, MAY),
    ],
)
def test_only_an_acknowledged_1_must_be_there(outcome: str, result: Any, wanted: int) -> None:
    assert demand(operation("place", {}, outcome, result)) == wanted


@pytest.mark.parametrize(
    ("workload", "function", "value", "effect"),
    [
        ("orders", "place", {"order": 3, "user": 1, "cents": 5}, Effect(MUST, "order 3", "5 cents")),
        ("orders", "advance", {"order": 3, "user": 1, "status": "paid"}, Effect(MUST, "order 3", "paid")),
        ("stock", "reserve", {"product": 2, "units": 3}, Effect(MUST, "product 2", "3 units")),
        ("stock", "stock", {"product": 2, "units": 100}, None),
        ("transfer", "transfer", {"source": 1, "target": 2, "cents": 9}, Effect(MUST, "1>2", "9 cents")),
        ("transfer", "audit", {}, None),
        ("append", "append", KEY, Effect(MUST, "list 7", None)),
        ("append", "read", KEY, None),
        ("register", "write", KEY, None),
    ],
)
def test_what_an_operation_leaves(workload: str, function: str, value: Any, effect: Effect | None) -> None:
    judge = WORKLOADS[workload].checker(workload, Verdict("run"), lambda _: iter(()))
    assert judge.expect(operation(function, value)) == effect


@pytest.mark.parametrize(
    ("done", "call"),
    [
        (operation("read", KEY, result={"value": 4}), Call("read", 10, 20, 4)),
        (operation("read", KEY, "unknown", None), Call("read", 10, None, None)),
        (operation("write", KEY | {"value": 5}), Call("write", 10, 20, 5)),
        (operation("write", KEY | {"value": 5}, "unknown", None), Call("write", 10, None, 5)),
        (operation("cas", KEY | {"value": 5, "expected": 4}), Call("cas", 10, 20, 5, 4, done=True)),
        (operation("cas", KEY | {"value": 5, "expected": 4}, result=0), Call("cas", 10, 20, 5, 4, done=False)),
        (operation("cas", KEY | {"value": 5, "expected": 4}, "unknown", None), Call("cas", 10, None, 5, 4, done=True)),
        (operation("write", KEY | {"value": 5}, "failed", None), None),
    ],
)
def test_an_operation_as_a_call_on_the_register(done: Operation, call: Call | None) -> None:
    assert as_call(done) == call


def test_an_unknown_answer_that_came_late_bounds_nothing() -> None:
    """The journal may know when the client gave up; the write may take effect later."""
    done = Operation(0, 1, "write", KEY | {"value": 5}, 10, 20, "unknown")
    assert as_call(done) == Call("write", 10, None, 5)


STEP = {"order": 0, "user": 1, "status": "paid"}


@pytest.mark.parametrize(
    ("outcome", "result", "between", "stale"),
    [
        ("ok", 0, 0, 1),
        ("ok", 1, 0, 0),
        ("failed", None, 0, 0),
        ("ok", 0, 2 * REMEMBERED - 1, 1),
        ("ok", 0, 2 * REMEMBERED, 0),  # forgotten, as by the client
    ],
)
def test_a_missed_order_is_stale_while_the_client_remembers_it(
    outcome: str, result: Any, between: int, stale: int
) -> None:
    verdict = Verdict("run")
    judge = WORKLOADS["orders"].checker("orders", verdict, lambda _: iter(()))
    for number in range(between + 1):
        value = {"order": number, "user": 1, "cents": 5}
        judge.look_at(Operation(0, number, "place", value, 1, 2, "ok", 1))
    judge.look_at(Operation(0, between + 1, "advance", STEP, 3, 4, outcome, result))  # type: ignore[arg-type]
    assert verdict.counts["stale"] == stale


def test_an_order_whose_placing_failed_is_not_missed() -> None:
    verdict = Verdict("run")
    judge = WORKLOADS["orders"].checker("orders", verdict, lambda _: iter(()))
    judge.look_at(Operation(0, 0, "place", {"order": 0, "user": 1, "cents": 5}, 1, 2, "failed", None))
    judge.look_at(Operation(0, 1, "advance", STEP, 3, 4, "ok", 0))
    assert verdict.clean


@pytest.mark.parametrize(
    ("initial", "available", "sold", "reserved", "counts"),
    [
        (3, 0, 3, [3], {}),
        (3, -1, 4, [3, 1], {"oversold": 1}),
        (3, 2, 4, [3, 1], {"oversold": 1, "unbalanced": 1}),
        (3, 1, 1, [1], {"unbalanced": 1}),
        (3, 2, 2, [1], {"unbalanced": 1}),
        (3, 2, 1, [2], {"unbalanced": 1}),
        (3, 2, 2, [2], {"unbalanced": 1}),
    ],
)
def test_units_of_a_product(
    synthetic: Make, initial: int, available: int, sold: int, reserved: list[int], counts: dict[str, int]
) -> None:
    run = synthetic("stock")
    run.client(0, [("reserve", {"product": 0, "units": units}, "ok", 1) for units in reserved])
    entries = [{"op": op, "units": units} for op, units in enumerate(reserved)]
    document = {"_id": "0", "initial": initial, "available": available, "sold": sold, "reservations": entries}
    run.final["stock"] = [document]
    assert dict(run.check().counts) == counts


def test_an_order_without_a_history_is_tampered(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [])
    run.final["orders"] = [{"_id": "0", "user_id": 1, "total_cents": 5, "status": "placed", "history": []}]
    verdict = run.check()
    assert dict(verdict.counts) == {"tampered": 1}
    assert verdict.anomalies[0].detail == "order 0 is placed, but its history ends with nothing"


def test_a_failed_audit_and_one_that_adds_up_are_no_anomaly(synthetic: Make) -> None:
    run = synthetic("transfer")
    run.client(0, [("audit", {}, "failed", None), ("audit", {}, "unknown", None), ("audit", {}, "ok", 640_000)])
    verdict = run.check()
    assert verdict.clean
    assert verdict.operations["transfer"] == {"failed": 1, "unknown": 1, "ok": 1}


def test_money_out_of_nothing_is_told_by_account_and_in_sum(synthetic: Make) -> None:
    run = synthetic("transfer")
    run.client(0, [("transfer", {"source": 1, "target": 2, "cents": 30}, "ok", 1)])
    run.final["transfers"] = [{"_id": "0", "op": 0, "source": 1, "target": 2, "cents": 30}]
    run.final["accounts"][1]["balance_cents"] = 9_970
    run.final["accounts"][2]["balance_cents"] = 10_031
    verdict = run.check()
    assert [anomaly.detail for anomaly in verdict.anomalies] == [
        "account 2 holds 10031 cents, its transfers leave 10030: half a transaction took effect",
        "all accounts hold 640001 cents instead of 640000",
    ]


def lists(synthetic: Make, operations: list[Any], final: list[int]) -> Verdict:
    run = synthetic("append")
    run.timed(0, operations)
    run.final["lists"] = [{"_id": "0", "items": final}] if final else []
    return run.check()


def append(start: int, end: int, outcome: str = "ok") -> Any:
    return start, end, "append", {"key": 0}, outcome, 1


def read(start: int, end: int, items: Any, outcome: str = "ok") -> Any:
    return start, end, "read", {"key": 0}, outcome, items


def test_a_read_that_starts_as_an_append_ends_may_miss_it(synthetic: Make) -> None:
    assert lists(synthetic, [append(0, 10), read(10, 12, [])], [0]).clean


def test_a_read_that_says_how_long_before_it_the_append_was_acknowledged(synthetic: Make) -> None:
    verdict = lists(synthetic, [append(0, 1_000_000), read(3_500_000, 4_000_000, [])], [0])
    assert verdict.anomalies[0].detail == "list 0: a read does not hold an append acknowledged 2.5 ms before it began"


def test_a_read_that_failed_and_an_append_that_failed_bind_nobody(synthetic: Make) -> None:
    assert lists(synthetic, [append(0, 10, "failed"), read(11, 12, []), read(13, 14, None, "failed")], []).clean


def test_every_read_is_counted_as_checked(synthetic: Make) -> None:
    verdict = lists(synthetic, [append(0, 10), read(11, 12, [0]), read(13, 14, [0])], [0])
    assert "append: 2 reads against the order of the final lists" in verdict.checked
    assert "append: 1 acknowledged effects, each there exactly once" in verdict.checked


def test_reads_that_overlap_may_see_more_or_less(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 50, "unknown")])
    run.timed(1, [read(10, 20, [0])])
    run.timed(2, [read(20, 30, [])])
    run.final["lists"] = [{"_id": "0", "items": [0]}]
    assert run.check().clean


@pytest.mark.parametrize("shorter", [[], [0]])
def test_the_longest_read_is_kept_when_a_shorter_one_overlaps(synthetic: Make, shorter: list[int]) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 90, "unknown"), append(0, 90, "unknown")])
    run.timed(1, [read(10, 20, [0, 1])])
    run.timed(2, [read(15, 25, shorter), read(26, 27, shorter)])
    run.final["lists"] = [{"_id": "0", "items": [0, 1]}]
    verdict = run.check()
    assert dict(verdict.counts) == {"stale": 1}
    assert verdict.anomalies[0].operations[0].startswith("client 1 operation 0 ")


def test_read_is_stale_against_an_earlier_shorter_one_than_the_longest(synthetic: Make) -> None:
    """5 items, then 7 that overlap the third read: its 4 items are stale against the first alone."""
    run = synthetic("append")
    run.timed(0, [append(0, 90, "unknown") for _ in range(7)])
    run.timed(1, [read(0, 10, [0, 1, 2, 3, 4])])
    run.timed(2, [read(5, 20, [0, 1, 2, 3, 4, 5, 6])])
    run.timed(3, [read(15, 30, [0, 1, 2, 3])])
    run.final["lists"] = [{"_id": "0", "items": [0, 1, 2, 3, 4, 5, 6]}]
    verdict = run.check()
    assert dict(verdict.counts) == {"stale": 1}
    assert [words.split(" ")[1] for words in verdict.anomalies[0].operations] == ["1", "3"]


def test_run_that_acknowledged_nothing_is_not_clean(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10, "failed"), append(11, 20, "unknown")])
    verdict = run.check()
    checker.refuse_empty(verdict)
    assert not verdict.clean
    assert dict(verdict.counts) == {"empty": 1}
    nothing = synthetic("transfer").check()
    checker.refuse_empty(nothing)
    assert not nothing.clean


@pytest.mark.parametrize(
    ("workload", "function", "value", "result"),
    [
        ("append", "read", {"key": 0}, []),
        ("carts", "get", {"key": 0}, {"value": None, "version": None}),
        ("carts", "put_if", {"key": 0, "value": 1, "expected": None, "version": None}, 0),
        ("regions", "read", {"key": 0, "node": 0}, {"version": None}),
        ("regions", "update", {"key": 0, "node": 0}, 0),
        ("shop", "open", {}, {"products": [], "customers": ["c"], "first": {}}),
    ],
)
def test_run_whose_every_write_failed_is_not_clean_though_reads_were_answered(
    synthetic: Make, workload: str, function: str, value: dict[str, Any], result: Any
) -> None:
    run = synthetic(workload)
    run.timed(0, [(0, 10, function, value, "ok", result)])
    verdict = run.check()
    checker.refuse_empty(verdict)
    assert dict(verdict.counts) == {"empty": 1}


def test_workload_that_acknowledged_nothing_beside_others_is_named() -> None:
    verdict = Verdict("r")
    verdict.count("orders", "ok", wrote=True)
    verdict.count("append", "failed")
    checker.refuse_empty(verdict)
    assert verdict.clean
    assert verdict.notes == ["no write was acknowledged of append: nothing is proved of it"]


def test_two_lists_are_judged_apart(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [(0, 1, "append", {"key": 0}, "ok", 1), (2, 3, "append", {"key": 1}, "ok", 1)])
    run.timed(1, [(4, 5, "read", {"key": 0}, "ok", [0]), (6, 7, "read", {"key": 1}, "ok", [1])])
    run.final["lists"] = [{"_id": "0", "items": [0]}, {"_id": "1", "items": [1]}]
    verdict = run.check()
    assert verdict.clean, verdict.anomalies


def test_an_effect_in_another_key_is_tampered_and_told(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10)])
    run.final["lists"] = [{"_id": "4", "items": [0]}]
    (anomaly,) = run.check().anomalies
    assert anomaly.kind == "tampered"
    assert anomaly.detail == "journal says list 0: None, the cluster says list 4: None"


def test_the_words_of_a_phantom_say_why(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10, "failed")])
    run.final["lists"] = [{"_id": "0", "items": [0, 5]}]
    details = {anomaly.detail for anomaly in run.check().anomalies}
    assert details == {
        "is in list 0 although it was refused or answered 0",
        "is in list 0 although no client journaled it",
    }


def test_the_operations_of_an_anomaly_are_those_of_its_client(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [("place", {"order": n, "user": 1, "cents": 5}, "ok", 1) for n in range(3)])
    run.client(2, [("place", {"order": token(2, n), "user": 1, "cents": 5}, "ok", 1) for n in range(3)])
    kept = [0, 2, token(2, 0), token(2, 1)]
    run.final["orders"] = [
        {"_id": str(t), "total_cents": 5, "status": "placed", "history": [{"op": t, "status": "placed"}]} for t in kept
    ]
    verdict = run.check()
    assert [anomaly.operations[0].split(" [")[0] for anomaly in verdict.anomalies] == [
        "client 0 operation 1",
        "client 2 operation 2",
    ]
    assert "orders: 6 acknowledged effects, 2 of them not there exactly once" in verdict.checked


def test_a_phantom_of_a_client_without_a_journal_is_told_without_operations(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10)])
    run.final["lists"] = [{"_id": "0", "items": [0, token(9, 1)]}]
    (anomaly,) = run.check().anomalies
    assert (anomaly.kind, anomaly.operations) == ("phantom", ())


def test_registers_are_counted_and_the_stuck_shown_after_what_could_be_ordered(synthetic: Make) -> None:
    run = synthetic("register")
    writes = [(10 * n, 10 * n + 5, "write", {"key": 0, "value": n}, "ok", 1) for n in range(5)]
    failed = (60, 61, "write", {"key": 0, "value": 99}, "failed", None)
    run.timed(0, [*writes, failed, (100, 101, "read", {"key": 0}, "ok", {"value": 1})])
    run.timed(1, [(0, 1, "write", {"key": 1, "value": 8}, "ok", 1), (2, 3, "read", {"key": 1}, "ok", {"value": 8})])
    verdict = run.check()
    assert verdict.checked == ["register: 2 registers linearizable or reported"]
    (anomaly,) = verdict.anomalies
    assert anomaly.detail == (
        "register 0: 5 of 6 operations can be ordered, leaving the value 4; none of the next 1 can follow"
    )
    shown = [line.split(" [")[0] for line in anomaly.operations]
    assert shown == [
        *(f"client 0 operation {n}" for n in (2, 3, 4)),
        "— and then none of —",
        "client 0 operation 6",
    ]


def test_a_history_that_cannot_be_decided_is_said_to_be_so(synthetic: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmart.ledger.checks import linearizability

    monkeypatch.setattr(linearizability.check, "__defaults__", (None, 20))
    run = synthetic("register")
    for client in range(8):
        run.timed(client, [(0, 100, "write", {"key": 0, "value": client}, "ok", 1)])
    run.timed(9, [(101, 102, "read", {"key": 0}, "ok", {"value": 55})])
    verdict = run.check()
    assert dict(verdict.counts) == {"undecided": 1}
    assert verdict.anomalies[0].detail == "register 0: 20 configurations tried"


def test_what_one_workload_doubled_is_not_counted_against_the_next(tmp_path: Path) -> None:
    for workload in ("append", "orders"):
        writer = JournalWriter(tmp_path, workload, 0)
        writer.invoke(*(("append", {"key": 0}) if workload == "append" else ("place", {"order": 0, "cents": 5})))
        writer.end("ok", 1)
        writer.close()
    Run("synthetic", ("append", "orders"), "ledger", 1, 0, "majority", 0.0, 0).write(tmp_path)
    order = {"_id": "0", "total_cents": 5, "status": "placed", "history": [{"op": 0, "status": "placed"}]}
    final_state.path(tmp_path, "lists").write_text(json.dumps({"_id": "0", "items": [0, 0]}) + "\n")
    final_state.path(tmp_path, "orders").write_text(json.dumps(order) + "\n")
    verdict = checker.check(tmp_path)
    assert dict(verdict.counts) == {"doubled": 1}
    assert "append: 1 acknowledged effects, 1 of them not there exactly once" in verdict.checked
    assert "orders: 1 acknowledged effects, each there exactly once" in verdict.checked
