"""Who handles which lane: leases in the store, in the store's time, each with an epoch that only grows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pymongo
from pymongo.errors import DuplicateKeyError, PyMongoError

from ...ports import Lane
from .client import Database, Document, errors_of_the_store, is_passing, said
from .mark import StoreMark
from .presence import Presence

logger = logging.getLogger(__name__)


class MongoLanes:
    """See `ports.Lanes`.  An instance is a document beside the lanes, so that each knows its fair share."""

    def __init__(
        self,
        database: Database,
        service: str,
        instance: str,
        regions: Sequence[str],
        lanes: int,
        lease_seconds: float,
        presence: Presence | None = None,
        mark: StoreMark | None = None,
    ) -> None:
        """`presence` is the one that the store of this instance writes its sessions down with, if it does.

        `mark` says whether the store is being moved elsewhere; None: nobody asks.
        """
        self._collection = database["lanes"]
        self._service = service
        self._presence = presence or Presence(database, service, instance, regions[0], lease_seconds)
        self._regions, self._lanes = tuple(regions), lanes
        self._seconds = max(1.0, lease_seconds)
        self._made = self._leaving = False
        self._mark = mark

    async def beat(self) -> list[Lane]:
        """See `ports.Lanes`."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            if not self._made:
                await self._make()
            now, me = await self._presence.beat(), self._presence.owner
            if self._mark and await self._mark.state():
                await self._leave_all()
                return []
            self._leaving = False
            mine = {"service": self._service, "kind": "lane", "owner": me}
            found: list[Document] = []
            for region in self._regions:
                await self._collection.update_many(
                    {"region": region, **mine}, [{"$set": {"until": self._presence.later}}]
                )
                found += [d async for d in self._collection.find({"region": region, "service": self._service})]
            lanes = [d for d in found if d["kind"] == "lane"]
            instances = [d for d in found if d["kind"] == "instance"]
            living = {d["_id"] for d in instances if d["until"] > now}
            # First, or what they had begun would hold the lanes.
            await asyncio.gather(*(self._presence.bury(d, now) for d in instances if d["until"] <= now))
            held = [d for d in lanes if d["owner"] == me]
            share = -(-len(lanes) // max(1, len(living)))
            free = [d for d in lanes if self._is_free(d, now)]
            taking = (self._take(document) for document in free[: max(0, share - len(held))])
            held += [document for document in await asyncio.gather(*taking) if document]
            held.sort(key=lambda d: str(d["_id"]))
            for document in held[share:]:
                await self._free(document)
            return [self._lane(document) for document in held[:share]]

    async def _leave_all(self) -> None:
        """Give back every lane, to the next but one beat: whoever was told that it has none ends its work first."""
        if self._leaving:
            for region in self._regions:
                mine = {"region": region, "service": self._service, "kind": "lane", "owner": self._presence.owner}
                await self._collection.update_many(mine, {"$set": {"owner": None}, "$inc": {"epoch": 1}})
        self._leaving = True

    def _is_free(self, lane: Document, now: datetime) -> bool:
        owner = lane["owner"]
        if owner is None or self._presence.is_predecessor(owner):
            return True
        return bool(owner != self._presence.owner and lane["until"] <= now)

    async def _make(self) -> None:
        for region in self._regions:
            for number in range(self._lanes):
                document = {"kind": "lane", "service": self._service, "lane": number, "epoch": 0, "owner": None}
                document |= {"until": None, "position": None, "position_at": None}
                key = {"region": region, "_id": f"{self._service}/{region}/{number}"}
                try:
                    await self._collection.update_one(key, {"$setOnInsert": document}, upsert=True)
                except DuplicateKeyError:
                    continue  # another instance made it at the same time
        self._made = True

    async def _take(self, document: Document) -> Document | None:
        """The lane, or None where another was quicker or a transaction holds it: one lane does not keep the others."""
        try:
            with pymongo.timeout(self._seconds / 4):
                return await self._collection.find_one_and_update(
                    {"region": document["region"], "_id": document["_id"], "epoch": document["epoch"]},
                    [
                        {
                            "$set": {
                                "owner": {"$literal": self._presence.owner},
                                "epoch": document["epoch"] + 1,
                                "until": self._presence.later,
                            }
                        }
                    ],
                    return_document=True,
                )
        except PyMongoError as error:
            if not is_passing(error):
                raise
            logger.warning("a lane could not be taken", extra={"lane": document["_id"], "reason": said(error)})
            return None

    async def _free(self, document: Document) -> None:
        await self._collection.update_one(
            {"region": document["region"], "_id": document["_id"], "epoch": document["epoch"]},
            {"$set": {"owner": None}, "$inc": {"epoch": 1}},
        )

    def _lane(self, document: Document) -> Lane:
        return Lane(
            self._service,
            document["region"],
            document["lane"],
            document["epoch"],
            document["position"],
            document["position_at"],
            document.get("replay_from"),
        )

    async def give_back(self, lanes: Sequence[Lane]) -> None:
        """See `ports.Lanes`."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            for lane in lanes:
                key: dict[str, Any] = {"region": lane.region, "_id": f"{lane.service}/{lane.name}"}
                await self._free(key | {"epoch": lane.epoch})

    async def ask_replay(self, since: datetime) -> int:
        """See `ports.Lanes`."""
        asked = 0
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            if self._mark:
                await self._mark.must_take_writes()
            await self._make()
            for region in self._regions:
                lanes = {"region": region, "service": self._service, "kind": "lane"}
                asked += (await self._collection.update_many(lanes, {"$set": {"replay_from": since}})).matched_count
        return asked

    async def replayed(self, lane: Lane) -> None:
        """See `ports.Lanes`."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            key = {"region": lane.region, "_id": f"{lane.service}/{lane.name}", "epoch": lane.epoch}
            done = {"replay_from": lane.replay_from}
            await self._collection.update_one(key | done, {"$set": {"replay_from": None}})

    async def replaying(self) -> int:
        """See `ports.Lanes`."""
        waiting = 0
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            for region in self._regions:
                lanes = {"region": region, "service": self._service, "replay_from": {"$type": "date"}}
                waiting += await self._collection.count_documents(lanes)
        return waiting

    async def leave(self) -> None:
        """See `ports.Lanes`."""
        with errors_of_the_store(), pymongo.timeout(self._seconds):
            await self._presence.leave()
