"""The event log: the outbox itself, followed by change stream.

A position is a resume token's `_data`; tokens compare as text.  A position that the oplog has lost is a GapError, and
then the outbox is read by time.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

import pymongo
from pymongo.errors import OperationFailure

from ...domain.events import Event
from ...ports import GapError, Place
from . import documents
from .client import Database, Document, errors_of_the_store

HISTORY_LOST = frozenset({136, 280, 286})
"""CappedPositionLost, ChangeStreamFatalError, ChangeStreamHistoryLost (MongoDB 6.0)."""
TOKEN = re.compile(r"[0-9A-Fa-f]+")


class MongoLog:
    """See `ports.EventLog`."""

    def __init__(self, database: Database, *, seconds: float = 10.0) -> None:
        self._events = database["events"]
        self._seconds = seconds

    async def ends(self, places: Sequence[Place]) -> dict[Place, str]:
        """See `ports.EventLog`: all places are in one stream."""
        with errors_of_the_store():
            async with await self._events.watch([], max_await_time_ms=100) as stream:
                while True:
                    await stream.try_next()
                    if stream.resume_token:
                        return dict.fromkeys(places, str(stream.resume_token["_data"]))

    async def follow(self, positions: Mapping[Place, str]) -> AsyncIterator[tuple[Event | None, str]]:
        """See `ports.EventLog`."""
        if foreign := [place for place, position in positions.items() if not TOKEN.fullmatch(position)]:
            raise GapError("the positions are of another log", foreign, from_beginning=True)
        position = min(positions.values())
        pipeline = [{"$match": {"operationType": "insert"}}]
        try:
            with errors_of_the_store():
                async with await self._events.watch(
                    pipeline, resume_after={"_data": position}, max_await_time_ms=1000
                ) as stream:
                    while True:
                        change = await stream.try_next()
                        if change is not None:
                            yield documents.event_of(change["fullDocument"]), change["_id"]["_data"]
                        elif stream.resume_token:
                            yield None, stream.resume_token["_data"]
        except OperationFailure as error:
            if error.code in HISTORY_LOST:
                raise GapError(f"code {error.code}") from None
            raise

    def done(self, place: Place, position: str) -> None:
        """See `ports.EventLog`: nobody is told."""

    async def read(
        self, region: str, lane: int | None, since: datetime | None, limit: int, after: str = ""
    ) -> list[Event]:
        """See `ports.EventLog`."""
        query: Document = {"region": region}
        if lane is not None:
            query["lane"] = lane
        if since is not None:
            query["$or"] = [{"at": {"$gt": since}}, {"at": since, "_id": {"$gt": after}}]
            query["at"] = {"$gte": since}
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            cursor = self._events.find(query).sort([("at", 1), ("_id", 1)]).limit(limit)
            return [documents.event_of(document) async for document in cursor]

    async def of_key(self, region: str, key: str) -> list[Event]:
        """See `ports.EventLog`."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            cursor = self._events.find({"region": region, "key": key}).sort([("at", 1), ("_id", 1)])
            return [documents.event_of(document) async for document in cursor]
