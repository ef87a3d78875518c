"""The consumer on memory: lanes, fences, parked events, replay, and a log that does not reach back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from shardmart.shop.adapters.memory import LONG_AGO, MemoryLanes
from shardmart.shop.domain import events
from shardmart.shop.domain.identifiers import lane_of
from shardmart.shop.ports import FencedError, Lane, StoreError
from shardmart.shop.services.inventory import InventoryHandlers
from tests.support.shop_in_memory import LANES, REGIONS, MemoryShop, run, until


@pytest.fixture
def shop(tmp_path: Path) -> MemoryShop:
    return MemoryShop(tmp_path)


def test_an_instance_whose_lane_was_taken_is_fenced_and_writes_nothing(shop: MemoryShop) -> None:
    async def body() -> None:
        order = await shop.place(tea=1)
        number = lane_of(order, LANES)
        key = ("inventory", "EMEA", number)
        shop.memory.epochs[key] = (7, "new", shop.memory.clock())
        handlers, event = shop.handlers("inventory"), shop.event(order, "order-placed")
        with pytest.raises(FencedError):
            await shop.store.transact(
                lambda unit: handlers.apply(unit, Lane(*key, epoch=6), event, None), Lane(*key, epoch=6)
            )
        assert shop.reservation(order) is None
        assert shop.stock("tea") == 50

    run(body())


def test_a_lane_moves_to_another_instance_when_its_holder_is_silent_and_nothing_happens_twice(shop: MemoryShop) -> None:
    async def body() -> None:
        slow = asyncio.Event()

        class Stuck(InventoryHandlers):
            async def prepare(self, lane: Lane, batch: Any) -> Any:
                await slow.wait()  # like a process that was stopped between its lease and its effect
                return {}

        stuck = shop.consumer("inventory", "stopped", Stuck(shop.store, 5, 900))
        task = shop.start(stuck)
        order = await shop.place(tea=2)
        await until(lambda: any(held["pending"] for held in stuck.held()), "the event to be in hand")
        task.cancel()  # it renews nothing any more, but its lanes' work is still in hand
        shop.memory.instances.pop(("inventory", "stopped"), None)
        async with shop.running("order", "inventory", "payment"):
            await until(lambda: shop.order(order).status == "confirmed", "another instance's work")
            slow.set()
            await asyncio.sleep(0)
        assert shop.stock("tea") == 48
        assert shop.told(order).count("stock-reserved") == 1

    run(body())


def test_a_poison_event_is_parked_with_its_reason_and_holds_back_its_own_order_only(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running():
            bad, good = await shop.place(tea=1), await shop.place(tea=1)
            await until(lambda: shop.order(bad).status == shop.order(good).status == "confirmed", "confirmations")
            broken = shop.event(bad, "order-confirmed")
            at = shop.memory.clock()
            poison = replace(broken, type="order-changed", number=90, data={"revision": 2}, at=at)
            behind = replace(broken, type="order-cancelled", number=91, data={"reason": "x"}, at=at)
            shop.memory.events += [poison, behind]
            other = await shop.place(cup=1)
            await until(lambda: shop.order(other).status == "confirmed", "the others")
            lane = Lane("inventory", "EMEA", lane_of(bad, LANES))
            await until(lambda: len(shop.memory.parked_) >= 2, "both to be parked")
            parked = await shop.store.parked(lane)
            assert [each.event.id for each in parked] == [poison.id, behind.id]
            assert "KeyError: 'lines'" in parked[0].reason
            assert parked[1].reason == "waits for an earlier event of the same key"
            assert shop.reservation(bad).state == "taken"  # type: ignore[union-attr]

            poison.data["lines"] = []  # the reason is mended
            shop.memory.parked_[("inventory", poison.id)][1].event.data["lines"] = []
            assert await shop.store.send_again("inventory", ["EMEA"], bad) == 2
            for consumer in shop.consumers:
                consumer.nudge()
            await until(lambda: not shop.memory.parked_, "the parking place to be empty")
            assert shop.reservation(bad).state == "released"  # type: ignore[union-attr]

    run(body())


def test_a_store_too_slow_for_a_whole_batch_gets_smaller_ones_until_they_end_in_time(shop: MemoryShop) -> None:
    async def body() -> None:
        tried: list[int] = []

        class Slow(InventoryHandlers):
            async def fetch(self, unit: Any, batch: Any) -> None:
                tried.append(len(batch))
                if len(batch) > 2:
                    raise StoreError("no answer in time")
                await super().fetch(unit, batch)

        orders = [await shop.place(tea=1) for _ in range(20)]
        task = shop.start(shop.consumer("inventory", "inventory-1", Slow(shop.store, 5, 900)))
        await until(lambda: all(shop.reservation(order) for order in orders), "every reservation")
        assert max(tried) > 2
        assert shop.stock("tea") == 30
        task.cancel()

    run(body())


def test_an_event_of_a_later_schema_waits_and_is_not_dropped(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running("inventory"):
            order = await shop.place(tea=1)
            await until(lambda: "stock-reserved" in shop.told(order), "the reservation")
            later = replace(shop.event(order, "order-placed"), type="order-cancelled", number=2, schema=2)
            shop.memory.events.append(later)
            await until(lambda: shop.memory.parked_, "it to be put aside")
        ((_, parked),) = shop.memory.parked_.values()
        assert parked.reason == "waits for newer code: order-cancelled of schema 2"
        assert shop.reservation(order).state == "held"  # type: ignore[union-attr]

    run(body())


def test_a_consumer_that_was_away_longer_than_the_log_reads_the_outbox_and_misses_nothing(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running("order", "inventory", "payment"):
            first = await shop.place(tea=1)
            await until(lambda: shop.order(first).status == "confirmed", "confirmation")
        shop.consumers.clear()
        missed = [await shop.place(tea=1) for _ in range(5)]
        shop.memory.oldest = len(shop.memory.events)
        async with shop.running("order", "inventory", "payment"):
            await until(lambda: all(shop.order(order).status == "confirmed" for order in missed), "what was missed")
            after = await shop.place(tea=1)
            await until(lambda: shop.order(after).status == "confirmed", "following again")
        assert shop.stock("tea") == 50 - 7
        assert len(shop.provider.charges()) == 7

    run(body())


def test_a_store_that_is_away_stops_nothing_for_ever(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running():
            order = await shop.place(tea=1)
            shop.memory.away = True
            await asyncio.sleep(0.2)
            shop.memory.away = False
            await until(lambda: shop.order(order).status == "confirmed", "confirmation")
        assert len(shop.provider.charges()) == 1

    run(body())


def test_a_replay_from_the_beginning_while_the_shop_serves_does_nothing_twice(shop: MemoryShop) -> None:
    async def body() -> None:
        async with shop.running():
            kept, gone = await shop.place(tea=1), await shop.place(tea=1)
            await until(lambda: shop.order(kept).status == shop.order(gone).status == "confirmed", "confirmations")
            await shop.cancel(gone)
            await until(lambda: len(shop.channel.sent) == 4, "the mails")
            before = (len(shop.memory.events), shop.provider.ledger.entries(0, 99), list(shop.channel.sent))
            for service in ("order", "inventory", "payment", "notification"):
                lanes = MemoryLanes(shop.memory, service, "operator", REGIONS, LANES, 1)
                assert await lanes.ask_replay(LONG_AGO) == 6
            await until(lambda: not shop.memory.replays, "the replay")
            assert (len(shop.memory.events), shop.provider.ledger.entries(0, 99), shop.channel.sent) == before
            during = await shop.place(tea=1)
            await until(lambda: shop.order(during).status == "confirmed", "an order after it")
        assert shop.stock("tea") == 48

    run(body())


def test_a_lane_that_comes_while_the_log_is_being_followed_begins_where_it_stopped(shop: MemoryShop) -> None:
    async def body() -> None:
        first = shop.consumer("inventory", "first")
        task = shop.start(first)
        await until(lambda: len(first.held()) == 6, "all lanes")
        await until(lambda: all(held.streamed for held in first._held.values()), "the stream")
        held = next(iter(first._held.values()))
        start = "0" * 12
        held.streamed, held.seen = False, start
        order = next(key for key in (f"APJ.u.{n}" for n in range(99)) if lane_of(key, LANES) == held.lane.number)
        assert held.lane.region == "APJ"
        shop.memory.events.append(replace(event_like(order), region="APJ"))
        shop.memory.changed.set()
        await until(
            lambda: all(h.seen > start for h in first._held.values() if h is not held), "the stream to pass the event"
        )
        assert held.seen == start, "a lane takes nothing from a stream that did not begin for it, marks least of all"
        first._reopen.set()
        await until(lambda: shop.reservation(order), "the event, once the stream is opened for it")
        first.stop()
        await task

    run(body())


def event_like(order: str) -> events.Event:
    data = {"revision": 1, "lines": [{"product": "tea", "quantity": 1}], "total_cents": 300}
    return events.Event("order-placed", order, "APJ", "order", 1, data, "APJ.u", at=datetime.now(UTC))
