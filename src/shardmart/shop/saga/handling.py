"""What the consumer asks of a service, what it knows of a lane that it holds, and which events have to wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ..domain.events import SCHEMA, TYPES, Event
from ..ports import Lane, Unit


class Handlers(Protocol):
    """What a service does with events."""

    types: frozenset[str]
    soon: Soon
    """When something will be due that effects or ticks have left."""

    async def prepare(self, lane: Lane, batch: Sequence[Event]) -> Mapping[str, Any]:
        """What has to be asked of others before the transaction, by event id.  It may happen any number of times."""

    async def fetch(self, unit: Unit, batch: Sequence[Event]) -> None:
        """Read at once what the effects of a batch will ask for."""

    async def apply(self, unit: Unit, lane: Lane, event: Event, prepared: Any) -> None:
        """The effect, in a transaction.  It may be called again for an event that has had it, and then does nothing."""

    async def tick(self, lane: Lane) -> None:
        """Do what is due in the lane.  It is called when `soon` says so, and every few seconds whatever that says."""


class Soon:
    """When a lane has something due, as far as this instance knows: a hint, the store knows all of it."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def note(self, lane: Lane, due_at: datetime | None, now: datetime) -> None:
        """Something of the lane is due at `due_at`, and it is `now`; None: nothing is."""
        if due_at is not None:
            wait = max(0.0, (due_at - now).total_seconds())
            self._seconds[lane.name] = min(wait, self._seconds.get(lane.name, wait))

    def take(self, lane: Lane) -> float | None:
        """Seconds until then; None for nothing that was noted since the last time."""
        return self._seconds.pop(lane.name, None)


BATCH = 64


@dataclass(eq=False)
class Held:
    """A lane this instance holds."""

    lane: Lane
    queue: deque[tuple[Event, str]] = field(default_factory=deque)
    seen: str = ""
    """Position up to which the stream was read for it."""
    parked: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ready: bool = False
    """Whether it has a position from which the stream goes on."""
    streamed: bool = False
    """Whether the stream that is open began at its position or before."""
    lost: bool = False
    busy: bool = False
    next_tick: float = 0.0
    look_at_parked: bool = True
    task: asyncio.Task[None] | None = None
    batch: int = BATCH
    """How many events it handles at once: half as many after a batch that the store did not take in time."""
    replay_from: datetime | None = None


class WaitsError(Exception):
    """An event cannot be handled yet, and not for a mistake of its own."""


WAITS = "waits for"
"""How the reason of an event that waits for newer code or an earlier event begins."""


def must_be_handled_now(events: Sequence[Event], parked: set[str]) -> None:
    """WaitsError for an event of newer code, or of a key that has one in the parking place."""
    for event in events:
        if event.schema != SCHEMA or event.type not in TYPES:
            raise WaitsError(f"{WAITS} newer code: {event.type} of schema {event.schema}")
        if event.key in parked:
            raise WaitsError(f"{WAITS} an earlier event of the same key")


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, or the time is over.  `asyncio.wait_for` may swallow a cancellation (Python 3.11)."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
