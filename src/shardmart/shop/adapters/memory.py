"""Everything in this process: for tests of the saga without a server, and as the model of what a store promises.

A transaction sees the state of its beginning and fails with ConflictError if what it changed was changed meanwhile.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ..domain.events import Aggregate, Event
from ..domain.identifiers import lane_of
from ..domain.order import Order
from ..domain.payment import WORKING, Payment
from ..domain.stock import HELD, Reservation, Stock
from ..ports import (
    AggregateT,
    ConflictError,
    Document,
    FencedError,
    GapError,
    KeyInUseError,
    Lane,
    Parked,
    StoredAnswer,
    StoreError,
    T,
    Unit,
)

Key = tuple[type[Aggregate], str]
ATTEMPTS = 5


@dataclass
class Memory:
    """What all adapters of one shop share.  `away`: every use raises StoreError.  `clock` is the store's time."""

    products_: dict[str, Document] = field(default_factory=dict)
    customers: dict[str, Document] = field(default_factory=dict)
    aggregates: dict[Key, Aggregate] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    answers: dict[tuple[str, str], StoredAnswer] = field(default_factory=dict)
    parked_: dict[tuple[str, str], tuple[Lane, Parked]] = field(default_factory=dict)
    epochs: dict[tuple[str, str, int], tuple[int, str | None, datetime]] = field(default_factory=dict)
    positions: dict[tuple[str, str, int], tuple[str, datetime]] = field(default_factory=dict)
    replays: dict[tuple[str, str, int], datetime] = field(default_factory=dict)
    instances: dict[tuple[str, str], datetime] = field(default_factory=dict)
    oldest: int = 0
    """Position before which the log has forgotten, as an oplog does; the outbox has it all."""
    away: bool = False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def must_be_there(self) -> None:
        """StoreError while it is away."""
        if self.away:
            raise StoreError("away on purpose")


def position_of(number: int) -> str:
    """Positions compare as text."""
    return f"{number:012d}"


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


