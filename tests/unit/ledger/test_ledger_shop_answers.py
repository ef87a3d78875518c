"""What customers of the shop were answered, held against what is there; and customers of the regions likewise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from synthetic_run import SyntheticRun

from shardmart.ledger.checks.staging import MAY, MUST, MUST_NOT
from shardmart.ledger.checks.verdict import Verdict
from shardmart.ledger.journal import Operation
from shardmart.ledger.shop import rules, stores
from shardmart.ledger.workloads.shop import ShopChecker
from shardmart.ledger.workloads.workload import Effect

Make = Callable[[str], SyntheticRun]
OPENED = {"customers": ["APJ.u", "EMEA.v"], "products": ["p", "q"], "first": {"p": 100, "q": 50}}
ORDER = {"_id": "o", "op": 1, "customer": "APJ.u", "status": rules.CONFIRMED, "version": 1, "city": "placed"}


class Judged:
    """A shop's checker that has seen `operations`, and the final documents that it is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rules, "problems", lambda _: iter(self.problems))
        self.problems: list[rules.Problem] = []
        self.verdict = Verdict("r")
        self.final: dict[str, list[Any]] = {stores.ORDERS: [], stores.STOCK: []}
        self.checker = ShopChecker("shop", self.verdict, lambda kind: iter(self.final[kind]))
        self._number = 0

    def look(self, function: str, value: Any, outcome: Any = "ok", result: Any = 1, error: str | None = None) -> None:
        self._number += 1
        done = Operation(0, self._number, function, value, self._number, self._number, outcome, result, error)
        self.checker.look_at(done)

    def placed(self, version: int = 1) -> None:
        """Operation 1, if it comes first."""
        self.look("place", {"customer": 0, "items": []}, result={"id": "o", "version": version, "op": 1})

    def found(self) -> list[tuple[str, str]]:
        self.words = self.checker.judge(None)  # type: ignore[arg-type]
        return [(anomaly.kind, anomaly.detail) for anomaly in self.verdict.anomalies]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Judged:
    return Judged(monkeypatch)


@pytest.mark.parametrize(
    ("outcome", "error", "found"),
    [
        ("failed", "HTTP 404: no such order", [("stale", "o was acknowledged before and is not found")]),
        ("unknown", "HTTP 404", [("stale", "o was acknowledged before and is not found")]),
        ("failed", "HTTP 409: shipped", []),
        ("unknown", None, []),
    ],
)
def test_an_order_of_ones_own_is_always_found(shop: Judged, outcome: str, error: str | None, found: list[Any]) -> None:
    shop.look("look", {"id": "o"}, outcome, None, error)
    assert [(anomaly.kind, anomaly.detail) for anomaly in shop.verdict.anomalies] == found
    assert all("client 0 operation 1 " in anomaly.operations[0] for anomaly in shop.verdict.anomalies)


@pytest.mark.parametrize(
    ("operations", "stale"),
    [
        ([("look", ["confirmed", 3]), ("look", ["confirmed", 3])], []),
        ([("look", ["confirmed", 3]), ("look", ["reserved", 2])], ["o had version 3, and a later look at it found 2"]),
        ([("change", 4), ("look", ["confirmed", 3])], ["o had version 4, and a later look at it found 3"]),
        ([("look", ["confirmed", 3]), ("look", ["x", 2]), ("look", ["x", 2])],
         ["o had version 3, and a later look at it found 2"] * 2),
        ([("look", ["confirmed", 3]), ("change", 0)], []),
    ],
)  # fmt: skip
def test_an_order_never_gets_older(shop: Judged, operations: list[tuple[str, Any]], stale: list[str]) -> None:
    for function, result in operations:
        shop.look(function, {"id": "o"}, "ok", result)
    assert [anomaly.detail for anomaly in shop.verdict.anomalies if anomaly.kind == "stale"] == stale


