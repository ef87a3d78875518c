"""The checker against runs written by hand: each anomaly is seen, named and shown, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from synthetic_run import SyntheticRun

Make = Callable[[str], SyntheticRun]


def place(order: int, cents: int = 500, outcome: str = "ok") -> Any:
    return "place", {"order": order, "user": 1, "cents": cents}, outcome, 1 if outcome == "ok" else None


def document(order: int, cents: int = 500, *steps: tuple[int, str]) -> dict[str, Any]:
    history = [{"op": order, "status": "placed"}, *({"op": op, "status": status} for op, status in steps)]
    return {"_id": str(order), "user_id": 1, "total_cents": cents, "status": history[-1]["status"], "history": history}


def test_a_whole_run_is_clean(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [place(0), ("advance", {"order": 0, "user": 1, "status": "paid"}, "ok", 1)])
    run.final["orders"] = [document(0, 500, (1, "paid"))]
    verdict = run.check()
    assert verdict.clean, verdict.anomalies
    assert verdict.total("ok") == 2


def test_an_acknowledged_order_that_is_gone_is_lost_and_shown(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [place(0), place(1)])
    run.final["orders"] = [document(1)]
    verdict = run.check()
    assert dict(verdict.counts) == {"lost": 1}
    assert any("1 of them not there exactly once" in line for line in verdict.checked)
    assert not any("each there exactly once" in line for line in verdict.checked if line.startswith("orders"))
    assert "operation 0" in verdict.anomalies[0].operations[0]


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("outcome", ["unknown", "never"])
def test_an_unknown_order_may_be_there_or_not(synthetic: Make, outcome: str, there: bool) -> None:
    run = synthetic("orders")
    run.client(0, [place(0, outcome=outcome)])
    run.final["orders"] = [document(0)] if there else []
    assert run.check().clean


def test_a_failed_order_that_is_there_is_a_phantom(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [place(0, outcome="failed")])
    run.final["orders"] = [document(0)]
    assert dict(run.check().counts) == {"phantom": 1}


def test_an_order_nobody_placed_is_a_phantom(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [place(0)])
    run.final["orders"] = [document(0), document(77)]
    assert dict(run.check().counts) == {"phantom": 1}


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
def test_a_step_that_took_effect_twice_is_doubled(synthetic: Make, outcome: str) -> None:
    run = synthetic("orders")
    run.client(0, [place(0), ("advance", {"order": 0, "user": 1, "status": "paid"}, outcome, 1)])
    run.final["orders"] = [document(0, 500, (1, "paid"), (1, "paid"))]
    assert dict(run.check().counts) == {"doubled": 1}


def test_a_changed_amount_is_tampered(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [place(0, cents=500)])
    run.final["orders"] = [document(0, cents=501)]
    verdict = run.check()
    assert dict(verdict.counts) == {"tampered": 1}
    assert "501 cents" in verdict.anomalies[0].detail


def test_a_changed_status_is_tampered(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [place(0)])
    run.final["orders"] = [document(0) | {"status": "delivered"}]
    assert dict(run.check().counts) == {"tampered": 1}


def test_an_update_that_misses_an_acknowledged_order_is_stale(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [place(0), ("advance", {"order": 0, "user": 1, "status": "paid"}, "ok", 0)])
    run.final["orders"] = [document(0)]
    assert dict(run.check().counts) == {"stale": 1}


def product(available: int, sold: int, *reservations: tuple[int, int]) -> dict[str, Any]:
    entries = [{"op": op, "units": units} for op, units in reservations]
    return {"_id": "0", "initial": 3, "available": available, "sold": sold, "reservations": entries}


def reserve(result: int, units: int = 2) -> Any:
    return "reserve", {"product": 0, "units": units}, "ok", result


def test_stock_that_adds_up_is_clean(synthetic: Make) -> None:
    run = synthetic("stock")
    run.client(0, [reserve(1), reserve(0)])
    run.final["stock"] = [product(1, 2, (0, 2))]
    assert run.check().clean


def test_stock_below_zero_is_oversold(synthetic: Make) -> None:
    run = synthetic("stock")
    run.client(0, [reserve(1), reserve(1)])
    run.final["stock"] = [product(-1, 4, (0, 2), (1, 2))]
    assert dict(run.check().counts) == {"oversold": 1}


def test_units_that_went_nowhere_are_unbalanced(synthetic: Make) -> None:
    run = synthetic("stock")
    run.client(0, [reserve(1)])
    run.final["stock"] = [product(0, 3, (0, 2))]
    assert dict(run.check().counts) == {"unbalanced": 1}


def test_a_reservation_answered_no_that_is_there_is_a_phantom(synthetic: Make) -> None:
    run = synthetic("stock")
    run.client(0, [reserve(0)])
    run.final["stock"] = [product(1, 2, (0, 2))]
    assert dict(run.check().counts) == {"phantom": 1}


def move(run: SyntheticRun, source: int, target: int, cents: int) -> None:
    run.final["accounts"][source]["balance_cents"] -= cents
    run.final["accounts"][target]["balance_cents"] += cents


TRANSFER = ("transfer", {"source": 3, "target": 5, "cents": 70}, "ok", 1)
NOTE = {"_id": "0", "op": 0, "source": 3, "target": 5, "cents": 70}


def test_a_transfer_that_moved_money_is_clean(synthetic: Make) -> None:
    run = synthetic("transfer")
    run.client(0, [TRANSFER, ("audit", {}, "ok", 640_000)])
    run.final["transfers"] = [NOTE]
    move(run, 3, 5, 70)
    assert run.check().clean


def test_half_a_transaction_is_unbalanced(synthetic: Make) -> None:
    run = synthetic("transfer")
    run.client(0, [TRANSFER])
    run.final["transfers"] = [NOTE]
    run.final["accounts"][3]["balance_cents"] -= 70
    verdict = run.check()
    assert dict(verdict.counts) == {"unbalanced": 2}  # account 5, and the sum of all
    assert "account 5" in verdict.anomalies[0].detail


def test_money_that_moved_without_its_note_is_lost_and_unbalanced(synthetic: Make) -> None:
    run = synthetic("transfer")
    run.client(0, [TRANSFER])
    move(run, 3, 5, 70)
    assert dict(run.check().counts) == {"lost": 1, "unbalanced": 2}


def test_a_snapshot_that_does_not_add_up_is_unbalanced(synthetic: Make) -> None:
    run = synthetic("transfer")
    run.client(0, [("audit", {}, "ok", 640_001)])
    assert dict(run.check().counts) == {"unbalanced": 1}


def append(start: int, end: int | None, key: int = 0, outcome: str = "ok") -> Any:
    return start, end, "append", {"key": key}, outcome, 1


def read_list(start: int, end: int, items: list[int]) -> Any:
    return start, end, "read", {"key": 0}, "ok", items


def test_reads_that_are_beginnings_of_the_list_are_clean(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10), read_list(11, 12, [0]), append(20, 30), read_list(31, 32, [0, 2])])
    run.final["lists"] = [{"_id": "0", "items": [0, 2]}]
    verdict = run.check()
    assert verdict.clean, verdict.anomalies


def test_a_read_that_misses_an_acknowledged_append_is_stale(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10), append(20, 30), read_list(31, 32, [0])])
    run.final["lists"] = [{"_id": "0", "items": [0, 1]}]
    verdict = run.check()
    assert dict(verdict.counts) == {"stale": 1}
    assert len(verdict.anomalies[0].operations) == 2


def test_a_read_concurrent_with_an_append_may_miss_it(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10)])
    run.timed(1, [read_list(5, 8, [])])
    run.final["lists"] = [{"_id": "0", "items": [0]}]
    assert run.check().clean


def test_two_orders_of_one_list_are_reordered(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10), append(20, 30), read_list(31, 32, [1, 0])])
    run.final["lists"] = [{"_id": "0", "items": [0, 1]}]
    assert dict(run.check().counts) == {"reordered": 1}


def test_an_unknown_append_that_was_read_and_vanished_is_lost(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 10, outcome="unknown"), read_list(11, 12, [0])])
    run.final["lists"] = []
    assert dict(run.check().counts) == {"lost": 1}


def test_a_later_read_that_saw_less_is_stale(synthetic: Make) -> None:
    run = synthetic("append")
    run.timed(0, [append(0, 50, outcome="unknown")])
    run.timed(1, [read_list(10, 12, [0]), read_list(13, 15, [])])
    run.final["lists"] = [{"_id": "0", "items": [0]}]
    assert dict(run.check().counts) == {"stale": 1}


def test_a_register_that_travels_back_is_not_linearizable(synthetic: Make) -> None:
    run = synthetic("register")
    write = {"key": 0, "value": 1}
    run.timed(
        0,
        [
            (0, 10, "write", write, "ok", 1),
            (20, 30, "write", {"key": 0, "value": 2}, "ok", 1),
            (40, 50, "read", {"key": 0}, "ok", {"value": 1}),
        ],
    )
    verdict = run.check()
    assert dict(verdict.counts) == {"not linearizable": 1}
    assert any("read" in line for line in verdict.anomalies[0].operations)


def test_many_anomalies_are_counted_in_full_and_shown_in_part(synthetic: Make) -> None:
    run = synthetic("orders")
    run.client(0, [place(n) for n in range(25)])
    verdict = run.check()
    assert verdict.counts["lost"] == 25
    assert len(verdict.anomalies) == 10
