"""What the services need of the world, as they ask for it: store, lanes, event log, cache, provider, channels.

Adapters fill these; `tests/integration/shop/store` holds every store to the same claims.  No port names a driver.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from .domain.cart import CartLine
from .domain.events import Aggregate, Event
from .domain.identifiers import Customer
from .domain.notification import Notification
from .domain.order import Order
from .domain.payment import Answer, Payment
from .domain.stock import Reservation, Stock

Document = dict[str, Any]
Place = tuple[str, int]
"""Which sequence of events: a region and a number, the same for every service."""
T = TypeVar("T")
AggregateT = TypeVar("AggregateT", bound=Aggregate)

KINDS: tuple[type[Aggregate], ...] = (Order, Stock, Reservation, Payment, Notification)


class StoreError(Exception):
    """The store did not do it, and may do it later: it is away, or it was too busy."""


class AwayError(StoreError):
    """It was not asked, because it did not answer just now, or it did not answer within its time."""


class ConflictError(StoreError):
    """Somebody else changed the same thing at the same time; nothing was written."""


class KeyInUseError(ConflictError):
    """Another request with the same idempotency key is being handled."""


class FencedError(Exception):
    """The lane belongs to another instance by now: nothing was written, and nothing must be."""


class GapError(Exception):
    """The log does not reach back to a position any more, or never had it: read the outbox."""

    def __init__(self, message: str, places: Sequence[Place] | None = None, *, from_beginning: bool = False) -> None:
        """Of these (None: of all); `from_beginning`: the time of the position does not say from when on."""
        super().__init__(message)
        self.places, self.from_beginning = places, from_beginning


@dataclass(frozen=True)
class Lane:
    """One sequence of a service's events, and the right to handle it: whoever holds the latest `epoch`."""

    service: str
    region: str
    number: int
    epoch: int = 0
    position: str | None = None
    """How far in the log; None: from the beginning of the outbox."""
    position_at: datetime | None = None
    """When the position was stored, in the store's time."""
    replay_from: datetime | None = None
    """Events of this time and later are to be handled once more, beside what comes new."""

    @property
    def place(self) -> Place:
        """Which of the service's."""
        return self.region, self.number

    @property
    def name(self) -> str:
        """As people read it: REGION/NUMBER."""
        return f"{self.region}/{self.number}"


@dataclass(frozen=True)
class StoredAnswer:
    """The answer to a request with an Idempotency-Key, as it was given the first time."""

    fingerprint: str
    status: int
    body: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Parked:
    """An event that could not be handled, or that waits behind one of the same key."""

    event: Event
    reason: str
    again: bool
    order: int
    """Its place among the parked events of its key."""


@dataclass(frozen=True)
class KeptAnswer:
    """A stored answer as a move takes it over: with its key, and when it was stored."""

    region: str
    key: str
    at: datetime
    answer: StoredAnswer


@dataclass(frozen=True)
class KeptParked:
    """A parked event as a move takes it over: whose it is, its lane, and when it was parked."""

    service: str
    lane: int
    at: datetime
    parked: Parked


class Unit(Protocol):
    """One transaction: all of it happens, or nothing.  It is run again from its beginning after a conflict."""

    now: datetime
    """The store's time where a lane is held, else this instance's."""

    async def get(self, kind: type[AggregateT], region: str, id_: str) -> AggregateT | None:
        """The aggregate as this transaction sees it: the same object each time."""

    async def fetch(self, kind: type[Aggregate], region: str, ids: Sequence[str]) -> None:
        """Read these at once, because they will be asked for."""

    async def get_stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        """Stock by product, a product's first stock where there is none yet.

        Products that do not exist are left out.
        """

    async def put(self, aggregate: Aggregate, seen: int) -> None:
        """Save an aggregate whose version was `seen` when it was read (0: it is new), at the transaction's end.

        The transaction ends with ConflictError if the store has another version.
        """

    def tell(self, events: Sequence[Event], trace: str) -> None:
        """Write events with the transaction."""

    async def store_answer(self, region: str, key: str, answer: StoredAnswer) -> None:
        """Store an answer under an idempotency key; KeyInUseError if somebody else has done or is doing so."""

    async def park(self, lane: Lane, event: Event, reason: str) -> None:
        """Put the event aside with the reason it could not be handled; one that is aside stays where it is."""

    async def unpark(self, lane: Lane, event: Event) -> None:
        """Take a parked event away: its effect is in this transaction."""