def test_an_order_that_is_older_in_the_end_than_it_was_answered_is_lost(shop: Judged) -> None:
    shop.placed(version=2)
    shop.final[stores.ORDERS] = [ORDER]
    assert shop.found() == [("lost", "o had version 2 and has 1")]
    shop.final[stores.ORDERS] = [ORDER | {"version": 2}]
    assert len(shop.found()) == 1


@pytest.mark.parametrize(
    ("outcome", "result", "status", "found"),
    [
        ("ok", 1, rules.CONFIRMED, [("lost", "o was cancelled and is confirmed")]),
        ("ok", 1, rules.CANCELLED, []),
        ("ok", 0, rules.CONFIRMED, []),
        ("failed", None, rules.CONFIRMED, []),
        ("unknown", None, rules.CONFIRMED, []),
    ],
)
def test_only_an_acknowledged_cancellation_binds(
    shop: Judged, outcome: str, result: Any, status: str, found: list[Any]
) -> None:
    shop.look("cancel", {"id": "o"}, outcome, result)
    shop.final[stores.ORDERS] = [ORDER | {"status": status}]
    assert shop.found() == found


@pytest.mark.parametrize(
    ("changes", "city", "found"),
    [
        ([], "placed", []),
        ([], "9", [("phantom", "o was changed last by placed, and its address says 9")]),
        ([("ok", 2)], "1", []),
        ([("ok", 2)], "placed", [("lost", "o was changed last by 1, and its address says placed")]),
        ([("ok", 2), ("ok", 3)], "2", []),
        ([("ok", 2), ("ok", 3)], "1", [("lost", "o was changed last by 2, and its address says 1")]),
        ([("ok", 2), ("unknown", None)], "1", []),
        ([("ok", 2), ("unknown", None)], "2", []),
        ([("unknown", None)], "placed", []),
        ([("failed", None)], "1", [("phantom", "o was changed last by placed, and its address says 1")]),
        ([("ok", 0)], "1", [("phantom", "o was changed last by placed, and its address says 1")]),
        ([("ok", 0)], "placed", []),
    ],
)
def test_the_address_says_which_change_was_the_last(
    shop: Judged, changes: list[tuple[str, Any]], city: str, found: list[Any]
) -> None:
    for outcome, result in changes:
        shop.look("change", {"id": "o"}, outcome, result)
    shop.final[stores.ORDERS] = [ORDER | {"city": city, "version": 9}]
    assert shop.found() == found


def test_what_breaks_a_rule_is_shown_with_the_order_that_was_placed(shop: Judged) -> None:
    shop.placed()
    shop.problems = [rules.Problem("charged-twice", "o is charged twice", "o"), rules.Problem("money", "of x", "x")]
    assert shop.found() == [("charged-twice", "o is charged twice"), ("money", "of x")]
    placed, nobodys = (anomaly.operations for anomaly in shop.verdict.anomalies)
    assert [words.split(" [")[0] for words in placed] == ["client 0 operation 1"]
    assert nobodys == ()


@pytest.mark.parametrize(
    ("restocked", "pieces", "more"),
    [
        ([], 100, None),
        ([], 99, ""),
        ([], 101, ": put back twice, or restocked by another than this run"),
        ([(5, "ok"), (3, "unknown")], 104, ""),
        ([(5, "ok"), (3, "unknown")], 105, None),
        ([(5, "ok"), (3, "unknown")], 108, None),
        ([(5, "ok"), (3, "unknown")], 109, ": put back twice, or restocked by another than this run"),
        ([(5, "failed")], 100, None),
        ([(5, "failed")], 105, ": put back twice, or restocked by another than this run"),
        ([(5, "ok"), (2, "ok")], 107, None),
    ],
)
def test_pieces_are_those_of_before_and_those_that_were_restocked(
    shop: Judged, restocked: list[tuple[int, str]], pieces: int, more: str | None
) -> None:
    shop.look("open", {}, "ok", OPENED)
    for quantity, outcome in restocked:
        shop.look("restock", {"product": 0, "quantity": quantity}, outcome, 1)
    shop.final[stores.STOCK] = [
        {"_id": "p", "available": pieces - 2, "held": 2},
        {"_id": "q", "available": 50, "held": 0},
    ]
    got = sum(quantity for quantity, outcome in restocked if outcome == "ok")
    words = f"product p had 100 pieces and got {got}, but stock and orders have {pieces}"
    assert shop.found() == ([] if more is None else [("oversold", words + more)])
    assert shop.words == "0 orders were accepted (none is there); 2 products have the pieces they must have"


