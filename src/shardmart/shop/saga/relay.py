"""The relay: a consumer of the outbox whose effect is that an event stands in the log elsewhere.

It is the same consumer as a service's: its lanes are leased, its position is stored only after the log has
acknowledged, and a new one goes on where that is.  So after a kill an event may stand in the log twice, and never not
at all; the first time always in its place among the events of its key.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ..domain.events import TYPES, Event
from ..ports import Lane, Lanes, Publisher, Unit
from .handling import Soon

SERVICE = "relay"
"""What its lanes are called."""
LOOK_SECONDS = 5.0
logger = logging.getLogger(__name__)


class RelayHandlers:
    """See `Handlers`.

    A log that is not there is made only after a replay of the whole outbox was asked for, in the store: whatever ends
    this process, the log is filled by it or another.
    """

    types = TYPES

    def __init__(self, publisher: Publisher, lanes: Lanes) -> None:
        self._publisher, self._lanes = publisher, lanes
        self._looked: float | None = None
        self._looking = asyncio.Lock()
        self.soon = Soon()

    async def prepare(self, lane: Lane, batch: Sequence[Event]) -> Mapping[str, Any]:
        """Publish.  StoreError unless all of it is acknowledged."""
        await self._look()
        try:
            await self._publisher.publish(batch)
        except BaseException:
            self._looked = None
            raise
        return {}

    async def fetch(self, unit: Unit, batch: Sequence[Event]) -> None:
        """See `Handlers`: nothing."""

    async def apply(self, unit: Unit, lane: Lane, event: Event, prepared: Any) -> None:
        """See `Handlers`: it was published."""

    async def tick(self, lane: Lane) -> None:
        """A log that came back empty is filled again, also while nothing new happens."""
        await self._look()

    async def _look(self) -> None:
        async with self._looking:
            now = time.monotonic()
            if self._looked is not None and now - self._looked < LOOK_SECONDS:
                return
            if not await self._publisher.is_there():
                logger.warning("the log is not there: it is made, and filled from the outbox")
                await self._lanes.ask_replay(_beginning())
                await self._publisher.create()
            self._looked = now


def _beginning() -> datetime:
    """A time before every event, and another one at each call: a replay that was asked for while one is done is done
    again."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time.time_ns() // 1_000_000 % 10**9)
