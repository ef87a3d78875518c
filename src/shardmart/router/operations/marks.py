"""Up to which cluster time all is known, for every change stream of the router together.

A stream's event is released once nothing can come before it any more: each shard has told of a later time, and no
shard is there that nobody asks.  A shard where nothing is written gets a note in its oplog, one for all streams that
wait; the list of shards is read as it was at a time, once for all streams.  Source: MongoDB 6.0 manual, "Causal
Consistency and Read and Write Concerns" (afterClusterTime with majority); verified on mongod 6.0.5.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from bson import Timestamp

from ..protocol.errors import Code, RouterError

if TYPE_CHECKING:
    from .service import Service

BEGINNING = Timestamp(0, 0)
AGAIN_SECONDS = 1.0  # after which a note is written anew, should a failover have undone it


class Marks:
    """The notes that were written and the shards that were there."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._noted: dict[str, tuple[Timestamp, float]] = {}
        self._listing = asyncio.Lock()
        self.known = BEGINNING  # no shard that `shards` lacks was there up to this time
        self.shards: dict[str, Timestamp] = {}  # by name, when each was added

    def note(self, shard: str, wanted: Timestamp) -> None:
        """Let the oplog of `shard` reach `wanted`, in the background; once for all that want it."""
        last, when = self._noted.get(shard, (BEGINNING, 0.0))
        if last < wanted or time.monotonic() - when > AGAIN_SECONDS:
            self._noted[shard] = (max(last, wanted), time.monotonic())
            self._service.in_background(self._note(shard, wanted))

    async def _note(self, shard: str, wanted: Timestamp) -> None:
        replica_set = await self._service.catalog.shard(shard)
        command = {"appendOplogNote": 1, "maxClusterTime": wanted, "data": {"msg": "change stream of the router"}}
        try:
            await replica_set.command({**command, **self._service.clock.gossip(), "$db": "admin"}, seconds=2.0)
        except RouterError as error:
            if error.code != Code.StaleClusterTime:  # something was written there in the meantime
                self._noted.pop(shard, None)

    async def reach(self, wanted: Timestamp) -> None:
        """Know the shards as they were at `wanted` or later; raises RouterError."""
        async with self._listing:
            if self.known < wanted:
                at = max(wanted, self._service.clock.latest or wanted)
                added = await self._service.catalog.shards_at(at, self._service.clock.gossip())
                self.known, self.shards = at, added
