"""The event log in memory.  Positions compare as text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

from ...domain.events import Event
from ...domain.identifiers import lane_of
from ...ports import GapError, Place
from .state import LONG_AGO, Memory


def position_of(number: int) -> str:
    """Positions compare as text."""
    return f"{number:012d}"


class MemoryLog:
    """See `ports.EventLog`."""

    def __init__(self, memory: Memory, lanes: int) -> None:
        self._memory, self._lanes = memory, lanes

    async def ends(self, places: Sequence[Place]) -> dict[Place, str]:
        """See `ports.EventLog`."""
        self._memory.must_be_there()
        return dict.fromkeys(places, position_of(len(self._memory.events)))

    async def follow(self, positions: Mapping[Place, str]) -> AsyncIterator[tuple[Event | None, str]]:
        """See `ports.EventLog`."""
        number = int(min(positions.values()))
        while True:
            self._memory.must_be_there()
            if number < self._memory.oldest:
                raise GapError("the log has forgotten it")
            if number < len(self._memory.events):
                number += 1
                yield self._memory.events[number - 1], position_of(number)
                continue
            yield None, position_of(number)
            self._memory.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._memory.changed.wait()

    def done(self, place: Place, position: str) -> None:
        """See `ports.EventLog`: nobody is told."""

    async def read(
        self, region: str, lane: int | None, since: datetime | None, limit: int, after: str = ""
    ) -> list[Event]:
        """See `ports.EventLog`."""
        self._memory.must_be_there()
        found = [
            event
            for event in self._memory.events
            if event.region == region
            and (lane is None or lane_of(event.key, self._lanes) == lane)
            and (since is None or (event.at or LONG_AGO, event.id) > (since, after))
        ]
        return sorted(found, key=lambda event: (event.at or LONG_AGO, event.id))[:limit]

    async def of_key(self, region: str, key: str) -> list[Event]:
        """See `ports.EventLog`."""
        return [event for event in self._memory.events if event.key == key]
