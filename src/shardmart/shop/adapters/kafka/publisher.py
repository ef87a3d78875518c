"""Writes events to the topic, each lane's in their order, and says done only once they are acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from shardmart.tasks import closed

from ...domain.events import Event
from .records import Partitions, record_of
from .topic import Topic, errors_of_the_log

BATCH_BYTES = 512 * 1024
PUBLISH_SECONDS = 30.0
"""So long a batch may take.  The driver by itself sends it again for as long as its broker is away."""


class KafkaPublisher:
    """See `ports.Publisher`.

    All replicas in sync acknowledge (acks=all), and a batch is sent again under its number, so the broker keeps one
    (idempotence).  That ends with the process: whoever reads must know an event by its id.
    """

    def __init__(self, topic: Topic, partitions: Partitions, *, unacknowledged: bool = False) -> None:
        """`unacknowledged` is a negative control: nobody says that an event has arrived."""
        self._topic, self._partitions, self._unacknowledged = topic, partitions, unacknowledged
        self._producer: Any = None
        self._opening = asyncio.Lock()

    async def is_there(self) -> bool:
        """See `ports.Publisher`."""
        return await self._topic.look() is not None

    async def create(self) -> None:
        """See `ports.Publisher`."""
        await self._topic.create()

    async def publish(self, events: Sequence[Event]) -> None:
        """See `ports.Publisher`."""
        with errors_of_the_log():
            producer: Any = None
            try:
                async with asyncio.timeout(PUBLISH_SECONDS):
                    producer = await self._open()
                waiting = list(events)
                while waiting:
                    number, batch = self._partitions.of(waiting[0]), producer.create_batch()
                    taken = 0
                    while taken < len(waiting) and self._partitions.of(waiting[taken]) == number:
                        event = waiting[taken]
                        if batch.append(key=event.key.encode(), value=record_of(event), timestamp=None) is None:
                            break
                        taken += 1
                    if taken == 0:
                        raise ValueError(f"event {waiting[0].id} is larger than a batch of {BATCH_BYTES} bytes")
                    # The next one is not sent before this one is there, or a failure would change their order.
                    async with asyncio.timeout(PUBLISH_SECONDS):
                        await (await producer.send_batch(batch, self._topic.name, partition=number))
                    del waiting[:taken]
            except (KafkaError, OSError, TimeoutError):
                if producer is not None and producer is self._producer:  # another lane may have given it up already
                    await self.close()
                raise

    async def _open(self) -> Any:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._topic.connection(),
                    acks=0 if self._unacknowledged else "all",
                    enable_idempotence=not self._unacknowledged,
                    max_batch_size=BATCH_BYTES,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _closed(producer)
                    raise
                self._producer = producer
            return self._producer

    async def close(self) -> None:
        """Give back its connection; what was not acknowledged is published again by whoever asked."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _closed(producer)


async def _closed(producer: Any) -> None:
    """End a producer.  Its own `stop` goes no further than what it waits for, while its broker is away.

    Its sender would then send its old batches for as long as the process lives (aiokafka 0.14).
    """
    await closed(producer.stop, "a producer of Kafka")
    await closed(producer._sender.close, "the sender of a producer of Kafka")
    await closed(producer.client.close, "the client of a producer of Kafka")
