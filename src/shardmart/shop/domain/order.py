"""An order: the one place where it is decided whether it is confirmed or cancelled.

    pending ── stock reserved ──▶ reserved ── payment captured ──▶ confirmed
       │ refused, expired, cancelled   │ declined, expired, cancelled   │ cancelled
       └──────────────────────────────▶ cancelled ◀─────────────────────┘

Whoever comes first decides; what comes later finds a decided order and changes nothing.  Stock and money follow the
decision: inventory and payment give back whatever a cancelled order had taken.  Orders that were written by others
(`paid`, `shipped`, `delivered`, `returned`) are read, and cancelled while they have not left the house.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import events
from .errors import InvalidError, StateError
from .events import Aggregate, Event

PRODUCER = "order"
PENDING, RESERVED, CONFIRMED, CANCELLED = "pending", "reserved", "confirmed", "cancelled"
CANCELLABLE = frozenset({PENDING, RESERVED, CONFIRMED, "paid"})
ENDED = frozenset({CONFIRMED, CANCELLED, "shipped", "delivered", "returned"})
MAXIMUM_LINES = 50
MAXIMUM_QUANTITY = 1_000
MAXIMUM_TOTAL_CENTS = 1_000_000_000_00


@dataclass(frozen=True)
class Line:
    """So many pieces of a product at the price it had when it was ordered."""

    product: str
    quantity: int
    unit_price_cents: int


def merge(wanted: list[tuple[str, int]]) -> dict[str, int]:
    """Product → pieces; a product on two lines is one line.  InvalidError for too many lines or pieces."""
    pieces: dict[str, int] = {}
    for product, quantity in wanted:
        pieces[product] = pieces.get(product, 0) + quantity
    if not 1 <= len(pieces) <= MAXIMUM_LINES:
        raise InvalidError(f"an order has 1 to {MAXIMUM_LINES} products")
    if not all(1 <= quantity <= MAXIMUM_QUANTITY for quantity in pieces.values()):
        raise InvalidError(f"an order has 1 to {MAXIMUM_QUANTITY} pieces of a product")
    return pieces


@dataclass
class Order(Aggregate):
    """One order.  `revision` counts the changes of its lines: a reservation of an older one is not for it."""

    customer: str = ""
    lines: list[Line] = field(default_factory=list)
    total_cents: int = 0
    status: str = PENDING
    created_at: datetime | None = None
    address: dict[str, str] | None = None
    revision: int = 1
    reason: str | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    trace: str = ""

    def place(self, lines: list[Line], now: datetime) -> Event:
        """A new order; returns `order-placed`."""
        self.lines, self.created_at = lines, now
        self.total_cents = _total(lines)
        self._becomes(PENDING, now)
        self.changed()
        return self._tell_lines(events.ORDER_PLACED)

    def change_address(self, address: dict[str, str]) -> None:
        """Send it elsewhere; StateError unless it is pending."""
        self._must_be_pending()
        self.address = address
        self.changed()

    def change_lines(self, lines: list[Line]) -> Event:
        """Other quantities; StateError unless it is pending; returns `order-changed`."""
        self._must_be_pending()
        self.lines, self.total_cents = lines, _total(lines)
        self.revision += 1
        self.changed()
        return self._tell_lines(events.ORDER_CHANGED)

    def cancel(self, reason: str, now: datetime, cause: Event | None = None) -> list[Event]:
        """Cancel it; nothing if it is cancelled already, StateError when it has left the house."""
        if self.status == CANCELLED:
            return []
        if self.status not in CANCELLABLE:
            raise StateError(f"an order that is {self.status} cannot be cancelled")
        self.reason = reason
        self._becomes(CANCELLED, now, reason)
        self.changed(cause)
        return [self._tell(events.ORDER_CANCELLED, reason=reason, total_cents=self.total_cents)]

    def handle(self, event: Event, now: datetime) -> list[Event]:
        """What an event of inventory or payment makes of it.  The caller saves it if its version grew."""
        if self.knows(event):
            return []
        kind, data = event.type, event.data
        if kind == events.STOCK_RESERVED and self.status == PENDING and data["revision"] == self.revision:
            self._becomes(RESERVED, now)
            self.changed(event)
            return [self._tell(events.PAYMENT_REQUESTED, amount_cents=self.total_cents)]
        if kind == events.STOCK_REFUSED and self.status == PENDING and data["revision"] == self.revision:
            return self.cancel("out of stock", now, event)
        if kind == events.PAYMENT_CAPTURED and self.status == RESERVED:
            self._becomes(CONFIRMED, now)
            self.changed(event)
            return [self._tell(events.ORDER_CONFIRMED, total_cents=self.total_cents)]
        if kind == events.PAYMENT_DECLINED and self.status == RESERVED:
            return self.cancel("payment declined", now, event)
        if kind == events.RESERVATION_DUE and self.status in (PENDING, RESERVED):
            return self.cancel("reservation expired", now, event)
        if kind == events.PAYMENT_REFUNDED:
            self.history.append({"status": "refunded", "at": now})
            self.changed(event)
        return []

    def _must_be_pending(self) -> None:
        if self.status != PENDING:
            raise StateError(f"an order can be changed while it is pending; this one is {self.status}")

    def _becomes(self, status: str, now: datetime, reason: str | None = None) -> None:
        self.status = status
        self.history.append({"status": status, "at": now} | ({"reason": reason} if reason else {}))

    def _tell_lines(self, kind: str) -> Event:
        lines = [{"product": line.product, "quantity": line.quantity} for line in self.lines]
        return self._tell(kind, revision=self.revision, lines=lines, total_cents=self.total_cents)

    def _tell(self, kind: str, **data: Any) -> Event:
        return self.tell(kind, PRODUCER, data, self.customer)


def _total(lines: list[Line]) -> int:
    total = sum(line.quantity * line.unit_price_cents for line in lines)
    if total > MAXIMUM_TOTAL_CENTS:
        raise InvalidError("the order is worth too much")
    return total
