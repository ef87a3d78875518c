"""Stock: restocking, reservations for orders, and the copy of stocks in the cache."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from ..domain import events
from ..domain.errors import NotFoundError
from ..domain.events import Event
from ..domain.stock import Reservation, Stock
from ..ports import Cache, Lane, Store, StoreError, Unit
from ..saga.handling import Soon
from ..telemetry import TRACE

AGAIN_SECONDS = 30.0
LOW_STOCK_CHANNEL = "low-stock"
logger = logging.getLogger(__name__)


class Inventory:
    """The use cases."""

    def __init__(self, store: Store, threshold: int) -> None:
        self._store, self._threshold = store, threshold

    async def stock(self, product: str) -> Stock:
        """The stock of a product; NotFoundError when there is no such product."""
        found = await self._store.stocks([product])
        if product not in found:
            raise NotFoundError("there is no such product")
        return found[product]

    async def stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        """Stock by product; unknown ones are left out."""
        return await self._store.stocks(products)

    async def low(self, limit: int = 200) -> list[Stock]:
        """Products whose stock is low."""
        return [stock async for stock in self._store.all_stocks(low_only=True, limit=limit)]

    async def restock(self, unit: Unit, product: str, quantity: int) -> Stock:
        """Put pieces in, in the caller's transaction."""
        stock = (await unit.get_stocks([product])).get(product)
        if stock is None:
            raise NotFoundError("there is no such product")
        seen = stock.version
        stock.put_back(quantity, self._threshold)
        await unit.put(stock, seen)
        return stock


class InventoryHandlers:
    """What events make of stock and reservations."""

    types = frozenset({events.ORDER_PLACED, events.ORDER_CHANGED, events.ORDER_CONFIRMED, events.ORDER_CANCELLED})

    def __init__(self, store: Store, threshold: int, reservation_seconds: float) -> None:
        self._store, self._threshold = store, threshold
        self._time = timedelta(seconds=reservation_seconds)
        self.soon = Soon()

    async def prepare(self, lane: Lane, batch: Sequence[Event]) -> Mapping[str, Any]:
        """See `Handlers`: nothing."""
        return {}

    async def fetch(self, unit: Unit, batch: Sequence[Event]) -> None:
        """See `Handlers`."""
        await unit.fetch(Reservation, batch[0].region, [event.key for event in batch])
        await unit.get_stocks(sorted({line["product"] for event in batch for line in event.data.get("lines", ())}))

    async def apply(self, unit: Unit, lane: Lane, event: Event, prepared: Any) -> None:
        """See `Handlers`."""
        found = await unit.get(Reservation, event.region, event.key)
        reservation = found or Reservation(event.key, event.region)
        reservation.lane = lane.number
        wanted: dict[str, int] = {}
        if event.type in (events.ORDER_PLACED, events.ORDER_CHANGED):
            wanted = {line["product"]: line["quantity"] for line in event.data["lines"]}
        seen = reservation.version
        stocks: dict[str, Stock] = {}
        if event.type != events.ORDER_CONFIRMED and (touched := reservation.products(wanted)):
            stocks = await unit.get_stocks(touched)
        versions = {product: stock.version for product, stock in stocks.items()}
        if event.type == events.ORDER_CONFIRMED:
            told = reservation.confirm(event)
        elif event.type == events.ORDER_CANCELLED:
            told = reservation.release(event, stocks, self._threshold)
        else:
            told = reservation.reserve(event, wanted, stocks, self._threshold, unit.now + self._time)
        if reservation.version == seen:
            return
        for product in sorted(stocks):
            if stocks[product].version != versions[product]:
                await unit.put(stocks[product], versions[product])
        await unit.put(reservation, seen)
        unit.tell(told, event.trace)

    async def tick(self, lane: Lane) -> None:
        """See `Handlers`: ask the orders of reservations whose time is over."""
        for due in await self._store.due(Reservation, lane, 100):
            await self._ask(lane, due)

    async def _ask(self, lane: Lane, due: Reservation) -> None:
        async def ask(unit: Unit) -> None:
            reservation = await unit.get(Reservation, due.region, due.id)
            assert reservation
            seen = reservation.version
            if told := reservation.due(unit.now, AGAIN_SECONDS):
                await unit.put(reservation, seen)
                unit.tell(told, TRACE.get())

        await self._store.transact(ask, lane)


class CacheKeeper:
    """Keeps the cache equal to the store: filled once, then every change of stock as the store tells it.

    Both may be done by every instance at once, because a value carries its version.
    """

    def __init__(self, store: Store, cache: Cache) -> None:
        self._store, self._cache = store, cache
        self._low: set[str] = set()
        self.away = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(StoreError):
                async with contextlib.aclosing(self._store.follow_stocks()) as changes:  # type: ignore[type-var]
                    # Filled while the changes are being followed, or what changes in between would be missed.
                    await self.refill()
                    async for stock in changes:
                        if stock is not None:
                            stored = await self._cache.put([stock])
                            await self._hint(stock)
                        else:
                            stored = await self._cache.put([])
                        # A cache that comes back with what it had lacks the changes of meanwhile.
                        back, self.away = stored and self.away, not stored
                        if back or (stock is None and stored and not await self._cache.is_complete()):
                            await self.refill()
            await asyncio.sleep(0.5)

    async def refill(self) -> int:
        """Copy every stock to the cache; returns how many."""
        count, batch = 0, []
        async for stock in self._store.all_stocks():
            batch.append(stock)
            if len(batch) == 500:
                self.away = not await self._cache.put(batch)
                count, batch = count + len(batch), []
        self.away = not await self._cache.put(batch)
        if not self.away:
            await self._cache.mark_complete()
            logger.info("the cache was filled", extra={"stocks": count + len(batch)})
        return count + len(batch)

    async def _hint(self, stock: Stock) -> None:
        """Only a hint: who must not miss it follows `stock-low` in the event log."""
        if stock.low and stock.id not in self._low:
            await self._cache.hint(LOW_STOCK_CHANNEL, f'{{"product": "{stock.id}", "available": {stock.available}}}')
        (self._low.add if stock.low else self._low.discard)(stock.id)
