"""That an instance lives, and which sessions its transactions run in: one document beside the lanes.

The server keeps the locks of a transaction whose client was killed until `transactionLifetimeLimitSeconds` (60) are
over, and looks every half of that (MongoDB 6.0, "Production Considerations", "Runtime Limit").  So whoever notices that
an instance is dead ends the sessions that it had written down: killSessions aborts what they had begun and not yet
decided, on every shard, and any user may end his own.  What the instance had sent to be committed is decided by the
server and not touched.  This class never ends the sessions of an instance that is alive by the store's clock, but for
an earlier process of its own name.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from datetime import datetime, timedelta
from typing import Any

import pymongo
from bson import Binary
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError, PyMongoError

from ...ports import StoreError
from .client import Database, Document, said

SESSIONS = 256
"""How many of its latest sessions an instance writes down: as many as transactions of it can be open, and more."""
ENDED_BY_ITSELF = timedelta(seconds=120)
"""So long after a death the server has ended its transactions, whatever became of killSessions."""
logger = logging.getLogger(__name__)


class Presence:
    """One process of a service.  Methods raise what the driver raises; times are the store's."""

    def __init__(self, database: Database, service: str, instance: str, region: str, lease_seconds: float) -> None:
        """`region` is where the documents of all instances of the service lie."""
        self._database, self._collection = database, database["lanes"]
        self._service, self._instance = service, instance
        self._key: Document = {"region": region, "_id": f"{service}@{instance}"}
        self._milliseconds, self._seconds = int(lease_seconds * 1000), max(0.5, lease_seconds / 2)
        self.owner = f"{instance}/{secrets.token_hex(4)}"
        """Its name and which process of that name: the next one is somebody else, and may take over at once."""
        self._before: str | None = None
        self._entered = False
        self._lock = asyncio.Lock()
        self._sessions: deque[Binary] = deque(maxlen=SESSIONS)
        self._written: frozenset[Binary] = frozenset()

    @property
    def later(self) -> Document:
        """The end of a lease that begins now, as an expression of the store."""
        return {"$add": ["$$NOW", self._milliseconds]}

    def is_predecessor(self, owner: str) -> bool:
        """Whether `owner` is an earlier process of this name."""
        return owner != self.owner and owner.rpartition("/")[0] == self._instance

    async def beat(self) -> datetime:
        """Say that this instance lives; returns the store's time.

        StoreError when another process has begun under its name meanwhile.
        """
        async with self._lock:
            return await self._write()

    async def cover(self, session: AsyncClientSession) -> None:
        """Write the session down, before the first statement of a transaction in it; most often it is already."""
        id_ = Binary(bytes(session.session_id["id"]), 4)
        if id_ in self._written:
            return
        if id_ not in self._sessions:
            self._sessions.append(id_)
        async with self._lock:
            if id_ not in self._written:
                await self._write()

    async def _write(self) -> datetime:
        if not self._entered:
            await self._succeed()
        sessions = list(self._sessions)
        fields: Document = {"kind": "instance", "service": self._service, "owner": {"$literal": self.owner}}
        fields |= {"sessions": {"$literal": sessions}, "until": self.later, "now": "$$NOW"}
        known = self.owner if self._entered else self._before
        try:
            found = await self._collection.find_one_and_update(
                self._key | {"owner": known}, [{"$set": fields}], upsert=True, return_document=True
            )
        except DuplicateKeyError:
            raise StoreError(f"another process has begun under the name {self._instance}") from None
        self._entered, self._written = True, frozenset(sessions)
        assert found is not None
        now: datetime = found["now"]
        return now

    async def _succeed(self) -> None:
        """End what the process had begun that had this name before, and died without leaving."""
        document = await self._collection.find_one(self._key)
        self._before = document.get("owner") if document else None
        if document:
            await self.end_sessions(document)

    async def bury(self, document: Document, now: datetime) -> None:
        """End the transactions of an instance whose lease is over at `now`, and take its document away."""
        is_ended = await self.end_sessions(document)
        if is_ended or now - document["until"] > ENDED_BY_ITSELF:
            same = {"owner": document.get("owner"), "until": document["until"]}
            await self._collection.delete_one({"region": document["region"], "_id": document["_id"], **same})

    async def end_sessions(self, document: Document) -> bool:
        """End what an instance had begun; False where not all of it was ended, though what matters may have been."""
        sessions: list[Any] = document.get("sessions") or []
        if not sessions:
            return True
        try:
            # A member that is away may take mongos a minute, and the others have done it long before.
            with pymongo.timeout(self._seconds):
                await self._database.client.admin.command({"killSessions": [{"id": id_} for id_ in sessions]})
        except PyMongoError as error:
            why = {"dead": document["_id"], "reason": said(error)}
            logger.warning("not every transaction of a dead instance was ended", extra=why)
            return False
        ended = {"dead": document["_id"], "sessions": len(sessions)}
        logger.info("the transactions of a dead instance were ended", extra=ended)
        return True

    async def leave(self) -> None:
        """Stop counting among the instances."""
        await self._collection.delete_one(self._key | {"owner": self.owner})
