"""What must be true of a shop at rest, read from its final documents alone: pure, and in the words of a customer.

Every aggregate counts the events it has told (`told`) and remembers those that had their effect on it (`inbox`), so a
lost event, a doubled one and one out of order are seen without a clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..system import Document
from . import stores

KINDS = {
    "unfinished": "an accepted order did not come to its end",
    "charged-twice": "the provider charged an order more than once",
    "money": "the money that was kept is not what the order owes",
    "provider-differs": "the provider's ledger and the payments do not say the same",
    "pieces": "the pieces an order took are not those of its lines",
    "oversold": "more pieces were sold than there were, or pieces vanished",
    "event-lost": "something happened and its event is not in the log",
    "effect-lost": "an event is in the log and did not have its effect",
    "event-doubled": "an event is there twice, or had its effect twice",
    "event-order": "events of one order had their effects out of order",
    "untold": "the customer was not told",
    "told-twice": "the customer was told twice of one thing",
    "history": "the order's state went back",
    "parked": "an event could not be handled and waits for an operator",
    "cache-differs": "the cache says something else than the store",
}
CONFIRMED, CANCELLED = "confirmed", "cancelled"
RANK = {"pending": 0, "reserved": 1, "confirmed": 2, "cancelled": 3, "refunded": 4}
"""A history only goes up."""
TOLD_OF = {"order-confirmed", "order-cancelled", "payment-refunded", "refund-declined"}
PAID_BACK = {"declined", "refunded", "cancelled"}
WORKING = {"requested", "refunding"}


class Problem(NamedTuple):
    """A rule that does not hold: its kind, what is seen, the order it is about ("" for none)."""

    kind: str
    detail: str
    order: str = ""


Documents = Callable[[str], Iterable[Document]]


@dataclass
class Traces:
    """All that the stores hold of one order."""

    order: Document
    reservations: list[Document] = field(default_factory=list)
    payments: list[Document] = field(default_factory=list)
    events: list[Document] = field(default_factory=list)
    notifications: list[Document] = field(default_factory=list)
    provider: list[Document] = field(default_factory=list)

    @property
    def reservation(self) -> Document | None:
        """The one reservation."""
        return self.reservations[0] if self.reservations else None

    @property
    def payment(self) -> Document | None:
        """The one payment."""
        return self.payments[0] if self.payments else None

    def amount(self, answer: str) -> list[int]:
        """Cents of the provider's operations that were answered so."""
        return [entry["amount_cents"] for entry in self.provider if entry["answer"] == answer]


def gather(documents: Documents) -> dict[str, Traces]:
    """What there is of each order, by its id."""
    found = {order["_id"]: Traces(order) for order in documents(stores.ORDERS)}
    for name, key, attribute in (
        (stores.RESERVATIONS, "_id", "reservations"),
        (stores.PAYMENTS, "_id", "payments"),
        (stores.EVENTS, "key", "events"),
        (stores.NOTIFICATIONS, "key", "notifications"),
        (stores.PROVIDER, "order", "provider"),
    ):
        for document in documents(name):
            if document[key] in found:
                getattr(found[document[key]], attribute).append(document)
    return found


def problems(documents: Documents) -> Iterator[Problem]:
    """Every rule that does not hold, first those of orders, then those of the shop as a whole."""
    for id_, traces in gather(documents).items():
        for rule in (_ended, _money, _pieces, _events, _effects, _told, _history):
            for kind, detail in rule(traces):
                yield Problem(kind, f"{id_} {detail}", id_)
    for parked in documents(stores.PARKED):
        detail = f"{parked['_id']} waits in the parking place of {parked['service']}: {parked['reason']}"
        yield Problem("parked", detail, parked["key"])
    stock = {one["_id"]: one["available"] for one in documents(stores.STOCK)}
    for product, available in stock.items():
        if available < 0:
            yield Problem("oversold", f"product {product} has {available} pieces")
    for one in documents(stores.CACHE):
        if one["cached"] is not None and one["cached"] != stock[one["_id"]]:
            detail = f"product {one['_id']} has {stock[one['_id']]} pieces and the cache says {one['cached']}"
            yield Problem("cache-differs", detail)


Found = Iterator[tuple[str, str]]


def _ended(traces: Traces) -> Found:
    order, reservation, payment = traces.order, traces.reservation, traces.payment
    if order["status"] not in (CONFIRMED, CANCELLED):
        yield "unfinished", f"is still {order['status']}"
        return
    if reservation is not None and reservation["state"] == "held":
        yield "unfinished", f"is {order['status']} and its reservation is still held"
    if payment is not None and payment["state"] in WORKING:
        yield "unfinished", f"is {order['status']} and its payment is still {payment['state']}"
    for notification in traces.notifications:
        if notification["state"] == "queued":
            yield "unfinished", f"is {order['status']} and nobody has been told yet of {notification['type']}"


def _money(traces: Traces) -> Found:
    order, charges, returned = traces.order, traces.amount("captured"), traces.amount("refunded")
    if len(traces.payments) > 1:
        yield "provider-differs", f"has {len(traces.payments)} payments"
    if len(charges) > 1:
        yield "charged-twice", f"was charged {len(charges)} times, {' + '.join(map(str, charges))} cents"
        return
    if sum(price * quantity for _, quantity, price in order["items"]) != order["total_cents"]:
        yield "money", f"has a total of {order['total_cents']} cents, which its lines do not add up to"
    if order["status"] not in (CONFIRMED, CANCELLED):
        return
    owed = order["total_cents"] if order["status"] == CONFIRMED else 0
    kept = sum(charges) - sum(returned)
    if kept != owed:
        yield "money", f"is {order['status']}, and {kept} cents were kept where {owed} are owed"
    payment = traces.payment
    fits = {"captured"} if order["status"] == CONFIRMED else PAID_BACK
    state = payment["state"] if payment else "not there"
    if state not in fits | WORKING:
        yield "provider-differs", f"is {order['status']} and its payment is {state}"
    if payment is None:
        return
    known = {entry["reference"] for entry in traces.provider}
    for what, answer in (("charge", "captured"), ("refund", "refunded")):
        if payment[what] is not None and payment[what] not in known:
            yield "provider-differs", f"has a {what} {payment[what]} that the provider does not know"
        if payment[what] is None and traces.amount(answer) and state not in WORKING | {"refunded", "cancelled"}:
            yield "provider-differs", f"is {state} without the {what} that the provider made"


