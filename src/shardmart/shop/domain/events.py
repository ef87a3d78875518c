"""Events: what happened, once, in the words of the service that knows.

An event's id is made of its key (an order, or a product), its producer and the producer's number for that key, so the
same thing can never be told twice, and a missing number is a lost event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SCHEMA = 1
"""Version of the events this code writes, and the only one it reads."""

ORDER_PLACED = "order-placed"
ORDER_CHANGED = "order-changed"
PAYMENT_REQUESTED = "payment-requested"
ORDER_CONFIRMED = "order-confirmed"
ORDER_CANCELLED = "order-cancelled"
STOCK_RESERVED = "stock-reserved"
STOCK_REFUSED = "stock-refused"
RESERVATION_DUE = "reservation-due"
STOCK_RELEASED = "stock-released"
STOCK_LOW = "stock-low"
PAYMENT_CAPTURED = "payment-captured"
PAYMENT_DECLINED = "payment-declined"
PAYMENT_REFUNDED = "payment-refunded"
REFUND_DECLINED = "refund-declined"

TYPES = frozenset(
    {
        ORDER_PLACED,
        ORDER_CHANGED,
        PAYMENT_REQUESTED,
        ORDER_CONFIRMED,
        ORDER_CANCELLED,
        STOCK_RESERVED,
        STOCK_REFUSED,
        RESERVATION_DUE,
        STOCK_RELEASED,
        STOCK_LOW,
        PAYMENT_CAPTURED,
        PAYMENT_DECLINED,
        PAYMENT_REFUNDED,
        REFUND_DECLINED,
    }
)


@dataclass(frozen=True)
class Event:
    """One event.  `key` is what its order is kept by; `at` says when, roughly: it decides nothing."""

    type: str
    key: str
    region: str
    producer: str
    number: int
    data: dict[str, Any] = field(default_factory=dict)
    customer: str | None = None
    trace: str = ""
    at: datetime | None = None
    schema: int = SCHEMA

    @property
    def id(self) -> str:
        """Unique in the whole log."""
        return f"{self.key}/{self.producer}/{self.number}"


@dataclass
class Aggregate:
    """What one transaction changes as a whole.  `version` counts its changes, `told` its events."""

    id: str
    region: str
    version: int = 0
    told: int = 0
    inbox: list[str] = field(default_factory=list)
    """Ids of the events whose effect is in it.  It lives as long as the aggregate: what has had its effect cannot have
    it again, however often and however late it is delivered."""

    def knows(self, event: Event) -> bool:
        """Whether the event had its effect here."""
        return event.id in self.inbox

    def changed(self, cause: Event | None = None) -> None:
        """Count a change, and remember the event that caused it."""
        self.version += 1
        if cause is not None:
            self.inbox.append(cause.id)

    def tell(
        self, kind: str, producer: str, data: dict[str, Any], customer: str | None, region: str | None = None
    ) -> Event:
        """The next event about it."""
        self.told += 1
        return Event(kind, self.id, region or self.region, producer, self.told, data, customer)