def test_what_was_checked_is_said_with_the_orders_by_status(shop: Judged) -> None:
    shop.placed()
    shop.look("open", {}, "failed", None)
    shop.look("restock", {"product": 0, "quantity": 5}, "ok", 1)
    shop.final[stores.ORDERS] = [ORDER, ORDER | {"_id": "a"}, ORDER | {"_id": "b", "status": rules.CANCELLED}]
    assert shop.found() == []
    assert shop.words == (
        "1 orders were accepted (1 cancelled, 2 confirmed); how many pieces there were before is not in the journal,"
        " so they were not counted"
    )
    figures = {"accepted": 1, rules.CONFIRMED: 2, rules.CANCELLED: 1, "lost": 0, "charged-twice": 0, "oversold": 0}
    assert shop.verdict.figures == {"shop": figures}


@pytest.mark.parametrize(("outcome", "demand"), [("ok", MUST), ("unknown", MAY), ("failed", MUST_NOT)])
def test_an_order_is_expected_with_its_customer(shop: Judged, outcome: Any, demand: int) -> None:
    operation = Operation(0, 1, "place", {"customer": 3, "items": []}, 1, 2, outcome, None)
    assert shop.checker.expect(operation) == Effect(demand, "the orders of ?")
    shop.look("open", {}, "ok", OPENED)
    assert shop.checker.expect(operation) == Effect(demand, "the orders of EMEA.v")
    shop.final[stores.ORDERS] = [ORDER]
    assert list(shop.checker.seen(None)) == [(1, "the orders of APJ.u", None)]  # type: ignore[arg-type]


@pytest.mark.parametrize("function", ["open", "cancel", "change", "look", "restock"])
def test_what_is_no_order_leaves_no_token(shop: Judged, function: str) -> None:
    assert shop.checker.expect(Operation(0, 1, function, {"id": "o"}, 1, 2, "ok", 1)) is None


def region(start: int, end: int, function: str, at: int) -> Any:
    return start, end, function, {"key": 0, "node": 1}, "ok", {"version": [at, "EMEA"]}


@pytest.mark.parametrize(
    ("begins", "found"),
    [(15, {}), (20, {}), (21, {"stale": 1})],
)
def test_a_read_that_begins_before_a_write_has_ended_may_show_what_was_before(
    synthetic: Make, begins: int, found: dict[str, int]
) -> None:
    run = synthetic("regions")
    run.timed(0, [region(0, 5, "insert", 0), region(10, 20, "update", 5)])
    run.timed(1, [region(begins, 30, "read", 0)])
    run.final["customers"] = [
        {"_id": "EMEA:0", "key": 0, "node": "EMEA", "version": [5, "EMEA"], "deleted": False, "name": "1"}
    ]
    assert dict(run.check().counts) == found


@pytest.mark.parametrize(
    ("deleted", "words"),
    [(False, "the end is name 1 of EMEA at 5"), (True, "the end is a deletion of EMEA at 5")],
)
def test_the_end_of_a_lost_write_is_told_in_words(synthetic: Make, deleted: bool, words: str) -> None:
    run = synthetic("regions")
    run.timed(0, [region(0, 5, "insert", 5), region(10, 20, "update", 6)])
    run.final["customers"] = [
        {"_id": "EMEA:0", "key": 0, "node": "EMEA", "version": [5, "EMEA"], "deleted": deleted, "name": "1"}
    ]
    (anomaly,) = run.check().anomalies
    assert anomaly.detail == f"customer 0: a write was acknowledged with a greater version, {words}"
