"""The store in a cluster as a move reads it: held still, read whole, and marked as left.

Each service's own user reads and frees what is that service's.  No aggregate, event or answer is ever changed here:
until it is left, the store is as its services wrote it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, Self

import pymongo
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import OperationFailure

from ...domain.events import Aggregate, Event
from ...domain.notification import Notification
from ...domain.order import Order
from ...domain.payment import Payment
from ...domain.stock import Reservation, Stock
from ...ports import KeptAnswer, KeptParked, Lane, Parked, StoredAnswer, StoreError, T
from ...settings import MongoDB
from . import client, documents, mark
from .client import Database, Document
from .log import MongoLog
from .presence import Presence

READERS: Mapping[type[Aggregate], str] = {
    Order: "order",
    Stock: "inventory",
    Reservation: "inventory",
    Payment: "payment",
    Notification: "notification",
}
"""Which service's user reads which aggregates."""
SERVICES = tuple(dict.fromkeys(READERS.values()))
ANY = "order"
"""Whose user reads what all services have: events, answers, parked events and lanes."""
HOLDER = "the move"
OF_A_MOVE = {"$regex": f"^{HOLDER}/"}
FOR_EVER = datetime(2999, 1, 1, tzinfo=UTC)
BATCH = 500
SECONDS = 60.0
"""How long the store may take for an answer."""
CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.2


class LeavingStore:
    """The store of a shop that is to be moved.  Methods raise StoreError when it does not answer."""

    def __init__(self, options: Mapping[str, MongoDB]) -> None:
        """`options` of each of SERVICES, with its own user; of ANY alone where nothing is to be read any more."""
        self._options, self._token = options[ANY], secrets.token_hex(4)
        self._holder = f"{HOLDER}/{self._token}"
        self._clients = {s: client.connect(one.uri, CONNECT_SECONDS, "move") for s, one in options.items()}
        self._databases = {s: client.database(c, options[s].database) for s, c in self._clients.items()}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for one in self._clients.values():
            await one.close()

    @property
    def _any(self) -> Database:
        return self._databases[ANY]

    async def state(self) -> mark.State | None:
        """What the mark says."""
        return await mark.StoreMark(self._any, self._options.regions).state()

    async def hold(self, longest_seconds: float, wait_seconds: float, say: Callable[[str], None]) -> None:
        """Have nobody write any more: the mark, the end of what was begun, every lane, and the end of old sessions.

        `longest_seconds` is how long a request may take, at most.  Done again it goes on where it was.  StoreError when
        an instance does not give its lanes back within `wait_seconds`.
        """
        with client.errors_of_the_store(), pymongo.timeout(longest_seconds + wait_seconds + SECONDS):
            await mark.write(self._any, self._options.regions, mark.moving(self._token))
            begun = time.monotonic()
            held = await self._lanes_that_are_held()
            while held or time.monotonic() < begun + mark.FRESH_SECONDS + longest_seconds:
                if held and time.monotonic() > begun + wait_seconds:
                    raise StoreError(
                        f"waited {wait_seconds:.0f} s for {', '.join(held)} to be given back: does an instance of an "
                        "earlier version run, which knows of no move?"
                    )
                say(f"requests in hand end; lanes that instances hold: {len(held)}")
                await asyncio.sleep(POLL_SECONDS)
                held = await self._lanes_that_are_held()
            # What an instance that hangs had begun without a lane, it can not commit after this.
            for service, database in self._databases.items():
                for region in self._options.regions:
                    living = {"region": region, "service": service, "kind": "instance"}
                    async for instance in database["lanes"].find(living):
                        await self._end(service, instance)

    async def _lanes_that_are_held(self) -> list[str]:
        """Take every lane that is free, or whose holder was not heard of; the names of the others."""
        held: list[str] = []
        for region in self._options.regions:
            lanes: Document = {"region": region, "kind": "lane", "service": {"$in": list(SERVICES)}}
            lanes["owner"] = {"$ne": self._holder}
            async for lane in self._any["lanes"].find(lanes):
                # Or another move has it, which is over: two of them never run at once.
                free = {"$or": [{"owner": None}, {"owner": OF_A_MOVE}, {"$expr": {"$lte": ["$until", "$$NOW"]}}]}
                key = {"region": region, "_id": lane["_id"], "epoch": lane["epoch"]}
                taken: Document = {"$set": {"owner": self._holder, "until": FOR_EVER}, "$inc": {"epoch": 1}}
                try:
                    done = await self._any["lanes"].update_one(key | free, taken)
                except OperationFailure as error:
                    if not client.is_passing(error):
                        raise
                    held.append(lane["_id"])  # a transaction has it
                else:
                    held += [] if done.modified_count else [lane["_id"]]
        return held

    async def _end(self, service: str, instance: Document) -> None:
        name = instance["_id"].partition("@")[2]
        presence = Presence(self._databases[service], service, name, self._options.regions[0], CONNECT_SECONDS)
        if not await presence.end_sessions(instance):
            raise StoreError(f"what {instance['_id']} had begun could not be ended")

    async def release(self, *, whose: Literal["own", "any"] = "own") -> None:
        """Let the services go on here, as if nothing had been: only for a store that was not moved.

        What `hold` of this move took, or of any.
        """
        own = whose == "own"
        with _asked():
            for region in self._options.regions:
                await self._any["lanes"].update_many(
                    {"region": region, "kind": "lane", "owner": self._holder if own else OF_A_MOVE},
                    {"$set": {"owner": None, "until": None}, "$inc": {"epoch": 1}},
                )
            await mark.remove(self._any, self._options.regions, self._token if own else None)

    async def leave(self) -> None:
        """Mark the store as left: no instance starts on it, reads it or writes it any more."""
        with _asked():
            await mark.write(self._any, self._options.regions, mark.MOVED)

    async def aggregates(self, kind: type[Aggregate]) -> AsyncIterator[list[Aggregate]]:
        """All of a kind, in batches: those that others wrote, too, as the shop sees them."""
        collection = self._databases[READERS[kind]][documents.COLLECTIONS[kind]]
        async for batch in _batches(collection.find({}), lambda d: _aggregate_of(kind, d)):
            yield batch

    async def own_orders(self) -> int:
        """How many orders the shop has written or changed, without those of others, who may write on."""
        with _asked():
            return await self._any[documents.COLLECTIONS[Order]].count_documents({"told": {"$gt": 0}})

    async def counts(self) -> dict[str, int]:
        """How much of each there is: of aggregates by their collections, and of what all services have."""
        with _asked():
            found = {}
            for kind, name in documents.COLLECTIONS.items():
                found[name] = await self._databases[READERS[kind]][name].count_documents({})
            for name in ("events", "parked_events", "idempotency_keys"):
                found[name] = await self._any[name].count_documents({})
        return found

    async def events(self, region: str, lane: int) -> AsyncIterator[list[Event]]:
        """Events of a place, by time; see `in_order`."""
        log, since, after = MongoLog(self._any, seconds=SECONDS), None, ""
        while page := await log.read(region, lane, since, BATCH, after):
            yield page
            since, after = page[-1].at, page[-1].id

    async def answers(self) -> AsyncIterator[list[KeptAnswer]]:
        """Answers by their idempotency keys."""
        async for batch in _batches(self._any["idempotency_keys"].find({}), answer_of):
            yield batch

    async def parked(self) -> AsyncIterator[list[KeptParked]]:
        """Parked events of all services."""
        async for batch in _batches(self._any["parked_events"].find({}), parked_of):
            yield batch

    async def lanes(self) -> list[Lane]:
        """Lanes of all services, each without a position, which means nothing in another log: only with its time."""
        with _asked():
            found = self._any["lanes"].find({"kind": "lane", "service": {"$in": list(SERVICES)}})
            return [lane_of(document) async for document in found]


