"""Carts at the order service and the catalogue: whose they are, and that a line is ordered once, whatever happens."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shardmart.shop.adapters.memory import MemoryCarts
from shardmart.shop.domain.cart import MAXIMUM_LINES, CartLine
from shardmart.shop.domain.errors import StateError
from shardmart.shop.domain.identifiers import Customer
from shardmart.shop.domain.order import Order
from shardmart.shop.ports import KeyInUseError, StoreError, Unit
from shardmart.shop.services.carts import Carts
from shardmart.shop.web.tokens import issue
from tests.support.asgi import Answer, AsgiClient
from tests.support.shop_apps import KEY, MINE, OPERATOR, app_in_memory
from tests.support.shop_in_memory import CUSTOMER, MemoryShop, run

CART = f"/carts/{CUSTOMER}"
SHOWN = f"/api/carts/{CUSTOMER}"
OTHER = {"Authorization": f"Bearer {issue([KEY], 'customer:EMEA.u2', 3600)}"}


class Callers:
    """Order service and catalogue on one memory."""

    def __init__(self, folder: Path) -> None:
        self.shop = MemoryShop(folder)
        self.order = AsgiClient(app_in_memory("order", self.shop, folder))
        self.catalogue = AsgiClient(app_in_memory("catalogue", self.shop, folder))

    def put(self, line: str, product: str = "tea", quantity: Any = 1, headers: Any = MINE) -> Answer:
        body = {"product_id": product, "quantity": quantity}
        return self.order.request("PUT", f"{CART}/lines/{line}", json=body, headers=headers)

    def checkout(self, key: str, headers: Any = MINE) -> Answer:
        return self.order.post(f"{CART}/checkout", json={}, headers=headers | {"Idempotency-Key": key})

    def lines(self) -> list[str]:
        return [line["line"] for line in self.order.get(CART, headers=MINE).json()["lines"]]

    def orders(self) -> list[dict[str, int]]:
        """Products and pieces of every order there is."""
        found = [one for (kind, _), one in self.shop.memory.aggregates.items() if kind is Order]
        return [{line.product: line.quantity for line in order.lines} for order in found if isinstance(order, Order)]


@pytest.fixture
def callers(tmp_path: Path) -> Callers:
    return Callers(tmp_path)


def test_a_cart_is_its_lines_and_what_they_add_up_to(callers: Callers) -> None:
    assert callers.order.get(CART, headers=MINE).json() == {"customer": str(CUSTOMER), "lines": [], "items": []}
    assert callers.put("b", "tea", 2).json() == {"line": "b", "product_id": "tea", "quantity": 2}
    callers.put("a", "cup", 1)
    callers.put("c", "tea", 5)
    callers.put("c", "tea", 3)  # the same line, not another
    cart = callers.order.get(CART, headers=OPERATOR).json()
    assert [(one["line"], one["quantity"]) for one in cart["lines"]] == [("a", 1), ("b", 2), ("c", 3)]
    assert cart["items"] == [{"product_id": "cup", "quantity": 1}, {"product_id": "tea", "quantity": 5}]
    assert callers.order.request("DELETE", f"{CART}/lines/b", headers=MINE).status_code == 204
    assert callers.order.request("DELETE", f"{CART}/lines/b", headers=MINE).status_code == 204
    assert callers.lines() == ["a", "c"]


def test_the_catalogue_shows_a_cart_with_its_products(callers: Callers) -> None:
    callers.put("a", "cup", 1)
    callers.put("b", "cup", 1)
    shown = callers.catalogue.get(SHOWN, headers=MINE)
    (item,) = shown.json()["items"]
    assert (item["product_id"], item["quantity"]) == ("cup", 2)
    assert (item["product"]["name"], item["product"]["price"], item["product"]["stock"]) == ("cup", "12", "50")


@pytest.mark.parametrize("headers", [OTHER, {}])
def test_a_cart_is_read_and_changed_by_its_customer_or_an_operator_alone(callers: Callers, headers: Any) -> None:
    callers.put("a")
    refused = 404 if headers else 401
    answers = [
        callers.order.get(CART, headers=headers),
        callers.put("b", headers=headers),
        callers.order.request("DELETE", f"{CART}/lines/a", headers=headers),
        callers.checkout("k", headers),
        callers.catalogue.get(SHOWN, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [refused] * 5
    assert callers.lines() == ["a"]


def test_what_makes_no_sense_is_refused(callers: Callers) -> None:
    assert callers.put("a", "no-such-product").status_code == 422
    assert callers.put("a", quantity=0).status_code == 422
    assert callers.put("a.b").status_code == 422
    assert callers.order.get("/carts/MARS.u1", headers=OPERATOR).status_code == 404
    nobody = callers.order.request(
        "PUT", "/carts/EMEA.nobody/lines/a", json={"product_id": "tea", "quantity": 1}, headers=OPERATOR
    )
    assert nobody.status_code == 404
    assert callers.checkout("empty").status_code == 409
    for number in range(MAXIMUM_LINES):
        assert callers.put(f"n{number}").status_code == 200
    assert callers.put("one-more").status_code == 422
    assert callers.put("n0", quantity=2).status_code == 200


def test_a_checkout_orders_every_line_and_empties_the_cart(callers: Callers) -> None:
    callers.put("a", "tea", 2)
    callers.put("b", "cup", 1)
    callers.put("c", "tea", 1)
    placed = callers.checkout("once")
    assert placed.status_code == 201
    assert callers.orders() == [{"tea": 3, "cup": 1}]
    assert callers.lines() == []
    again = callers.checkout("once")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == placed.json()
    assert callers.checkout("another").status_code == 409
    assert callers.put("a").status_code == 409  # a late repetition of a line that has been ordered
    assert callers.put("d").status_code == 200
    assert callers.orders() == [{"tea": 3, "cup": 1}]


class StubbornCarts(MemoryCarts):
    """Carts that lose nothing: the instance was killed, or the store went away, before the lines were taken out."""

    away = True

    async def remove(self, customer: Customer, lines: Sequence[str]) -> None:
        if self.away:
            raise StoreError("away on purpose")
        await super().remove(customer, lines)


def test_a_line_that_is_ordered_is_in_the_cart_no_more_although_it_could_not_be_taken_out(tmp_path: Path) -> None:
    shop = MemoryShop(tmp_path)
    stored = StubbornCarts(shop.memory)
    carts = Carts(stored, shop.store, shop.orders)

    async def body() -> None:
        await carts.put(CUSTOMER, CartLine("a", "tea", 1))
        order, lines = await shop.store.transact(lambda unit: carts.order(unit, CUSTOMER, None))
        await carts.take_out(CUSTOMER, [line.id for line in lines])
        assert shop.order(order.id).customer == str(CUSTOMER)
        assert await stored.lines(CUSTOMER) == [CartLine("a", "tea", 1)]
        assert await carts.lines(CUSTOMER) == []
        with pytest.raises(StateError, match="empty"):
            await shop.store.transact(lambda unit: carts.order(unit, CUSTOMER, None))
        await carts.put(CUSTOMER, CartLine("b", "cup", 1))
        second, _ = await shop.store.transact(lambda unit: carts.order(unit, CUSTOMER, None))
        assert [line.product for line in second.lines] == ["cup"]
        stored.away = False
        assert await carts.lines(CUSTOMER) == []
        assert await stored.lines(CUSTOMER) == []

    run(body())


def test_two_checkouts_at_once_order_a_line_once(tmp_path: Path) -> None:
    shop = MemoryShop(tmp_path)
    carts = Carts(MemoryCarts(shop.memory), shop.store, shop.orders)

    async def body() -> None:
        await carts.put(CUSTOMER, CartLine("a", "tea", 1))
        both = asyncio.Barrier(2)

        async def checkout(unit: Unit) -> Order:
            order, _ = await carts.order(unit, CUSTOMER, None)
            await both.wait()  # each has seen the line, and none has committed
            return copy.copy(order)

        ends = await asyncio.gather(*(shop.store.transact(checkout) for _ in range(2)), return_exceptions=True)
        assert sorted(type(end) for end in ends if isinstance(end, Exception)) == [KeyInUseError]
        assert sum(kind is Order for kind, _ in shop.memory.aggregates) == 1

    run(body())
