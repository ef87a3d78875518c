"""A payment: one charge for an order, and its return.  No state goes back.

    requested ──▶ captured ──▶ refunding ──▶ refunded
        │  └────▶ declined        ▲   └────▶ refund-declined ──▶ refunding (an operator asks again)
        └── order cancelled ──────┘
    cancelled: the order was cancelled before a payment was asked for; nothing will ever be charged.

An order that is cancelled while nobody knows whether its charge went through goes to `refunding`: the provider is told
to return the charge or, if it has none, never to make one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from . import events
from .errors import StateError
from .events import Aggregate, Event

PRODUCER = "payment"
REQUESTED, CAPTURED, DECLINED = "requested", "captured", "declined"
REFUNDING, REFUNDED, REFUND_DECLINED, CANCELLED = "refunding", "refunded", "refund-declined", "cancelled"
WORKING = frozenset({REQUESTED, REFUNDING})
MAXIMUM_REFUND_ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0

Answer = Literal["captured", "declined", "refunded", "voided", "refund-declined"]


def charge_key(order: str) -> str:
    """What the provider knows the one charge of an order by."""
    return f"charge:{order}"


def refund_key(order: str) -> str:
    """What the provider knows the one refund of an order by."""
    return f"refund:{order}"


@dataclass
class Payment(Aggregate):
    """The payment of an order.  Its id is the order's.  `due_at`: when the provider is asked (again); None: never."""

    customer: str | None = None
    state: str = ""
    amount_cents: int = 0
    charge: str | None = None
    refund: str | None = None
    attempts: int = 0
    due_at: datetime | None = None
    lane: int = 0
    trace: str = ""

    def request(self, cause: Event, now: datetime) -> None:
        """The order asks for its money; nothing if that is known or the order is cancelled."""
        if not self.knows(cause) and self.state == "":
            self.state, self.amount_cents, self.customer = REQUESTED, cause.data["amount_cents"], cause.customer
            self.due_at, self.trace = now, cause.trace
            self.changed(cause)

    def cancel(self, cause: Event, now: datetime) -> None:
        """The order is cancelled: return the money if there is any."""
        if self.knows(cause):
            return
        self.customer = cause.customer
        if self.state == "":
            self.state = CANCELLED
        elif self.state in (REQUESTED, CAPTURED):
            self.state, self.attempts, self.due_at, self.trace = REFUNDING, 0, now, cause.trace
        self.changed(cause)

    def refund_again(self, now: datetime) -> None:
        """An operator asks for a declined refund once more; StateError when none was declined."""
        if self.state != REFUND_DECLINED:
            raise StateError(f"a payment that is {self.state} has no declined refund")
        self.state, self.attempts, self.due_at = REFUNDING, 0, now
        self.changed()

    def answered(self, answer: Answer, reference: str | None, now: datetime) -> list[Event]:
        """What the provider said.  An answer that does not fit the state any more changes nothing."""
        if self.state == REQUESTED and answer in ("captured", "declined"):
            self.due_at = None
            self.changed()
            if answer == "declined":
                self.state = DECLINED
                return [self._tell(events.PAYMENT_DECLINED)]
            self.state, self.charge = CAPTURED, reference
            return [self._tell(events.PAYMENT_CAPTURED)]
        if self.state == REFUNDING and answer == "refunded":
            self.state, self.refund, self.due_at = REFUNDED, reference, None
            self.changed()
            return [self._tell(events.PAYMENT_REFUNDED)]
        if self.state == REFUNDING and answer == "voided":
            self.state, self.due_at = CANCELLED, None
            self.changed()
        elif self.state == REFUNDING and answer == "refund-declined":
            if self.attempts + 1 < MAXIMUM_REFUND_ATTEMPTS:
                self.no_answer(now)
                return []
            self.state, self.due_at = REFUND_DECLINED, None
            self.changed()
            return [self._tell(events.REFUND_DECLINED)]
        return []

    def no_answer(self, now: datetime) -> None:
        """The provider did not say: ask again later, each time after twice as long."""
        if self.state in WORKING:
            wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(self.attempts, 10))
            self.attempts += 1
            self.due_at = now + timedelta(seconds=wait)
            self.changed()

    def hint(self, now: datetime) -> None:
        """The provider has news (webhook): ask it now.  The message itself decides nothing, whatever it says."""
        if self.state in WORKING and (self.due_at is None or self.due_at > now):
            self.due_at = now
            self.changed()

    def _tell(self, kind: str) -> Event:
        return self.tell(kind, PRODUCER, {"amount_cents": self.amount_cents}, self.customer)
