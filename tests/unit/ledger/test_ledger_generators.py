"""What the clients of each workload do next: the mixture, and that nobody touches what is not his or not there."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from shardmart.ledger.workloads.append import AppendGenerator
from shardmart.ledger.workloads.orders import STATUSES, USERS, OrdersGenerator
from shardmart.ledger.workloads.register import RegisterGenerator
from shardmart.ledger.workloads.stock import INITIAL, StockGenerator
from shardmart.ledger.workloads.transfer import ACCOUNTS, TransferGenerator
from shardmart.ledger.workloads.workload import Generator

DRAWS = 2000


def drawn(generator: Generator, clients: int = 3) -> list[tuple[int, str, dict[str, Any]]]:
    """(client, function, value) of DRAWS operations; the clients take turns."""
    dice = random.Random(1)
    return [(n % clients, *generator.next(n % clients, n, dice)) for n in range(DRAWS)]


def share(said: list[tuple[int, str, dict[str, Any]]], function: str) -> float:
    return Counter(name for _, name, _ in said)[function] / len(said)


def test_a_client_moves_only_orders_that_it_placed_one_status_at_a_time() -> None:
    said = drawn(OrdersGenerator())
    placed: dict[int, tuple[int, int]] = {}
    steps: Counter[int] = Counter()
    for client, function, value in said:
        order = value["order"]
        if function == "place":
            placed[order] = (client, value["user"])
            assert 0 <= value["user"] < USERS
            assert value["cents"] >= 100
            continue
        assert placed[order] == (client, value["user"])
        assert value["status"] == STATUSES[steps[order]]
        steps[order] += 1
    assert 0.4 < share(said, "advance") < 0.5, "half, but for orders that are delivered already"
    assert said[0][1] == "place", "there is nothing to move yet"


def test_a_product_is_stocked_once_before_anybody_reserves_it() -> None:
    stocked = set()
    for _, function, value in drawn(StockGenerator()):
        if function == "stock":
            assert value["product"] not in stocked
            assert value["units"] == INITIAL
            stocked.add(value["product"])
        else:
            assert value["product"] in stocked
            assert value["units"] in (1, 2, 3)


def test_money_goes_from_one_account_to_another_and_one_in_ten_is_an_audit() -> None:
    said = drawn(TransferGenerator())
    assert 0.08 < share(said, "audit") < 0.12
    for _, function, value in said:
        if function == "transfer":
            assert value["source"] != value["target"]
            assert {value["source"], value["target"]} <= set(range(ACCOUNTS))
            assert value["cents"] >= 1


def test_two_appends_for_each_read_and_none_is_read_before_it_is_there() -> None:
    said = drawn(AppendGenerator())
    assert 0.64 < share(said, "append") < 0.74
    begun = set()
    for _, function, value in said:
        assert function == "append" or value["key"] in begun
        begun.add(value["key"])


@pytest.mark.parametrize(("function", "least", "most"), [("write", 0.28, 0.36), ("cas", 0.17, 0.23)])
def test_the_mixture_on_registers_that_have_values(function: str, least: float, most: float) -> None:
    class Answered(RegisterGenerator):
        def next(self, client: int, token: int, dice: random.Random) -> tuple[str, dict[str, Any]]:
            name, value = super().next(client, token, dice)
            if name == "write":
                self.acknowledged(name, value, 1)
            return name, value

    assert least < share(drawn(Answered()), function) < most


def test_register_clients_compare_with_what_was_seen() -> None:
    generator, dice = RegisterGenerator(), random.Random(1)
    for number in range(400):
        function, value = generator.next(0, number, dice)
        assert function != "cas"
    generator.acknowledged("read", {"key": value["key"]}, {"value": 77})
    generator.acknowledged("write", {"key": value["key"] - 1, "value": 88}, 1)
    compared = [generator.next(0, number, dice) for number in range(40)]
    assert {v["expected"] for f, v in compared if f == "cas"} <= {77, 88}
    assert any(f == "cas" for f, _ in compared)