@contextmanager
def _asked() -> Iterator[None]:
    with client.errors_of_the_store(), pymongo.timeout(SECONDS):
        yield


async def _batches(cursor: AsyncCursor[Document], made: Callable[[Document], T]) -> AsyncIterator[list[T]]:
    while True:
        with _asked():
            batch = [made(document) for document in await cursor.to_list(BATCH)]
        if not batch:
            return
        yield batch


def _aggregate_of(kind: type[Aggregate], document: Document) -> Aggregate:
    try:
        return documents.aggregate_of(kind, document)
    except (KeyError, TypeError) as error:
        what = documents.seen_id(document["_id"])
        raise StoreError(f"{documents.COLLECTIONS[kind]} {what} is nothing that the shop can read: {error}") from None


def answer_of(document: Document) -> KeptAnswer:
    """The answer in a document, with its key."""
    answer = StoredAnswer(document["fingerprint"], document["status"], document["body"], document["headers"])
    return KeptAnswer(document["region"], document["_id"], document["at"], answer)


def parked_of(document: Document) -> KeptParked:
    """The parked event in a document."""
    event = documents.event_of(document["event"])
    parked = Parked(event, document["reason"], document["again"], document["place"])
    return KeptParked(document["service"], document["lane"], document["at"], parked)


def lane_of(document: Document) -> Lane:
    """The lane in a document, as a store with another log begins it: from before the time of its position."""
    return Lane(
        document["service"],
        document["region"],
        document["lane"],
        document["epoch"],
        None,
        document["position_at"] if document["position"] is not None else None,
        document.get("replay_from"),
    )
