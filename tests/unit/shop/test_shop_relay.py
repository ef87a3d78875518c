"""The relay on memory: nothing left out, everything in its order, and a log that is gone is filled again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from shardmart.shop.adapters.memory import MemoryLanes
from shardmart.shop.domain.events import Event
from shardmart.shop.ports import StoreError
from shardmart.shop.saga.consumer import Consumer
from shardmart.shop.saga.relay import SERVICE, RelayHandlers
from tests.support.shop_in_memory import LANES, REGIONS, MemoryShop, run, until


class Broker:
    """A log elsewhere.  `topic` is None while there is none; `failures` attempts to publish fail, half of each done."""

    def __init__(self, shop: MemoryShop) -> None:
        self.shop, self.failures = shop, 0
        self.topic: list[Event] | None = None
        self.asked_before_creation: list[bool] = []

    async def is_there(self) -> bool:
        return self.topic is not None

    async def create(self) -> None:
        self.asked_before_creation.append(bool(self.shop.memory.replays))
        self.topic = self.topic or []

    async def publish(self, events: Sequence[Event]) -> None:
        if self.topic is None:
            raise StoreError("no topic")
        if self.failures:
            self.failures -= 1
            self.topic += events[: len(events) // 2]
            raise StoreError("cut off in the middle")
        self.topic += events

    def first_times(self, key: str) -> list[str]:
        """Ids of the events of a key, each where it stands first."""
        return list(dict.fromkeys(event.id for event in self.topic or [] if event.key == key))


@pytest.fixture
def shop(tmp_path: Path) -> MemoryShop:
    return MemoryShop(tmp_path)


def relay(shop: MemoryShop, broker: Broker, instance: str = "1") -> Consumer:
    lanes = MemoryLanes(shop.memory, SERVICE, instance, REGIONS, LANES, 0.3)
    handlers = RelayHandlers(broker, lanes)
    return shop.consumer(SERVICE, instance, handlers)


def test_every_event_is_published_in_the_order_of_its_key_although_attempts_fail(shop: MemoryShop) -> None:
    async def body() -> None:
        broker = Broker(shop)
        broker.failures = 3
        shop.start(relay(shop, broker))
        async with shop.running():
            orders = [await shop.place(tea=1) for _ in range(5)]
            await until(lambda: all(shop.order(order).status == "confirmed" for order in orders), "the orders")
            wanted = {order: [e.id for e in shop.memory.events if e.key == order] for order in orders}
            await until(lambda: all(broker.first_times(o) == ids for o, ids in wanted.items()), "all of it")

    run(body())


def test_a_relay_that_is_killed_is_followed_by_one_that_leaves_nothing_out(shop: MemoryShop) -> None:
    async def body() -> None:
        broker = Broker(shop)
        task = shop.start(relay(shop, broker))
        async with shop.running():
            before = await shop.place(tea=1)
            await until(lambda: broker.first_times(before), "the first event")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            after = await shop.place(tea=1)
            shop.start(relay(shop, broker, "2"))
            for order in (before, after):
                await until(lambda o=order: shop.order(o).status == "confirmed", "the order")  # type: ignore[misc]
                ids = [event.id for event in shop.memory.events if event.key == order]
                await until(lambda o=order, ids=ids: broker.first_times(o) == ids, "its events")  # type: ignore[misc]

    run(body())


def test_a_log_that_is_gone_is_made_only_after_its_filling_was_written_down(shop: MemoryShop) -> None:
    async def body() -> None:
        broker = Broker(shop)
        shop.start(relay(shop, broker))
        async with shop.running():
            order = await shop.place(tea=1)
            await until(lambda: shop.order(order).status == "confirmed", "the order")
            ids = [event.id for event in shop.memory.events if event.key == order]
            await until(lambda: broker.first_times(order) == ids, "its events")
            broker.topic = None
            later = await shop.place(tea=1)
            await until(lambda: broker.first_times(order) == ids, "the events of before")
            await until(lambda: broker.first_times(later), "the events of now")
        assert broker.asked_before_creation == [True, True]

    run(body())
