"""One transaction on the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import InsertOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from ...domain.events import Aggregate, Event
from ...domain.order import Order
from ...domain.stock import Stock
from ...ports import ConflictError, FencedError, KeyInUseError, Lane, StoredAnswer
from ..identity_map import IdentityMap
from . import documents
from .client import DUPLICATE_KEY, WRITE_CONFLICT, Database, Document


async def stocks_of(
    database: Database, products: Sequence[str], session: AsyncClientSession | None = None
) -> dict[str, Stock]:
    """Stock by product, and the first stock (version 0) of products that have none yet."""
    found = {
        document["_id"]: documents.aggregate_of(Stock, document)
        async for document in database["stock"].find({"_id": {"$in": list(products)}}, session=session)
    }
    missing = [documents.stored_id(product) for product in products if product not in found]
    if missing:
        first = database["products"].find({"_id": {"$in": missing}}, {"stock": 1}, session=session)
        async for document in first:
            name = documents.seen_id(document["_id"])
            found[name] = Stock(name, "", available=document["stock"])
    return found


LATER_SECONDS = 1.0
_LATER: set[asyncio.Task[None]] = set()


class MongoUnit(IdentityMap):
    """See `ports.Unit`."""

    def __init__(self, database: Database, session: AsyncClientSession, lanes: int, lane: Lane | None) -> None:
        self._database, self._session, self._lanes, self._lane = database, session, lanes, lane
        super().__init__()
        self._events: list[Document] = []
        self.now = datetime.now(UTC)

    async def fence(self, position: str | None, seconds: float) -> None:
        """Hold the lane to the end of the transaction: whoever takes it meanwhile conflicts with this document.

        Stores the position and reads the store's time.  FencedError when the lane has a later epoch.
        """
        assert self._lane
        lane = self._lane
        change: Document = {"until": {"$add": ["$$NOW", int(seconds * 1000)]}, "now": "$$NOW"}
        if position is not None:
            change |= {"position": {"$literal": position}, "position_at": "$$NOW"}
        found = await self._database["lanes"].find_one_and_update(
            {"region": lane.region, "_id": f"{lane.service}/{lane.name}", "epoch": lane.epoch},
            [{"$set": change}],
            projection={"now": 1},
            return_document=True,
            session=self._session,
        )
        if found is None:
            raise FencedError(f"{lane.service} {lane.name} has a later epoch than {lane.epoch}")
        self.now = found["now"]

    async def _read(self, kind: type[Aggregate], region: str, ids: Sequence[str]) -> list[Aggregate]:
        found = self._database[documents.COLLECTIONS[kind]].find(
            documents.keys_of(kind, region, ids), session=self._session
        )
        return [documents.aggregate_of(kind, document) async for document in found]

    async def _read_stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        return await stocks_of(self._database, products, self._session)

    async def _write(self, kind: type[Aggregate]) -> None:
        """Write what was put of one kind, in one go."""
        operations: list[InsertOne[Document] | UpdateOne] = []
        for aggregate, seen in self._put_of(kind):
            key, fields = documents.key_of(kind, aggregate.region, aggregate.id), documents.fields_of(aggregate)
            if seen == 0:
                operations.append(InsertOne(key | fields))
                continue
            match: Document = {"version": seen}
            if kind is Order and seen == documents.FOREIGN_VERSION:
                match = {"version": {"$in": [seen, None]}}
            operations.append(UpdateOne(key | match, {"$set": fields}))
        if operations:
            collection = self._database[documents.COLLECTIONS[kind]]
            done = await collection.bulk_write(operations, session=self._session)
            if done.matched_count + done.inserted_count != len(operations):
                raise ConflictError(f"a {kind.__name__} has another version")

    def tell(self, events: Sequence[Event], trace: str) -> None:
        """See `ports.Unit`."""
        for event in events:
            document = documents.document_of(event, self._lanes, datetime.now(UTC))
            self._events.append(document | {"trace": event.trace or trace})

    async def flush(self, *, events: bool = True) -> None:
        """Write what was put and told; once, at the end of the transaction."""
        for kind in documents.COLLECTIONS:
            await self._write(kind)
        if self._events and events:
            await self._database["events"].insert_many(self._events, session=self._session)

    def flush_later(self) -> None:
        """The negative control's mistake: what ends this process before then loses the events."""
        events = self._events

        async def write() -> None:
            await asyncio.sleep(LATER_SECONDS)
            if events:
                await self._database["events"].insert_many(events)

        task = asyncio.create_task(write())
        _LATER.add(task)
        task.add_done_callback(_LATER.discard)

    async def store_answer(self, region: str, key: str, answer: StoredAnswer) -> None:
        """See `ports.Unit`."""
        document: dict[str, Any] = {"_id": key, "region": region, "at": datetime.now(UTC)}
        document |= {"fingerprint": answer.fingerprint, "status": answer.status, "body": answer.body}
        document["headers"] = dict(answer.headers)
        try:
            await self._database["idempotency_keys"].insert_one(document, session=self._session)
        except OperationFailure as error:
            if error.code in (WRITE_CONFLICT, DUPLICATE_KEY):
                raise KeyInUseError("the first request with this key is being handled") from None
            raise

    async def park(self, lane: Lane, event: Event, reason: str) -> None:
        """See `ports.Unit`."""
        key = {"region": event.region, "key": event.key}
        behind = await self._database["parked_events"].count_documents(
            key | {"service": lane.service}, session=self._session
        )
        # One that is there stays where it is: a replay comes by it, and so does who reads the outbox after a gap.
        key["_id"] = f"{lane.service}|{event.id}"
        document = {
            "service": lane.service,
            "lane": lane.number,
            "place": behind,
            "reason": reason[:500],
            "again": False,
            "at": self.now,
            "event": documents.document_of(event, self._lanes, event.at or self.now),
        }
        await self._database["parked_events"].update_one(
            key, {"$setOnInsert": document}, upsert=True, session=self._session
        )

    async def unpark(self, lane: Lane, event: Event) -> None:
        """See `ports.Unit`."""
        await self._database["parked_events"].delete_one(
            {"region": event.region, "key": event.key, "_id": f"{lane.service}|{event.id}"}, session=self._session
        )
