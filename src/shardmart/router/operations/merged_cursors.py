"""Reads of several shards, merged here from the members' ordinary cursors, which stay the client's own there."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Iterator
from typing import Any

from bson import Int64
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import RETRYABLE, Code, RouterError
from ..routing.catalog import Routing
from ..routing.replica_set import FIND_PRIMARY_SECONDS
from ..routing.shard_key import comparable
from .context import Context, Reply
from .cursors import BATCH_BYTES, Cursor, Remote
from .send import ask, cursor_id, everywhere

PARTIAL_SECONDS = 2.0  # to look for a member before a read that may be partial goes on without its shard
_CURSOR, _SORT_KEY = frozenset({b"cursor"}), frozenset({b"$sortKey"})
_BATCHES = frozenset({b"firstBatch", b"nextBatch"})


class Part:
    """One shard's share of a merged cursor: what it has sent, each document behind its place in the order."""

    def __init__(self, remote: Remote, reply: wire.Message, *, ordered: bool) -> None:
        self.remote = remote
        self.buffer: deque[tuple[list[Any], bytes]] = deque()
        self._ordered = ordered
        self.take(reply)

    def take(self, reply: wire.Message) -> None:
        """Take the batch of a reply."""
        for _, batch, _ in rawbson.find(reply.body, _BATCHES, rawbson.find(reply.body, _CURSOR)[b"cursor"][1]).values():
            for _, _, start, end in rawbson.walk(reply.body, batch):
                document = reply.body[start:end]
                self.buffer.append((_key(document) if self._ordered else [], document))


def _key(document: bytes) -> list[Any]:
    kind, start, end = rawbson.find(document, _SORT_KEY)[b"$sortKey"]
    if kind not in (0x03, 0x04):  # a distance
        return [comparable(document, kind, start, end)]
    return [comparable(document, kind, at, after) for _, kind, at, after in rawbson.walk(document, start)]


class MergedCursor(Cursor):
    """A read over several shards, merged by its order; without one, shard after shard.

    `partial`: what shards have that do not answer may be missing.
    """

    def __init__(
        self, context: Context, directions: list[int], *, skip: int = 0, limit: int = 0, partial: bool = False
    ) -> None:
        super().__init__(context, random.getrandbits(62) | 1, context.namespace)  # a handle, checked against its user
        self._directions, self._partial = directions, partial
        self._skip, self._left = skip, limit or None
        self._parts: list[Part] = []
        self._about: dict[str, Any] = {}  # fields of every reply

    @contextlib.contextmanager
    def closed_on_failure(self) -> Iterator[None]:
        """What shards have opened is closed when another refuses, and when the client is gone."""
        try:
            yield
        except BaseException:
            self.service.in_background(self.close())
            raise

    async def open(self, context: Context, shards: list[str], command: dict[str, Any], routing: Routing) -> None:
        """Ask every shard, each with its version; raises RouterError."""
        limit = context.integer("maxTimeMS")
        patience = min(PARTIAL_SECONDS, limit / 2000) if limit else PARTIAL_SECONDS
        seconds = patience if self._partial else FIND_PRIMARY_SECONDS

        async def open_part(shard: str) -> None:
            try:
                member, reply = await ask(context, shard, command | routing.versions(shard), seconds=seconds)
            except RouterError as error:
                self._miss(error)
                return
            remote = Remote(member, self.namespace, cursor_id(reply.body))
            self._parts.append(Part(remote, reply, ordered=bool(self._directions)))
            if time := rawbson.get(reply.body, b"cursor", b"atClusterTime"):
                self._about["atClusterTime"] = time

        await everywhere(map(open_part, shards))

    def _miss(self, error: RouterError) -> None:
        if not self._partial or error.code not in RETRYABLE:
            raise error
        self._about["partialResultsReturned"] = True

    @property
    def exhausted(self) -> bool:
        """Whether nothing can come any more."""
        return self._left == 0 or not any(part.buffer or part.remote.id for part in self._parts)

    async def batch(self, context: Context, size: int) -> list[RawBSONDocument]:
        """At most `size` documents; fewer at the end, or before a wait for more."""
        result: list[RawBSONDocument] = []
        total = 0
        while len(result) < size and total < BATCH_BYTES and self._left != 0:
            part = await self._next(context, wait=not result)
            if part is None:
                break
            document = part.buffer.popleft()[1]
            if self._skip:
                self._skip -= 1
                continue
            if self._left:
                self._left -= 1
            total += len(document)
            result.append(RawBSONDocument(rawbson.without(document, _SORT_KEY) if self._directions else document))
        return result

    async def _next(self, context: Context, *, wait: bool) -> Part | None:
        """The part that has the next document; without an order what is here comes before what has to be fetched."""
        for part in self._parts:
            if not part.buffer and (self._directions or (wait and not any(p.buffer for p in self._parts))):
                await self._fetch(context, part)
        ready = [part for part in self._parts if part.buffer]
        for place, direction in reversed([*enumerate(self._directions)]):  # what is equal stays in its order
            ready.sort(key=lambda part: part.buffer[0][0][place], reverse=direction < 0)
        return next(iter(ready), None)

    async def _fetch(self, context: Context, part: Part) -> None:
        while part.remote.id and not part.buffer:
            fields = {**context.session(), **context.service.clock.gossip()}
            if context.name == "getMore" and (size := context.integer("batchSize")):
                fields["batchSize"] = Int64(size)
            try:
                part.take(await part.remote.more(fields))
            except RouterError as error:
                self._miss(error)
                part.remote.id = 0

    async def everything(self, context: Context) -> list[RawBSONDocument]:
        """All that is left; raises RouterError 10334 where that is more than a document can hold."""
        documents: list[RawBSONDocument] = []
        total = 0
        while not self.exhausted:
            batch = await self.batch(context, 2**31)
            documents += batch
            total += sum(len(document.raw) for document in batch)
            if total > BATCH_BYTES:
                message = "this aggregation in a transaction has to gather more than 15 MB: narrow its $match"
                raise RouterError(Code.BSONObjectTooLarge, message)
        return documents

    async def more(self, context: Context) -> Reply:
        """The next batch of the merge."""
        with self.closed_on_failure():  # when time is up, too: what was taken for this batch is lost
            return await self.reply(context, "nextBatch", context.integer("batchSize") or 2**31)

    async def reply(self, context: Context, name: str, size: int) -> Reply:
        """A reply with the next `size` documents; the cursor stays open while there are more."""
        cursor = {name: await self.batch(context, size), "ns": self.shown, **self._about}
        keep = not self.exhausted and not context.head.get("singleBatch")
        if not keep:
            await self.close()
        elif name == "firstBatch":
            self.service.cursors.add(self)
        return {"cursor": {**cursor, "id": Int64(self.id if keep else 0)}, "ok": 1.0}

    async def kill(self) -> None:
        """killCursors for every part that is still open."""
        await asyncio.gather(*(part.remote.kill() for part in self._parts))
