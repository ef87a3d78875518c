"""The store of a service on a sharded cluster.

Every read and write names its shard key, but for what is about all documents (counts, a refill of the cache).
Transactions read a snapshot of a majority and are retried as drivers do, within a limit.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pymongo
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from ...domain.identifiers import Customer
from ...domain.order import Order
from ...domain.payment import WORKING, Payment
from ...domain.stock import HELD, Reservation, Stock
from ...ports import AggregateT, ConflictError, KeyInUseError, Lane, Parked, StoredAnswer, StoreError, T, Unit
from . import documents
from .client import Client, Database, Document, errors_of_the_store, is_conflict, is_passing, said
from .mark import StoreMark
from .presence import Presence
from .unit import MongoUnit, stocks_of

ATTEMPTS = 5
"""How often a transaction that conflicts is begun anew before the caller hears of it."""
ABORT_SECONDS = 2.0
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def may_try_again(error: Exception) -> bool:
    """Whether a transaction that ended so certainly did nothing, and may end otherwise the next time."""
    if isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError"):
        return True
    if isinstance(error, PyMongoError):
        return is_conflict(error)
    return isinstance(error, ConflictError) and not isinstance(error, KeyInUseError)


class MongoStore:
    """See `ports.Store`.  Times in seconds."""

    def __init__(
        self,
        client: Client,
        database: Database,
        lanes: int,
        *,
        seconds: float = 5.0,
        lease_seconds: float = 10.0,
        presence: Presence | None = None,
        mark: StoreMark | None = None,
        events_later: bool = False,
    ) -> None:
        """`presence` writes down in which sessions transactions run, so that others can end them after a death.

        `mark` says whether the store was moved elsewhere; None: nobody asks.

        `events_later` is a negative control: events are written a moment after the transaction, by themselves.
        """
        self._events_later, self._presence, self._mark = events_later, presence, mark
        self._client, self._database, self._lanes = client, database, lanes
        self._seconds, self._lease_seconds = seconds, lease_seconds

    async def transact(
        self, work: Callable[[Unit], Awaitable[T]], lane: Lane | None = None, position: str | None = None
    ) -> T:
        """See `ports.Store`."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            if lane is None:  # who holds a lane ends what he has in hand, and gives it back
                await self._must_take_writes()
            async with self._client.start_session() as session:
                if self._presence:
                    await self._presence.cover(session)
                for attempt in range(1, ATTEMPTS + 1):
                    try:
                        return await self._once(session, work, lane, position)
                    except (ConflictError, PyMongoError) as error:
                        if attempt == ATTEMPTS or not may_try_again(error):
                            raise
                        await asyncio.sleep(random.uniform(0, 0.01) * 2**attempt)  # noqa: S311
        raise AssertionError

    async def _once(
        self, session: Any, work: Callable[[Unit], Awaitable[T]], lane: Lane | None, position: str | None
    ) -> T:
        unit = MongoUnit(self._database, session, self._lanes, lane)
        await session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority"))
        try:
            if lane is not None:
                await unit.fence(position, self._lease_seconds)
            result = await work(unit)
            await unit.flush(events=not self._events_later)
        except BaseException:
            if session.in_transaction:
                await _abort(session)
            raise
        while True:
            try:
                await session.commit_transaction()
                if self._events_later:
                    unit.flush_later()
                return result
            except PyMongoError as error:
                # Within pymongo.timeout, which ends this with an error that is not of this kind.
                if not error.has_error_label("UnknownTransactionCommitResult") or getattr(error, "timeout", False):
                    raise

    async def _must_take_writes(self) -> None:
        if self._mark:
            await self._mark.must_take_writes()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            if self._mark:
                await self._mark.must_be_in_use()
            yield

    async def get(self, kind: type[AggregateT], region: str, id_: str) -> AggregateT | None:
        """See `ports.Store`."""
        async with self._reading():
            collection = self._database[documents.COLLECTIONS[kind]]
            document = await collection.find_one(documents.key_of(kind, region, id_))
        return documents.aggregate_of(kind, document) if document else None

    async def get_many(self, kind: type[AggregateT], region: str, ids: Sequence[str]) -> dict[str, AggregateT]:
        """See `ports.Store`."""
        if not ids:
            return {}
        async with self._reading():
            cursor = self._database[documents.COLLECTIONS[kind]].find(documents.keys_of(kind, region, ids))
            found = [documents.aggregate_of(kind, document) async for document in cursor]
        return {aggregate.id: aggregate for aggregate in found}

    async def stored_answer(self, region: str, key: str) -> StoredAnswer | None:
        """See `ports.Store`."""
        async with self._reading():
            found = await self._database["idempotency_keys"].find_one({"region": region, "_id": key})
        return StoredAnswer(found["fingerprint"], found["status"], found["body"], found["headers"]) if found else None

    async def answered(self, region: str, keys: Sequence[str]) -> set[str]:
        """See `ports.Store`."""
        async with self._reading():
            cursor = self._database["idempotency_keys"].find({"region": region, "_id": {"$in": list(keys)}}, {"_id": 1})
            return {document["_id"] async for document in cursor}

    async def stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        """See `ports.Store`."""
        async with self._reading():
            return await stocks_of(self._database, products)

    async def all_stocks(self, *, low_only: bool = False, limit: int | None = None) -> AsyncIterator[Stock]:
        """See `ports.Store`."""
        with errors_of_the_store():
            if self._mark:
                await self._mark.must_be_in_use()
            cursor = self._database["stock"].find({"low": True} if low_only else {}).limit(limit or 0)
            async for document in cursor:
                yield documents.aggregate_of(Stock, document)

    async def follow_stocks(self) -> AsyncIterator[Stock | None]:
        """See `ports.Store`."""
        with errors_of_the_store():
            # An update says what it set, and a change of stock sets all of it.
            pipeline = [{"$match": {"operationType": {"$in": ["insert", "update", "replace"]}}}]
            async with await self._database["stock"].watch(pipeline, max_await_time_ms=1000) as stream:
                yield None
                while True:
                    change = await stream.try_next()
                    if change is None:
                        yield None
                        continue
                    fields = change.get("fullDocument") or change["updateDescription"]["updatedFields"]
                    if {"version", "available"} <= fields.keys():
                        name = change["documentKey"]["_id"]
                        yield Stock(
                            name,
                            "",
                            version=fields["version"],
                            available=fields["available"],
                            low=fields.get("low", False),
                        )

    async def orders_of(
        self, region: str, customer: str, before: tuple[datetime, str] | None, limit: int
    ) -> list[Order]:
        """See `ports.Store`."""
        query: Document = {"region": region, "user_id": documents.stored_id(Customer.parse(customer).user)}
        if before:
            at, order = before
            older = {"created_at": at, "_id": {"$lt": documents.stored_id(order)}}
            query["$or"] = [{"created_at": {"$lt": at}}, older]
        async with self._reading():
            cursor = self._database["orders"].find(query).sort([("created_at", -1), ("_id", -1)]).limit(limit)
            return [documents.aggregate_of(Order, document) async for document in cursor]

    async def count_by_status(self) -> dict[str, int]:
        """See `ports.Store`."""
        async with self._reading():
            group = [{"$group": {"_id": "$status", "orders": {"$sum": 1}}}]
            return {d["_id"]: d["orders"] async for d in await self._database["orders"].aggregate(group)}

    async def products(self, ids: Sequence[str]) -> dict[str, Document]:
        """See `ports.Store`."""
        query = {"_id": {"$in": [documents.stored_id(id_) for id_ in ids]}}
        async with self._reading():
            cursor = self._database["products"].find(query, {"name": 1, "price_cents": 1})
            found = [document async for document in cursor]
        return {
            name: {"id": name, "name": d["name"], "price_cents": d["price_cents"]}
            for d in found
            for name in (documents.seen_id(d["_id"]),)
        }

    async def customer(self, region: str, user: str) -> Document | None:
        """See `ports.Store`."""
        async with self._reading():
            return await self._database["users"].find_one(
                {"region": region, "_id": documents.stored_id(user)}, {"name": 1, "email": 1}
            )

    async def due(self, kind: type[AggregateT], lane: Lane, limit: int) -> list[AggregateT]:
        """See `ports.Store`."""
        query: Document = {"region": lane.region, "lane": lane.number}
        if kind is Reservation:
            # What is null is less than any time to $expr.
            query |= {"state": HELD, "until": {"$gt": LONG_AGO}, "$expr": {"$lte": ["$until", "$$NOW"]}}
        else:
            query |= {"due_at": {"$gt": LONG_AGO}, "$expr": {"$lte": ["$due_at", "$$NOW"]}}
        if kind is Payment:
            query["state"] = {"$in": sorted(WORKING)}
        async with self._reading():
            cursor = self._database[documents.COLLECTIONS[kind]].find(query).limit(limit)
            return [documents.aggregate_of(kind, document) async for document in cursor]

    async def parked(self, lane: Lane, limit: int = 1000) -> list[Parked]:
        """See `ports.Store`."""
        query = {"region": lane.region, "service": lane.service, "lane": lane.number}
        async with self._reading():
            cursor = self._database["parked_events"].find(query).sort([("key", 1), ("place", 1), ("_id", 1)])
            return [
                Parked(documents.event_of(d["event"]), d["reason"], d["again"], d["place"])
                async for d in cursor.limit(limit)
            ]

    async def send_again(self, service: str, regions: Sequence[str], key: str | None) -> int:
        """See `ports.Store`."""
        asked = 0
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            await self._must_take_writes()
            for region in regions:
                query: Document = {"region": region, "service": service} | ({"key": key} if key else {})
                done = await self._database["parked_events"].update_many(query, {"$set": {"again": True}})
                asked += done.matched_count
        return asked

    async def ping(self) -> None:
        """See `ports.Store`: one read through the router, because a router that answers may have no shard."""
        try:
            with pymongo.timeout(min(2.0, self._seconds)):
                if self._mark:
                    await self._mark.must_be_in_use()
                await self._database["lanes"].find_one({"region": "", "_id": "ping"})
        except OperationFailure as error:
            if is_passing(error):
                raise StoreError(said(error)) from None
            if error.code == 13:  # the catalogue has no lanes: being refused is an answer
                return
            raise StoreError(said(error)) from None
        except PyMongoError as error:
            raise StoreError(said(error)) from None


async def _abort(session: AsyncClientSession) -> None:
    """Have the server give the locks back now.

    In a context of its own, because the time of the transaction may be over, and then nothing more would be sent within
    it: the server ends such a transaction by itself, but only 60 to 90 s later (`transactionLifetimeLimitSeconds`).
    """

    async def abort() -> None:
        with suppress(PyMongoError), pymongo.timeout(ABORT_SECONDS):
            await session.abort_transaction()

    await asyncio.create_task(abort(), context=contextvars.Context())
