"""A notification: once per event.  Sent at least once, always under the same Message-ID."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from . import events
from .events import Aggregate, Event

QUEUED, SENT, FAILED = "queued", "sent", "failed"
MAXIMUM_ATTEMPTS = 20
SUBJECTS = {
    events.ORDER_CONFIRMED: "Your order is confirmed",
    events.ORDER_CANCELLED: "Your order is cancelled",
    events.PAYMENT_REFUNDED: "Your money is on its way back",
    events.STOCK_LOW: "Stock is low",
    events.REFUND_DECLINED: "A refund was declined",
}
"""Events that somebody is told of."""
FOR_OPERATOR = frozenset({events.STOCK_LOW, events.REFUND_DECLINED})


@dataclass
class Notification(Aggregate):
    """Its id is the event's.  `channels`: channel → whether it was sent."""

    type: str = ""
    key: str = ""
    customer: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    state: str = QUEUED
    channels: dict[str, bool] = field(default_factory=dict)
    attempts: int = 0
    due_at: datetime | None = None
    at: datetime | None = None
    lane: int = 0
    trace: str = ""
    error: str | None = None

    @property
    def message_id(self) -> str:
        """The same however often it is sent: mail programs and servers know a repetition by it."""
        return f"<{hashlib.sha256(self.id.encode()).hexdigest()[:32]}@shop.example>"

    def queue(self, event: Event, channels: list[str], now: datetime) -> None:
        """Tell somebody of `event`, through `channels`."""
        self.type, self.key, self.customer, self.data = event.type, event.key, event.customer, event.data
        self.channels = dict.fromkeys(channels, False)
        self.at, self.trace = now, event.trace
        self.state, self.due_at = (QUEUED, now) if channels else (SENT, None)
        self.changed()

    def tried(self, sent: set[str], error: str | None, now: datetime) -> None:
        """An attempt is over: which channels took it, and what the others said."""
        self.channels |= dict.fromkeys(sent, True)
        self.attempts += 1
        self.error = error
        if all(self.channels.values()):
            self.state, self.due_at = SENT, None
        elif self.attempts >= MAXIMUM_ATTEMPTS:
            self.state, self.due_at = FAILED, None
        else:
            self.due_at = now + timedelta(seconds=min(60.0, 0.5 * 2 ** min(self.attempts, 7)))
        self.changed()
