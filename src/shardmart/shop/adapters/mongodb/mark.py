"""Whether the store in this cluster is still the shop's: what says that it is being moved elsewhere, or was.

The mark is a lane of the service `store` in each region: schema and users of every shop allow it.  Whoever begins
something looks at it, at most once a second.  So a second after it was set, and the longest transaction later, nobody
writes here any more but who holds a lane; those give them back (`lanes`).  This module knows no other store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import pymongo
from pymongo.errors import PyMongoError

from ...ports import StoreError
from .client import Database, Document, is_passing, said

SERVICE = "store"
State = Literal["moving", "moved"]
MOVING: State = "moving"
"""Nothing new is written; what was begun ends; the truth is here."""
MOVED: State = "moved"
"""The truth is elsewhere: nothing is written and nothing is read."""
FRESH_SECONDS = 1.0
"""How old what an instance knows of the mark may be."""
LEFT = "the shop's store was moved from this cluster to PostgreSQL: start services with the settings that have `store`"


def key_of(region: str) -> Document:
    """The filter that finds a region's mark on the one shard that has it."""
    return {"region": region, "_id": f"{SERVICE}/{region}"}


class StoreMark:
    """The mark as one instance knows it.  Methods raise StoreError when no region's shard answers."""

    def __init__(self, database: Database, regions: Sequence[str]) -> None:
        self._collection, self._regions = database["lanes"], list(regions)
        self._known: State | None = None
        self._fresh_until = 0.0
        self._lock = asyncio.Lock()

    async def state(self) -> State | None:
        """What the mark says; None: the store is in use."""
        if time.monotonic() >= self._fresh_until:
            async with self._lock:
                if time.monotonic() >= self._fresh_until:
                    asked_at = time.monotonic()
                    self._known = await self._read()
                    self._fresh_until = asked_at + FRESH_SECONDS
        return self._known

    async def _read(self) -> State | None:
        """One region is enough: a move counts from when all of them have the mark."""
        reason = ""
        for region in list(self._regions):
            try:
                with pymongo.timeout(FRESH_SECONDS):
                    found = await self._collection.find_one(key_of(region))
            except PyMongoError as error:
                if not is_passing(error):
                    raise
                reason = said(error)
                self._regions.append(self._regions.pop(0))  # the next question begins with one that may answer
            else:
                return None if found is None else MOVED if found["owner"] == MOVED else MOVING
        raise StoreError(f"no shard says whether the store is in use: {reason}")

    async def must_take_writes(self) -> None:
        """StoreError while the store is being moved, and for ever afterwards."""
        state = await self.state()
        if state == MOVING:
            raise StoreError("the store is being moved to PostgreSQL: it takes nothing new until that is done")
        await self.must_be_in_use()

    async def must_be_in_use(self) -> None:
        """StoreError when the store was moved."""
        if await self.state() == MOVED:
            raise StoreError(LEFT)


def moving(token: str) -> str:
    """What the mark of one move says while it is under way."""
    return f"{MOVING}/{token}"


async def write(database: Database, regions: Sequence[str], owner: str) -> None:
    """Set the mark in every region, to MOVED or `moving`.  Raises what the driver raises; again it changes nothing."""
    for region in regions:
        fields: Document = {"service": SERVICE, "kind": "lane", "lane": 0, "epoch": 0, "owner": owner}
        change: Document = {"$set": fields, "$setOnInsert": {"position_at": datetime.now(UTC)}}
        await database["lanes"].update_one(key_of(region), change, upsert=True)


async def remove(database: Database, regions: Sequence[str], token: str | None) -> None:
    """Take away the mark of one move, or of whichever is under way, never of one that is done."""
    owner = moving(token) if token else {"$regex": f"^{MOVING}/"}
    for region in regions:
        await database["lanes"].delete_one(key_of(region) | {"owner": owner})
