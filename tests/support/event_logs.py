"""An event log on a real engine, with what brings events to it: the contract suite asks all of them the same things."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shardmart.shop.adapters.kafka.log import KafkaLog
from shardmart.shop.adapters.kafka.publisher import KafkaPublisher
from shardmart.shop.adapters.kafka.records import Partitions
from shardmart.shop.adapters.kafka.topic import Topic
from shardmart.shop.adapters.mongodb import client as mongodb
from shardmart.shop.adapters.mongodb.lanes import MongoLanes
from shardmart.shop.adapters.mongodb.log import MongoLog
from shardmart.shop.adapters.mongodb.store import MongoStore
from shardmart.shop.domain import events
from shardmart.shop.domain.events import Event
from shardmart.shop.domain.identifiers import lane_of
from shardmart.shop.ports import EventLog, Place, Unit
from shardmart.shop.saga.consumer import Consumer
from shardmart.shop.saga.relay import SERVICE, RelayHandlers
from shardmart.shop.settings import Kafka
from shardmart.shop.telemetry import Telemetry

T = TypeVar("T")
REGIONS, LANES = ("APJ", "EMEA", "LATAM"), 2
PLACES: tuple[Place, ...] = tuple((region, number) for region in REGIONS for number in range(LANES))
WAIT_SECONDS = 120.0


@dataclass
class Engine:
    """One event log.  Every coroutine runs in the one loop that its drivers belong to."""

    name: str
    uri: str
    settings: Mapping[str, Any] | None = None
    """The key `kafka` of a service's file."""
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __post_init__(self) -> None:
        self.client = mongodb.connect(self.uri, 30, "contract")
        # Not the shop's: a service would find these events and know nothing of their orders.
        database = mongodb.database(self.client, f"contract_{secrets.token_hex(4)}")
        self.store = MongoStore(self.client, database, LANES, seconds=30)
        self.outbox = MongoLog(database, seconds=30)
        self.database = database
        self.log: EventLog = self.outbox
        self.topic: Topic | None = None
        if self.settings:
            self.kafka = Kafka.model_validate({**self.settings, "topic": f"contract-{secrets.token_hex(4)}"})
            self.runner.run(self._on_kafka(self.kafka))

    async def _on_kafka(self, options: Kafka) -> None:
        partitions = Partitions(REGIONS, LANES)
        self.topic = Topic(options, len(partitions), "contract")
        self.log = KafkaLog(self.topic, partitions, self.outbox, "shop-order")
        self.publisher = KafkaPublisher(self.topic, partitions)
        self.relay = self.make_relay("relay-1")
        self._relaying = asyncio.create_task(self.relay.run())
        await self.until_there()

    def make_relay(self, instance: str) -> Consumer:
        """A relay that does not run yet."""
        lanes = MongoLanes(self.database, SERVICE, instance, REGIONS, LANES, 5)
        handlers = RelayHandlers(self.publisher, lanes)
        return Consumer(
            handlers, self.store, self.outbox, lanes, Telemetry(SERVICE), lanes_per_region=LANES, lease_seconds=5
        )

    async def until_there(self) -> None:
        """Wait for the topic."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                with suppress(Exception):
                    assert self.topic
                    if await self.topic.look():
                        return
                await asyncio.sleep(0.1)  # polling interval

    def run(self, body: Coroutine[Any, Any, T], seconds: float = WAIT_SECONDS) -> T:
        """What `body` returns; it begins when there is a topic."""

        async def begun() -> T:
            if self.topic:
                await self.until_there()
            return await body

        return self.runner.run(asyncio.wait_for(begun(), seconds))

    async def tell(self, key: str, number: int) -> Event:
        """Write an event of an order to the outbox, in a transaction of its own."""
        event = Event(events.ORDER_PLACED, key, key.partition(".")[0], "order", number, {"revision": number})

        async def work(unit: Unit) -> None:
            unit.tell([event], "")

        await self.store.transact(work)
        return event

    async def follow(
        self, positions: Mapping[Place, str], keys: set[str], count: int, *, but: Collection[str] = ()
    ) -> list[tuple[Event, str]]:
        """The next `count` events of these keys after the positions, each where it stands first.

        `but`: ids of events that were told before; an event may come twice.
        """
        found: dict[str, tuple[Event, str]] = {}
        async with aclosing(self.log.follow(positions)) as stream:  # type: ignore[type-var]
            async for event, at in stream:
                if event is None or event.key not in keys or event.id in but:
                    continue
                if at > positions[place_of(event)]:
                    found.setdefault(event.id, (event, at))
                    if len(found) == count:
                        break
        return list(found.values())

    def close(self) -> None:
        """End the relay, give back connections, end the loop."""
        self.runner.run(self._close())
        self.runner.close()

    async def _close(self) -> None:
        if self.topic:
            self.relay.stop()
            await self._relaying
            await self.publisher.close()
            await self.topic.close()
        await self.client.close()


def place_of(event: Event) -> Place:
    """Where an event is."""
    return event.region, lane_of(event.key, LANES)


def new_key(region: str) -> str:
    """An order's id that no other test has."""
    return f"{region}.u{secrets.token_hex(4)}.{secrets.token_hex(12)}"