class Store(Protocol):
    """The store of one service."""

    async def transact(
        self, work: Callable[[Unit], Awaitable[T]], lane: Lane | None = None, position: str | None = None
    ) -> T:
        """Run `work` in a transaction and commit it.

        With a lane: FencedError, and nothing written, unless its epoch is the latest; `position` is stored with it.
        StoreError when the store does not answer in time.
        """

    async def get(self, kind: type[AggregateT], region: str, id_: str) -> AggregateT | None:
        """Read outside any transaction, from the primary."""

    async def get_many(self, kind: type[AggregateT], region: str, ids: Sequence[str]) -> dict[str, AggregateT]:
        """Several of a region by id, outside any transaction."""

    async def stored_answer(self, region: str, key: str) -> StoredAnswer | None:
        """The answer stored under an idempotency key."""

    async def answered(self, region: str, keys: Sequence[str]) -> set[str]:
        """Those of these keys that an answer is stored under."""

    async def stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        """Stock of products as `Unit.get_stocks`."""

    async def all_stocks(self, *, low_only: bool = False, limit: int | None = None) -> AsyncIterator[Stock]:
        """Every stock there is."""
        yield Stock("", "")

    async def follow_stocks(self) -> AsyncIterator[Stock | None]:
        """Changes of stock from now on; None where nothing happened for a while, so that the caller can stop."""
        yield None

    async def orders_of(
        self, region: str, customer: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[Order]:
        """Orders of a customer, newest first, after the one at `before` (its time and id)."""

    async def count_by_status(self) -> dict[str, int]:
        """Orders by status."""

    async def products(self, ids: Sequence[str]) -> dict[str, Document]:
        """Products by id: {"id", "name", "price_cents"}."""

    async def customer(self, region: str, user: str) -> Document | None:
        """{"name", "email"} of a customer."""

    async def due(self, kind: type[AggregateT], lane: Lane, limit: int) -> list[AggregateT]:
        """What of a lane waits for its time and has reached it, by the store's time."""

    async def parked(self, lane: Lane, limit: int = 1000) -> list[Parked]:
        """Parked events of a lane, by key and place."""

    async def send_again(self, service: str, regions: Sequence[str], key: str | None) -> int:
        """Ask for parked events (of one key) to be handled once more; returns how many."""

    async def ping(self) -> None:
        """StoreError unless the store answers."""


class CartStore(Protocol):
    """Carts by customer.  Each raises StoreError when it does not answer, and then a change may come to be seen or not.

    Two clients of one cart lose no line of each other (`domain.cart`): a line is put and removed by itself.
    """

    async def lines(self, customer: Customer) -> list[CartLine]:
        """The lines of a cart, by id; none for a customer who never had one."""

    async def put(self, customer: Customer, line: CartLine) -> None:
        """Put a line, in place of the one with its id."""

    async def remove(self, customer: Customer, lines: Sequence[str]) -> None:
        """Remove lines by id; those that are not there are no error."""


class Lanes(Protocol):
    """Who handles which lane."""

    async def beat(self) -> list[Lane]:
        """Say that this instance lives, renew its lanes, take free ones up to its share; returns what it holds."""

    async def give_back(self, lanes: Sequence[Lane]) -> None:
        """Let others have these at once."""

    async def leave(self) -> None:
        """Stop counting among the instances."""

    async def ask_replay(self, since: datetime) -> int:
        """Let whoever holds the lanes handle events since then once more; returns how many lanes there are."""

    async def replayed(self, lane: Lane) -> None:
        """The lane has done what was asked."""

    async def replaying(self) -> int:
        """How many lanes have not."""


class EventLog(Protocol):
    """Events, those of each place in the order in which they were committed.  Positions of a place compare as text."""

    async def ends(self, places: Sequence[Place]) -> dict[Place, str]:
        """The position of now in each."""

    def follow(self, positions: Mapping[Place, str]) -> AsyncIterator[tuple[Event | None, str]]:
        """Events of these places after their positions, each with its own.

        Events before, and of other places, may come, too.  (None, position) where nothing came: it is as good for each
        place as its own, unless that is later.  GapError.
        """

    def done(self, place: Place, position: str) -> None:
        """The effects up to `position` are stored.  Only said for others to see: it may be forgotten."""

    async def read(
        self, region: str, lane: int | None, since: datetime | None, limit: int, after: str = ""
    ) -> list[Event]:
        """Events of a region from the outbox by (time, id): those at `since` after event `after`, and later ones."""

    async def of_key(self, region: str, key: str) -> list[Event]:
        """Every event of an order, by time."""


class Publisher(Protocol):
    """Where the relay brings what the outbox has, for a log that is not the outbox itself."""

    async def is_there(self) -> bool:
        """Whether there is a log to publish to."""

    async def create(self) -> None:
        """Make an empty one; done when there is one."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Append these, those of a place in this order; StoreError unless all are there to stay."""


class Cache(Protocol):
    """A copy of stocks for fast reading.  It may vanish at any time; then it knows nothing, and that is no error."""

    async def stocks(self, products: Sequence[str]) -> dict[str, int]:
        """Pieces by product, for those it knows."""

    async def put(self, stocks: Sequence[Stock]) -> bool:
        """Store these unless it holds newer ones; False if it is away."""

    async def is_complete(self) -> bool:
        """Whether it was filled and has not been emptied since."""

    async def mark_complete(self) -> None:
        """It holds every stock from now on."""

    async def hint(self, channel: str, message: str) -> None:
        """Publish a message; whoever is not there misses it."""


@dataclass(frozen=True)
class ProviderAnswer:
    """What the payment provider said; `answer` as in `domain.payment.Answer`, None when it said nothing usable."""

    answer: Answer | None
    reference: str | None = None


class Provider(Protocol):
    """The payment provider.  Both may be called any number of times: it knows a repetition by its key."""

    async def capture(self, order: str, amount_cents: int, trace: str) -> ProviderAnswer:
        """Charge once."""

    async def refund(self, order: str, trace: str) -> ProviderAnswer:
        """Return the charge once, or never make it."""


class Channel(Protocol):
    """A way to tell somebody of something."""

    name: str

    async def send(self, notification: Notification, to: str | None) -> None:
        """Send it; raises any exception when it was not taken."""
