"""The event log on Kafka, as consumers read it.  What is older than a position can tell is read from the outbox.

Positions stay where the effects are, in the store: they are written in one transaction with them, and an instance that
lost its lane is refused there.  Kafka's own groups are told how far the effects are, for its tools, and decide nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError, OffsetOutOfRangeError  # type: ignore[import-untyped]

from shardmart.tasks import closed

from ...domain.events import Event
from ...ports import EventLog, GapError, Place, StoreError
from .records import Partitions, event_of, parse, position_of
from .topic import Topic, errors_of_the_log

POLL_SECONDS = 0.5
CHECK_SECONDS = 1.0
"""How often the topic is asked whether it is still the one that is followed."""
COMMIT_SECONDS = 2.0
OPEN_SECONDS = 30.0
AT_ONCE = 500
logger = logging.getLogger(__name__)


class KafkaLog:
    """See `ports.EventLog`.  `outbox` is the log of the store, where events are before they are here."""

    def __init__(self, topic: Topic, partitions: Partitions, outbox: EventLog, group: str) -> None:
        self._topic, self._partitions, self._outbox, self._group = topic, partitions, outbox, group
        self._done: dict[int, int] = {}

    async def ends(self, places: Sequence[Place]) -> dict[Place, str]:
        """See `ports.EventLog`."""
        with errors_of_the_log():
            id_ = await self._id()
            consumer = await self._open(group=False)
            try:
                wanted = {place: self._partition(place) for place in places}
                async with asyncio.timeout(OPEN_SECONDS):
                    ends = await consumer.end_offsets(list(wanted.values()))
            finally:
                await _closed(consumer)
            return {place: position_of(ends[partition], id_) for place, partition in wanted.items()}

    async def follow(self, positions: Mapping[Place, str]) -> AsyncIterator[tuple[Event | None, str]]:
        """See `ports.EventLog`."""
        with errors_of_the_log():
            id_ = await self._id()
            offsets = {place: parse(position) for place, position in positions.items()}
            foreign = [place for place, found in offsets.items() if found is None or found[1] != id_]
            if foreign:
                raise GapError("the topic is not the one that the positions are of", foreign, from_beginning=True)
            consumer = await self._open(group=True)
            try:
                partitions = {place: self._partition(place) for place in offsets}
                consumer.assign(list(partitions.values()))
                for place, found in offsets.items():
                    assert found
                    consumer.seek(partitions[place], found[0])
                async for item in self._read(consumer, id_):
                    yield item
            except OffsetOutOfRangeError as error:
                lost = [self._partitions.places[partition.partition] for partition in error.args[0]]
                raise GapError("the topic does not have that offset", lost, from_beginning=True) from None
            finally:
                await _closed(consumer)

    async def _read(self, consumer: Any, id_: str) -> AsyncIterator[tuple[Event | None, str]]:
        checked = committed = time.monotonic()
        while True:
            found = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000), max_records=AT_ONCE)
            for records in found.values():
                for record in records:
                    try:
                        event = event_of(record.value)
                    except ValueError as error:
                        where = f"{record.topic}/{record.partition}/{record.offset}"
                        logger.error("a record was passed over", extra={"record": where, "reason": str(error)})  # noqa: TRY400
                        continue
                    yield event, position_of(record.offset + 1, id_)
            yield None, ""
            now = time.monotonic()
            if now - checked >= CHECK_SECONDS:
                checked = now
                if await self._id() != id_:
                    raise GapError("the topic was made anew", None, from_beginning=True)
            if now - committed >= COMMIT_SECONDS and self._done:
                committed = now
                await self._tell_group(consumer)

    async def _tell_group(self, consumer: Any) -> None:
        mine = {partition.partition for partition in consumer.assignment()}
        done = {
            TopicPartition(self._topic.name, number): offset for number, offset in self._done.items() if number in mine
        }
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(COMMIT_SECONDS):
                await consumer.commit(done)
                self._done = {}

    def done(self, place: Place, position: str) -> None:
        """See `ports.EventLog`."""
        if found := parse(position):
            self._done[self._partitions.number(place)] = found[0]

    async def read(
        self, region: str, lane: int | None, since: datetime | None, limit: int, after: str = ""
    ) -> list[Event]:
        """See `ports.EventLog`."""
        return await self._outbox.read(region, lane, since, limit, after)

    async def of_key(self, region: str, key: str) -> list[Event]:
        """See `ports.EventLog`."""
        return await self._outbox.of_key(region, key)

    async def _id(self) -> str:
        found = await self._topic.look()
        if found is None:
            raise StoreError(f"Kafka has no topic {self._topic.name} yet: the relay in the order service makes it")
        return found.id

    def _partition(self, place: Place) -> Any:
        return TopicPartition(self._topic.name, self._partitions.number(place))

    async def _open(self, *, group: bool) -> Any:
        consumer = AIOKafkaConsumer(
            **self._topic.connection(),
            group_id=self._group if group else None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=int(POLL_SECONDS * 1000),
        )
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await consumer.start()
        except BaseException:
            await _closed(consumer)
            raise
        return consumer


async def _closed(consumer: Any) -> None:
    """End a consumer.  Its own `stop` ends half-way, with CancelledError, while its broker is away (aiokafka 0.14)."""
    await closed(consumer.stop, "a consumer of Kafka")
    if consumer._fetcher is not None:
        await closed(consumer._fetcher.close, "the fetcher of a consumer of Kafka")
    await closed(consumer._client.close, "the client of a consumer of Kafka")
