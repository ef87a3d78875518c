"""Stock of a product, and the reservation of an order.

A reservation takes its pieces out of `available` when it is made.  Confirmation only marks it `taken`; release puts the
pieces back.  Its end is asked of the order (`reservation-due`), which alone decides: so a reservation never goes while
its order is being confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from . import events
from .errors import InvalidError
from .events import Aggregate, Event

PRODUCER = "inventory"
HELD, REFUSED, TAKEN, RELEASED = "held", "refused", "taken", "released"
MAXIMUM_STOCK = 1_000_000_000


@dataclass
class Stock(Aggregate):
    """Pieces of one product that can still be sold.  `low` is state: it is told once per crossing of the threshold."""

    available: int = 0
    low: bool = False

    def take(self, quantity: int, threshold: int, region: str) -> list[Event]:
        """Take pieces out; the caller has looked that they are there.  Returns `stock-low` when it becomes low."""
        if quantity > self.available:
            raise InvalidError(f"{self.available} pieces are fewer than {quantity}")
        self.available -= quantity
        self.changed()
        if self.available > threshold or self.low:
            return []
        self.low = True
        data = {"product": self.id, "available": self.available, "threshold": threshold}
        return [self.tell(events.STOCK_LOW, PRODUCER, data, None, region)]

    def put_back(self, quantity: int, threshold: int) -> None:
        """Pieces come back or in; enough of them arm the warning again.  InvalidError beyond the maximum."""
        if self.available + quantity > MAXIMUM_STOCK:
            raise InvalidError(f"more than {MAXIMUM_STOCK} pieces of a product")
        self.available += quantity
        self.low = self.low and self.available <= threshold
        self.changed()


@dataclass
class Reservation(Aggregate):
    """The pieces an order holds.  Its id is the order's."""

    customer: str | None = None
    state: str = ""
    revision: int = 0
    pieces: dict[str, int] = field(default_factory=dict)
    until: datetime | None = None
    lane: int = 0

    def products(self, wanted: Mapping[str, int]) -> list[str]:
        """Products whose stock a change to `wanted` touches, in the order in which every transaction takes them."""
        return sorted({*self.pieces, *wanted})

    def reserve(
        self,
        cause: Event,
        wanted: dict[str, int],
        stocks: Mapping[str, Stock],
        threshold: int,
        until: datetime,
    ) -> list[Event]:
        """Hold `wanted` instead of what is held now, all or nothing.

        An order that was decided meanwhile, or an older revision, changes nothing.
        """
        revision = cause.data["revision"]
        if self.knows(cause) or self.state in (TAKEN, RELEASED) or revision <= self.revision:
            return []
        self.revision = revision
        self.customer = cause.customer
        difference = {p: wanted.get(p, 0) - self.pieces.get(p, 0) for p in self.products(wanted)}
        missing = [p for p, more in difference.items() if p not in stocks or stocks[p].available < more]
        if missing:
            self._give_back(stocks, threshold)
            self.state = REFUSED
            self.changed(cause)
            return [self._tell(events.STOCK_REFUSED, revision=revision, missing=missing)]
        told: list[Event] = []
        for product, more in difference.items():
            if more > 0:
                told += stocks[product].take(more, threshold, self.region)
            elif more < 0:
                stocks[product].put_back(-more, threshold)
        self.pieces, self.state = wanted, HELD
        self.until = until
        self.changed(cause)
        return [*told, self._tell(events.STOCK_RESERVED, revision=revision)]

    def confirm(self, cause: Event) -> list[Event]:
        """The order is confirmed: the pieces are its own."""
        if not self.knows(cause) and self.state == HELD:
            self.state, self.until = TAKEN, None
            self.changed(cause)
        return []

    def release(self, cause: Event, stocks: Mapping[str, Stock], threshold: int) -> list[Event]:
        """The order is cancelled: what it held or had taken goes back, and nothing can be reserved for it any more."""
        if self.knows(cause) or self.state == RELEASED:
            return []
        pieces = [{"product": product, "quantity": quantity} for product, quantity in self.pieces.items()]
        self._give_back(stocks, threshold)
        self.state, self.until = RELEASED, None
        self.customer = cause.customer
        self.changed(cause)
        return [self._tell(events.STOCK_RELEASED, pieces=pieces)]

    def due(self, now: datetime, again_seconds: float) -> list[Event]:
        """Its time is over: ask the order.  Asked again after a while in case the order was being changed."""
        if self.state != HELD or self.until is None or self.until > now:
            return []
        self.until = now + timedelta(seconds=again_seconds)
        self.changed()
        return [self._tell(events.RESERVATION_DUE, revision=self.revision)]

    def _give_back(self, stocks: Mapping[str, Stock], threshold: int) -> None:
        for product, quantity in self.pieces.items():
            stocks[product].put_back(quantity, threshold)
        self.pieces = {}

    def _tell(self, kind: str, **data: object) -> Event:
        return self.tell(kind, PRODUCER, dict(data), self.customer)
