"""The provider's webhook is a signed hint: forged, old, first, or thrice, it decides nothing and breaks nothing."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from pathlib import Path

import pytest

from shardmart.shop.adapters.signature import signature
from shardmart.shop.domain.payment import Payment
from shardmart.shop.services.provider import Rule
from shardmart.shop.web.payment_api import TOLERANCE_SECONDS
from tests.support.asgi import Answer, AsgiClient
from tests.support.shop_apps import WEBHOOK_SECRET, app_in_memory
from tests.support.shop_in_memory import MemoryShop, until

SERVICES = ("order", "inventory", "payment")


class Shop(MemoryShop):
    """A shop whose payment service takes webhooks."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder

    def webhook(
        self, order: str, *, answer: str = "captured", secret: str = WEBHOOK_SECRET, age: int = 0, sent: bytes = b""
    ) -> Answer:
        """Send one; `sent` is another body than the one that was signed."""
        body = json.dumps({"order": order, "kind": "charge", "answer": answer}).encode()
        at = int(time.time()) - age
        headers = {"Provider-Signature": f"t={at},v1={signature(secret, at, body)}", "Content-Type": "application/json"}
        client = AsgiClient(app_in_memory("payment", self, self.folder))
        return client.post("/webhooks/provider", content=sent or body, headers=headers)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def waiting(shop: Shop) -> str:
    """An order whose charge has no answer yet."""
    shop.provider.rules = [Rule("fail")]

    async def body() -> str:
        async with shop.running(*SERVICES):
            order = await shop.place(tea=1)
            await until(lambda: (p := shop.payment(order)) and p.attempts > 0, "a charge without an answer")
        return order

    order = asyncio.run(body())
    # What follows runs in another loop.
    shop.memory.changed = asyncio.Event()
    shop.consumers.clear()
    shop._tasks.clear()
    return order


@pytest.mark.parametrize(
    "mistake",
    [
        {"secret": "x" * 20},
        {"age": TOLERANCE_SECONDS + 60},
        {"age": -TOLERANCE_SECONDS - 60},
        {"sent": b'{"order": "EMEA.u1.other", "kind": "charge", "answer": "captured"}'},
    ],
    ids=["forged", "late", "of the future", "changed on its way"],
)
def test_a_webhook_that_is_not_the_providers_of_now_is_refused_and_changes_nothing(
    shop: Shop, mistake: dict[str, object]
) -> None:
    order = waiting(shop)
    before = copy.deepcopy(shop.memory.aggregates)
    answer = shop.webhook(order, **mistake)  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert shop.memory.aggregates == before


def test_a_webhook_lets_the_provider_be_asked_now_and_what_it_says_itself_decides_nothing(shop: Shop) -> None:
    order = waiting(shop)
    payment = shop.payment(order)
    assert payment is not None
    payment.due_at = shop.memory.clock().replace(year=9000)  # its next attempt is far away
    assert shop.webhook(order, answer="declined").status_code == 202
    hinted = shop.payment(order)
    assert hinted is not None
    assert (hinted.state, hinted.due_at is not None and hinted.due_at <= shop.memory.clock()) == ("requested", True)
    shop.provider.rules = []

    async def body() -> None:
        async with shop.running(*SERVICES):
            await until(lambda: shop.order(order).status == "confirmed", "the provider's own answer")

    asyncio.run(body())
    assert len(shop.provider.charges()) == 1


def test_a_webhook_that_comes_thrice_hints_once(shop: Shop) -> None:
    order = waiting(shop)
    payment = shop.payment(order)
    assert payment is not None
    payment.due_at = shop.memory.clock().replace(year=9000)
    versions = []
    for _ in range(3):
        assert shop.webhook(order).status_code == 202
        versions.append(shop.get(Payment, order).version)
    assert versions == [versions[0]] * 3


def test_a_webhook_that_comes_before_its_payment_is_taken_and_the_order_is_charged_once(shop: Shop) -> None:
    async def place() -> str:
        return await shop.place(tea=1)

    order = asyncio.run(place())
    assert shop.webhook(order).status_code == 202
    assert shop.payment(order) is None

    async def body() -> None:
        async with shop.running(*SERVICES):
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")

    asyncio.run(body())
    assert len(shop.provider.charges()) == 1


def test_a_webhook_after_the_end_moves_no_state_back(shop: Shop) -> None:
    async def body() -> str:
        async with shop.running(*SERVICES):
            order = await shop.place(tea=1)
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")
            await shop.cancel(order)
            await until(lambda: shop.payment(order).state == "refunded", "the refund")  # type: ignore[union-attr]
        return order

    order = asyncio.run(body())
    before = copy.deepcopy(shop.payment(order))
    for answer in ("captured", "declined"):
        assert shop.webhook(order, answer=answer).status_code == 202
    assert shop.payment(order) == before
