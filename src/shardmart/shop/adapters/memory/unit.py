"""One transaction in memory: it sees the state of its beginning, and conflicts with whoever was faster."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import replace

from ...domain.events import Aggregate, Event
from ...domain.stock import Stock
from ...ports import AggregateT, ConflictError, KeyInUseError, Lane, Parked, StoredAnswer
from .state import Key, Memory


class MemoryUnit:
    """See `ports.Unit`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._seen = dict(memory.aggregates)
        self._known: dict[Key, Aggregate | None] = {}
        self.changed: dict[Key, int] = {}
        self.events: list[Event] = []
        self.answers: dict[tuple[str, str], StoredAnswer] = {}
        self.parked: dict[tuple[str, str], tuple[Lane, Parked] | None] = {}
        self.now = memory.clock()

    async def get(self, kind: type[AggregateT], region: str, id_: str) -> AggregateT | None:
        """See `ports.Unit`."""
        await asyncio.sleep(0)
        key = (kind, id_)
        if key not in self._known:
            self._known[key] = copy.deepcopy(self._seen.get(key))
        found = self._known[key]
        assert found is None or isinstance(found, kind)
        return found

    async def fetch(self, kind: type[Aggregate], region: str, ids: Sequence[str]) -> None:
        """See `ports.Unit`: it is at hand already."""

    async def get_stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        """See `ports.Unit`."""
        found = {}
        for product in products:
            stock = await self.get(Stock, "", product)
            if stock is None and product in self._memory.products_:
                stock = Stock(product, "", available=self._memory.products_[product]["stock"])
                self._known[Stock, product] = stock
            if stock is not None:
                found[product] = stock
        return found

    async def put(self, aggregate: Aggregate, seen: int) -> None:
        """See `ports.Unit`."""
        key = (type(aggregate), aggregate.id)
        self._known[key] = aggregate
        self.changed.setdefault(key, seen)

    def tell(self, events: Sequence[Event], trace: str) -> None:
        """See `ports.Unit`."""
        self.events += [replace(e, trace=e.trace or trace, at=self.now) for e in events]

    async def store_answer(self, region: str, key: str, answer: StoredAnswer) -> None:
        """See `ports.Unit`."""
        if (region, key) in self._memory.answers:
            raise KeyInUseError("the first request with this key is being handled")
        self.answers[region, key] = answer

    async def park(self, lane: Lane, event: Event, reason: str) -> None:
        """See `ports.Unit`."""
        behind = sum(
            1 for service, id_ in self._memory.parked_ if service == lane.service and id_.startswith(event.key)
        )
        if (lane.service, event.id) not in self._memory.parked_:
            self.parked[lane.service, event.id] = (lane, Parked(event, reason, False, behind))

    async def unpark(self, lane: Lane, event: Event) -> None:
        """See `ports.Unit`."""
        self.parked[lane.service, event.id] = None

    def commit(self) -> None:
        """All of it, or an error and nothing."""
        memory = self._memory
        for key, seen in self.changed.items():
            there = memory.aggregates.get(key)
            if (there.version if there else 0) != seen:
                raise ConflictError(f"a {key[0].__name__} has another version")
        if any(key in memory.answers for key in self.answers):
            raise KeyInUseError("the first request with this key is being handled")
        ids = {event.id for event in memory.events}
        if any(event.id in ids for event in self.events):
            raise ConflictError("an event is there already")
        for key in self.changed:
            aggregate = self._known[key]
            assert aggregate
            memory.aggregates[key] = copy.deepcopy(aggregate)
        memory.answers |= self.answers
        memory.events += self.events
        for parked, found in self.parked.items():
            if found is None:
                memory.parked_.pop(parked, None)
            else:
                memory.parked_[parked] = found
        memory.changed.set()