class MemoryStore:
    """See `ports.Store`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def transact(
        self, work: Callable[[Unit], Awaitable[T]], lane: Lane | None = None, position: str | None = None
    ) -> T:
        """See `ports.Store`."""
        for attempt in range(1, ATTEMPTS + 1):
            self._memory.must_be_there()
            unit = MemoryUnit(self._memory)
            self._fence(lane)
            result = await work(unit)
            self._memory.must_be_there()
            self._fence(lane)
            try:
                unit.commit()
            except KeyInUseError:
                raise
            except ConflictError:
                if attempt == ATTEMPTS:
                    raise
                continue
            if lane is not None and position is not None:
                self._memory.positions[lane.service, lane.region, lane.number] = (position, unit.now)
            return result
        raise AssertionError

    def _fence(self, lane: Lane | None) -> None:
        if lane is not None:
            epoch = self._memory.epochs.get((lane.service, lane.region, lane.number), (lane.epoch, None, LONG_AGO))[0]
            if epoch != lane.epoch:
                raise FencedError(f"{lane.service} {lane.name} has a later epoch than {lane.epoch}")

    async def get(self, kind: type[AggregateT], region: str, id_: str) -> AggregateT | None:
        """See `ports.Store`."""
        self._memory.must_be_there()
        return await MemoryUnit(self._memory).get(kind, region, id_)

    async def get_many(self, kind: type[AggregateT], region: str, ids: Sequence[str]) -> dict[str, AggregateT]:
        """See `ports.Store`."""
        found = {id_: await self.get(kind, region, id_) for id_ in ids}
        return {id_: aggregate for id_, aggregate in found.items() if aggregate is not None}

    async def stored_answer(self, region: str, key: str) -> StoredAnswer | None:
        """See `ports.Store`."""
        self._memory.must_be_there()
        return self._memory.answers.get((region, key))

    async def stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        """See `ports.Store`."""
        self._memory.must_be_there()
        return await MemoryUnit(self._memory).get_stocks(products)

    async def all_stocks(self, *, low_only: bool = False, limit: int | None = None) -> AsyncIterator[Stock]:
        """See `ports.Store`."""
        found = [s for s in self._memory.aggregates.values() if isinstance(s, Stock) and (s.low or not low_only)]
        for stock in found[:limit]:
            yield copy.deepcopy(stock)

    async def follow_stocks(self) -> AsyncIterator[Stock | None]:
        """See `ports.Store`."""
        versions: dict[str, int] = {}
        while True:
            for stock in [s for s in self._memory.aggregates.values() if isinstance(s, Stock)]:
                if versions.get(stock.id) != stock.version:
                    versions[stock.id] = stock.version
                    yield copy.deepcopy(stock)
            yield None
            await asyncio.sleep(0.01)

    async def orders_of(
        self, region: str, customer: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[Order]:
        """See `ports.Store`."""
        self._memory.must_be_there()
        mine = [o for o in self._memory.aggregates.values() if isinstance(o, Order) and o.customer == customer]
        mine.sort(key=_newest, reverse=True)
        older = [order for order in mine if before is None or _newest(order) < before]
        return copy.deepcopy(older[:limit])

    async def count_by_status(self) -> dict[str, int]:
        """See `ports.Store`."""
        statuses = [o.status for o in self._memory.aggregates.values() if isinstance(o, Order)]
        return {status: statuses.count(status) for status in statuses}

    async def products(self, ids: Sequence[str]) -> dict[str, Document]:
        """See `ports.Store`."""
        self._memory.must_be_there()
        return {id_: self._memory.products_[id_] for id_ in ids if id_ in self._memory.products_}

    async def customer(self, region: str, user: str) -> Document | None:
        """See `ports.Store`."""
        self._memory.must_be_there()
        return self._memory.customers.get(f"{region}.{user}")

    async def due(self, kind: type[AggregateT], lane: Lane, limit: int) -> list[AggregateT]:
        """See `ports.Store`."""
        self._memory.must_be_there()
        now = self._memory.clock()
        found: list[AggregateT] = []
        for aggregate in self._memory.aggregates.values():
            if not isinstance(aggregate, kind) or aggregate.region != lane.region:
                continue
            each: Any = aggregate
            at = each.until if kind is Reservation else each.due_at
            waits = each.state == HELD if kind is Reservation else kind is not Payment or each.state in WORKING
            if each.lane == lane.number and waits and at is not None and at <= now:
                found.append(copy.deepcopy(aggregate))
        return found[:limit]

    async def parked(self, lane: Lane, limit: int = 1000) -> list[Parked]:
        """See `ports.Store`."""
        self._memory.must_be_there()
        found = [
            parked
            for where, parked in self._memory.parked_.values()
            if (where.service, where.region, where.number) == (lane.service, lane.region, lane.number)
        ]
        return sorted(found, key=lambda parked: (parked.event.key, parked.order))[:limit]

    async def send_again(self, service: str, regions: Sequence[str], key: str | None) -> int:
        """See `ports.Store`."""
        asked = 0
        for name, (lane, parked) in list(self._memory.parked_.items()):
            if lane.service == service and lane.region in regions and key in (None, parked.event.key):
                self._memory.parked_[name] = (lane, replace(parked, again=True))
                asked += 1
        return asked

    async def ping(self) -> None:
        """See `ports.Store`."""
        self._memory.must_be_there()


LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def _newest(order: Order) -> tuple[datetime, str]:
    return order.created_at or LONG_AGO, order.id.rpartition(".")[2]


class MemoryLanes:
    """See `ports.Lanes`."""

    def __init__(
        self, memory: Memory, service: str, instance: str, regions: Sequence[str], lanes: int, lease_seconds: float
    ) -> None:
        self._memory, self._service, self._instance = memory, service, instance
        self._all = [(service, region, number) for region in regions for number in range(lanes)]
        self._lease = timedelta(seconds=lease_seconds)

    async def beat(self) -> list[Lane]:
        """See `ports.Lanes`."""
        self._memory.must_be_there()
        now, epochs = self._memory.clock(), self._memory.epochs
        self._memory.instances[self._service, self._instance] = now + self._lease
        living = [s for (s, _), until in self._memory.instances.items() if s == self._service and until > now]
        share = -(-len(self._all) // len(living))
        held = [key for key in self._all if epochs.get(key, (0, None, LONG_AGO))[1] == self._instance]
        for key in self._all:
            epoch, owner, until = epochs.get(key, (0, None, LONG_AGO))
            if owner == self._instance:
                epochs[key] = (epoch, owner, now + self._lease)
            elif (owner is None or until <= now) and len(held) < share:
                epochs[key] = (epoch + 1, self._instance, now + self._lease)
                held.append(key)
        for key in held[share:]:
            epochs[key] = (epochs[key][0] + 1, None, now)
        return [self._lane(key) for key in held[:share]]

    def _lane(self, key: tuple[str, str, int]) -> Lane:
        position, at = self._memory.positions.get(key, (None, None))
        return Lane(*key, self._memory.epochs[key][0], position, at, self._memory.replays.get(key))

    async def give_back(self, lanes: Sequence[Lane]) -> None:
        """See `ports.Lanes`."""
        for lane in lanes:
            key = (lane.service, lane.region, lane.number)
            if self._memory.epochs.get(key, (0,))[0] == lane.epoch:
                self._memory.epochs[key] = (lane.epoch + 1, None, self._memory.clock())

    async def ask_replay(self, since: datetime) -> int:
        """See `ports.Lanes`."""
        self._memory.replays |= dict.fromkeys(self._all, since)
        return len(self._all)

    async def replayed(self, lane: Lane) -> None:
        """See `ports.Lanes`."""
        self._memory.replays.pop((lane.service, lane.region, lane.number), None)

    async def replaying(self) -> int:
        """See `ports.Lanes`."""
        return sum(1 for key in self._all if key in self._memory.replays)

    async def leave(self) -> None:
        """See `ports.Lanes`."""
        self._memory.instances.pop((self._service, self._instance), None)


class MemoryLog:
    """See `ports.EventLog`."""

    def __init__(self, memory: Memory, lanes: int) -> None:
        self._memory, self._lanes = memory, lanes

    async def end(self) -> str:
        """See `ports.EventLog`."""
        self._memory.must_be_there()
        return position_of(len(self._memory.events))

    async def follow(self, position: str) -> AsyncIterator[tuple[Event | None, str]]:
        """See `ports.EventLog`."""
        number = int(position)
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
