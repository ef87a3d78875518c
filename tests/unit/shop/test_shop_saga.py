"""The saga on memory: stock and money once, whatever comes twice, late, in another order, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shardmart.shop.domain import events
from shardmart.shop.domain.errors import StateError, VersionError
from shardmart.shop.domain.identifiers import OrderId, lane_of
from shardmart.shop.domain.notification import Notification
from shardmart.shop.domain.stock import Stock
from shardmart.shop.ports import Lane
from shardmart.shop.services.provider import Rule
from tests.support.shop_in_memory import LANES, MemoryShop, run, until


@pytest.fixture
def shop(tmp_path: Path) -> MemoryShop:
    return MemoryShop(tmp_path)


def test_an_order_is_reserved_paid_confirmed_and_notified_once(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running():
            order = await shop.place(tea=2, cup=1)
            await until(lambda: shop.channel.sent, "a mail")
        assert shop.order(order).status == "confirmed"
        assert shop.told(order) == [
            "order-placed",
            "stock-reserved",
            "payment-requested",
            "payment-captured",
            "order-confirmed",
        ]
        assert (shop.stock("tea"), shop.stock("cup")) == (48, 49)
        assert [charge["amount_cents"] for charge in shop.provider.charges()] == [1800]
        assert shop.channel.sent == [(shop.channel.sent[0][0], "ann@shop.example")]
        assert shop.reservation(order).state == "taken"  # type: ignore[union-attr]

    run(body())


def test_a_confirmed_order_that_is_cancelled_gives_stock_and_money_back_once(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running():
            order = await shop.place(tea=3)
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")
            await shop.cancel(order)
            await shop.cancel(order)
            await until(lambda: shop.told(order).count("payment-refunded"), "the refund")
            await until(lambda: "stock-released" in shop.told(order), "the release")
        assert shop.stock("tea") == 50
        assert len(shop.provider.charges()) == len(shop.provider.refunds()) == 1
        assert shop.told(order).count("order-cancelled") == 1

    run(body())


def test_two_hundred_orders_on_fifty_pieces_sell_fifty(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running():
            orders = [await shop.place(tea=1) for _ in range(200)]
            await until(
                lambda: all(shop.order(order).status in ("confirmed", "cancelled") for order in orders),
                "all to end",
                90,
            )
        statuses = [shop.order(order).status for order in orders]
        assert statuses.count("confirmed") == 50 == len(shop.provider.charges())
        assert shop.stock("tea") == 0
        assert [e.key for e in shop.memory.events if e.type == "stock-low"] == ["tea"]

    run(body())


def test_a_declined_payment_cancels_the_order_and_releases_its_stock(shop: MemoryShop) -> None:
    async def body() -> None:
        shop.provider.rules = [Rule("decline")]
        async with shop.running():
            order = await shop.place(tea=4)
            await until(lambda: "stock-released" in shop.told(order), "the release")
        assert (shop.order(order).status, shop.order(order).reason) == ("cancelled", "payment declined")
        assert shop.stock("tea") == 50
        assert shop.provider.charges() == []

    run(body())


def test_a_charge_whose_answer_is_lost_is_made_once(shop: MemoryShop) -> None:
    async def body() -> None:
        shop.provider.rules = [Rule("lose-answer", times=3)]
        async with shop.running():
            order = await shop.place(tea=1)
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")
        assert len(shop.provider.charges()) == 1

    run(body())


def test_an_order_cancelled_while_nobody_knows_its_charge_is_never_left_charged(shop: MemoryShop) -> None:
    async def body() -> None:
        shop.provider.rules = [Rule("fail", times=3)]
        async with shop.running():
            order = await shop.place(tea=1)
            await until(lambda: shop.payment(order), "the payment")
            await shop.cancel(order)
            await until(lambda: shop.payment(order).state in ("cancelled", "refunded"), "the end")  # type: ignore[union-attr]
        shop.provider.rules = []
        assert len(shop.provider.charges()) == len(shop.provider.refunds())
        late = await shop.provider.capture(order, 300, "")
        assert late.answer == "declined", "a zombie's charge comes after the refund"

    run(body())


def test_a_declined_refund_is_told_and_can_be_asked_for_again(shop: MemoryShop, monkeypatch: Any) -> None:
    monkeypatch.setattr("shardmart.shop.domain.payment.FIRST_WAIT_SECONDS", 0.0)
    shop.provider.rules = [Rule("decline-refund")]

    async def body() -> None:
        async with shop.running():
            order = await shop.place(tea=1)
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")
            await shop.cancel(order)
            await until(lambda: "refund-declined" in shop.told(order), "the refusal")
            assert shop.payment(order).state == "refund-declined"  # type: ignore[union-attr]
            shop.provider.rules = []
            from shardmart.shop.services.payment import Payments

            payments = Payments(shop.store)
            await shop.store.transact(lambda unit: payments.refund_again(unit, "EMEA", order))
            for consumer in shop.consumers:
                consumer.nudge()
            await until(lambda: "payment-refunded" in shop.told(order), "the refund")
        assert len(shop.provider.refunds()) == 1

    run(body())


def test_a_reservation_that_nobody_confirms_ends_and_an_answer_that_comes_later_is_given_back(tmp_path: Path) -> None:
    shop = MemoryShop(tmp_path, reservation_seconds=0.05)

    async def body() -> None:
        async with shop.running("order", "inventory"):
            order = await shop.place(tea=1)
            await until(lambda: "stock-reserved" in shop.told(order), "the reservation")

            def look() -> bool:
                for consumer in shop.consumers:
                    consumer.nudge()
                return shop.order(order).status == "cancelled"

            await until(look, "the end of the reservation")
            await until(lambda: shop.stock("tea") == 50, "the stock")
        assert shop.order(order).reason == "reservation expired"
        shop.consumers.clear()
        async with shop.running("order", "payment"):
            await until(lambda: (p := shop.payment(order)) and p.state in ("refunded", "cancelled"), "no money is left")
        assert len(shop.provider.charges()) == len(shop.provider.refunds())
        assert shop.order(order).status == "cancelled"

    run(body())


def test_every_event_delivered_again_and_again_changes_nothing(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running():
            kept, gone = await shop.place(tea=2), await shop.place(cup=1)
            await until(lambda: shop.order(kept).status == shop.order(gone).status == "confirmed", "confirmations")
            await shop.cancel(gone)
            await until(
                lambda: (
                    shop.get(Notification, shop.event(gone, "payment-refunded").id)
                    if "payment-refunded" in shop.told(gone)
                    else None
                ),
                "the refund's notification",
            )
            await until(lambda: "stock-released" in shop.told(gone), "the release")
        before = (dict(shop.memory.aggregates), len(shop.memory.events), shop.provider.ledger.entries(0, 99))
        for service in ("order", "inventory", "payment", "notification"):
            handlers = shop.handlers(service)
            for event in [*shop.memory.events, *reversed(shop.memory.events)]:
                if event.type in handlers.types:
                    lane = Lane(f"again-{service}", event.region, lane_of(event.key, LANES))
                    prepared = await handlers.prepare(lane, [event])
                    await shop.store.transact(
                        lambda unit, e=event, p=prepared, h=handlers, at=lane: h.apply(unit, at, e, p.get(e.id)), lane
                    )
        assert (dict(shop.memory.aggregates), len(shop.memory.events), shop.provider.ledger.entries(0, 99)) == before

    run(body())


def test_inventory_sees_the_cancellation_first_and_reserves_nothing(shop: MemoryShop) -> None:
    async def body() -> None:
        order = await shop.place(tea=5)
        await shop.cancel(order)
        handlers, lane = shop.handlers("inventory"), Lane("inventory", "EMEA", lane_of(order, LANES))
        for kind in (events.ORDER_CANCELLED, events.ORDER_PLACED):
            event = shop.event(order, kind)
            await shop.store.transact(lambda unit, e=event: handlers.apply(unit, lane, e, None), lane)
        assert shop.stock("tea") == 50
        assert shop.reservation(order).state == "released"  # type: ignore[union-attr]

    run(body())


def test_a_change_while_pending_moves_the_reservation_and_the_amount_that_is_charged(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running("inventory"):
            order = await shop.place(tea=2, cup=2)
            await until(lambda: "stock-reserved" in shop.told(order), "the reservation")
            version = shop.order(order).version
            await shop.orders.change(OrderId.parse(order), version, None, {"tea": 10, "cup": 0})
            with pytest.raises(VersionError):
                await shop.orders.change(OrderId.parse(order), version, None, {"tea": 1})
            await until(lambda: shop.told(order).count("stock-reserved") == 2, "the second reservation")
            assert (shop.stock("tea"), shop.stock("cup")) == (40, 50)
        shop.consumers.clear()
        async with shop.running("order", "payment"):
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")
            with pytest.raises(StateError):
                await shop.orders.change(OrderId.parse(order), None, None, {"tea": 1})
        assert [charge["amount_cents"] for charge in shop.provider.charges()] == [3000]

    run(body())


def test_prices_are_those_of_the_moment_of_the_order(shop: MemoryShop) -> None:
    async def body() -> None:
        order = await shop.place(tea=1)
        shop.memory.products_["tea"]["price_cents"] = 99_999
        await shop.orders.change(OrderId.parse(order), None, None, {"tea": 2})
        assert shop.order(order).total_cents == 600

    run(body())


def test_low_stock_is_told_once_per_crossing_and_armed_again_by_restock(shop: MemoryShop) -> None:
    async def body() -> None:
        from shardmart.shop.services.inventory import Inventory

        inventory = Inventory(shop.store, 5)
        async with shop.running():
            for pieces in (45, 1, 1):
                order = await shop.place(tea=pieces)
                await until(lambda o=order: shop.order(o).status == "confirmed", "confirmation")
            assert [e.data["available"] for e in shop.memory.events if e.type == "stock-low"] == [5]
            await shop.store.transact(lambda unit: inventory.restock(unit, "tea", 10))
            assert not shop.get(Stock, "tea").low
            order = await shop.place(tea=9)
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")
            await until(lambda: len([to for _, to in shop.channel.sent if to == "operator@shop.example"]) == 2, "mails")
        assert [e.data["available"] for e in shop.memory.events if e.type == "stock-low"] == [5, 4]

    run(body())


def test_a_mail_that_is_not_taken_is_sent_again_under_the_same_message_id(shop: MemoryShop) -> None:
    async def body() -> None:
        shop.channel.refuse = 2
        async with shop.running():
            order = await shop.place(tea=1)
            await until(lambda: shop.channel.sent, "a mail")
        notification = shop.get(Notification, shop.event(order, "order-confirmed").id)
        assert shop.channel.sent == [(notification.message_id, "ann@shop.example")]
        assert (notification.state, notification.attempts) == ("sent", 3)

    run(body())


def test_events_of_a_producer_are_numbered_without_a_gap(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running():
            order = await shop.place(tea=1)
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")
            await shop.cancel(order)
            await until(lambda: "payment-refunded" in shop.told(order), "the refund")
            await until(lambda: "stock-released" in shop.told(order), "the release")
        for producer in ("order", "inventory", "payment"):
            numbers = [e.number for e in shop.memory.events if e.key == order and e.producer == producer]
            assert numbers == list(range(1, len(numbers) + 1))

    run(body())