def _pieces(traces: Traces) -> Found:
    order, reservation = traces.order, traces.reservation
    if len(traces.reservations) > 1:
        yield "pieces", f"has {len(traces.reservations)} reservations"
    if reservation is None or reservation["state"] == "held":
        if order["status"] == CONFIRMED and reservation is None:
            yield "pieces", "is confirmed and has taken nothing out of the stock"
        return
    if order["status"] == CONFIRMED:
        wanted = {product: quantity for product, quantity, _ in order["items"]}
        if (reservation["state"], reservation["pieces"]) != ("taken", wanted):
            yield (
                "pieces",
                f"is confirmed with {wanted}; its reservation is {reservation['state']} with {_of(reservation)}",
            )
    if order["status"] == CANCELLED and (reservation["state"] != "released" or reservation["pieces"]):
        yield "pieces", f"is cancelled; its reservation is {reservation['state']} with {_of(reservation)}"


def _of(reservation: Document) -> Mapping[str, int]:
    pieces: Mapping[str, int] = reservation["pieces"]
    return pieces


def _events(traces: Traces) -> Found:
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for event in traces.events:
        numbers[event["producer"]].append(event["number"])
    tellers = {"order": traces.order, "inventory": traces.reservation, "payment": traces.payment}
    for producer, teller in tellers.items():
        told, there = teller["told"] if teller else 0, numbers[producer]
        if lost := sorted(set(range(1, told + 1)) - set(there)):
            yield "event-lost", f"told {told} events by {producer}; {_listed(lost)} not in the log"
        if len(there) != len(set(there)) or set(there) - set(range(1, told + 1)):
            yield "event-doubled", f"told {told} events by {producer}, and the log has {sorted(there)}"


def _listed(numbers: list[int]) -> str:
    return f"number {numbers[0]} is" if len(numbers) == 1 else f"numbers {', '.join(map(str, numbers))} are"


def _effects(traces: Traces) -> Found:
    """Each event that must have been noticed was; each inbox has its events once, each producer's in their order."""
    known = {event["_id"] for event in traces.events}
    inboxes: dict[str, list[str]] = {}
    for service, holder in (("order", traces.order), ("inventory", traces.reservation), ("payment", traces.payment)):
        inboxes[service] = list(holder["inbox"]) if holder else []
        last: dict[str, int] = {}
        for id_ in inboxes[service]:
            _, producer, number = id_.rsplit("/", 2)
            if int(number) == last.get(producer):
                yield "event-doubled", f"felt {id_} twice in {service}"
            elif int(number) < last.get(producer, 0):
                yield "event-order", f"felt {id_} in {service} after number {last[producer]}"
            last[producer] = int(number)
            if id_ not in known:
                yield "event-lost", f"felt {id_} in {service}, which is not in the log"
    for event in traces.events:
        for service in _unmoved(event, traces, inboxes):
            yield "effect-lost", f"told {event['type']}, and {service} has not done what follows"


def _unmoved(event: Document, traces: Traces, inboxes: Mapping[str, list[str]]) -> Iterator[str]:
    """The services on which an event should have had an effect and had none."""
    order, kind = traces.order, event["type"]
    reservation = traces.reservation["state"] if traces.reservation else None
    payment = traces.payment["state"] if traces.payment else None
    if kind == "order-placed" and reservation is None:
        yield "inventory"
    if (
        kind == "order-confirmed"
        and event["_id"] not in inboxes["inventory"]
        and reservation not in ("taken", "released")
    ):
        yield "inventory"
    if kind == "order-cancelled" and event["_id"] not in inboxes["inventory"]:
        yield "inventory"
    if kind == "order-cancelled" and event["_id"] not in inboxes["payment"]:
        yield "payment"
    if kind == "payment-requested" and payment is None:
        yield "payment"
    if (
        kind in ("stock-reserved", "stock-refused")
        and order["status"] == "pending"
        and event["revision"] == order["revision"]
    ):
        yield "order"
    if kind in ("payment-captured", "payment-declined") and order["status"] == "reserved":
        yield "order"


def _told(traces: Traces) -> Found:
    for event in traces.events:
        if event["type"] not in TOLD_OF:
            continue
        found = [one for one in traces.notifications if one["_id"] == event["_id"]]
        if len(found) > 1:
            yield "told-twice", f"has {len(found)} notifications of {event['_id']}"
        if not found or found[0]["state"] == "failed":
            yield "untold", f"told {event['type']}, and nobody was told of it"


def _history(traces: Traces) -> Found:
    history = traces.order["history"]
    ranks = [RANK.get(status, -1) for status in history]
    if ranks != sorted(set(ranks)):
        yield "history", f"was {' → '.join(history)}"
    last = [status for status in history if status != "refunded"][-1:]
    if last != [traces.order["status"]]:
        yield "history", f"is {traces.order['status']}, and its history ends with {''.join(last) or 'nothing'}"
