"""The store of every service in memory."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ...domain.order import Order
from ...domain.payment import WORKING, Payment
from ...domain.stock import HELD, Reservation, Stock
from ...ports import (
    AggregateT,
    ConflictError,
    Document,
    FencedError,
    KeyInUseError,
    Lane,
    Parked,
    StoredAnswer,
    T,
    Unit,
)
from .state import LONG_AGO, Memory
from .unit import MemoryUnit

ATTEMPTS = 5


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

    async def answered(self, region: str, keys: Sequence[str]) -> set[str]:
        """See `ports.Store`."""
        self._memory.must_be_there()
        return {key for key in keys if (region, key) in self._memory.answers}

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
        known = {id_: self._memory.products_[id_] for id_ in ids if id_ in self._memory.products_}
        return {id_: {name: product[name] for name in ("id", "name", "price_cents")} for id_, product in known.items()}

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


def _newest(order: Order) -> tuple[datetime, str]:
    return order.created_at or LONG_AGO, order.id.rpartition(".")[2]
