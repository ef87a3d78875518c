"""Change streams, as a client sees them: what it has read, where it resumes, and what is done with an event here.

The events come from a feed (`feeds`), which streams that ask for the same share once each has what it needs next.
Source: MongoDB 6.0 manual, "Change
Streams"; drivers' specification "Change Streams"; verified on mongod 6.0.5.
"""

from __future__ import annotations

import random
import re
import time
from dataclasses import asdict
from typing import Any

from bson import Int64, Timestamp
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson
from ..protocol.errors import RETRYABLE, STALE, Code, RouterError
from .context import Context, Reply
from .cursors import BATCH_BYTES, FIRST_BATCH, Cursor
from .feeds import STARTS, Feed, after, time_of, token_of
from .send import ask_all

AWAIT_SECONDS = 1.0  # how long a getMore waits that does not say
# A token of an event: after its time, the token's version 2 and a type that is not 0, that of a mark.
_EVENT = re.compile("82[0-9A-F]{16}2B02(?!29)")
# Errors after which a driver opens the stream again where it was (MongoDB 6.0, `isResumableChangeStreamError`).
RESUMABLE = RETRYABLE | STALE | {Code.RetryChangeStream}


def is_change_stream(context: Context) -> bool:
    """Whether an aggregate opens a change stream."""
    return any("$changeStream" in stage for stage in context.stages[:1])


class StreamCursor(Cursor):
    """A change stream merged from the streams of all shards."""

    def __init__(self, context: Context, namespace: str, fields: dict[str, Any]) -> None:
        super().__init__(context, random.getrandbits(62) | 1, namespace)
        stage, *stages = fields["pipeline"]
        options = dict(stage["$changeStream"])
        self.fields = fields
        self._options, self._rest = options, stages
        self._lasting = {k: v for k, v in options.items() if k not in STARTS}
        what = {**fields, "pipeline": [{"$changeStream": self._lasting}, *stages], "of": namespace}
        self.key = rawbson.encode({**what, "preference": asdict(context.read_preference())})
        begin = options.get("startAtOperationTime")
        resumed = token_of(options["resumeAfter" if "resumeAfter" in options else "startAfter"]) if not begin else ""
        self.position = f"82{begin.time:08X}{begin.inc:08X}" if begin else resumed  # events up to here were read
        if resumed:
            time_of(resumed)
        # The event a client resumes after, which has to be there.
        self.looking_for = resumed if _EVENT.match(resumed) and "resumeAfter" in options else ""
        self.last = ""
        self.told = resumed  # the newest mark that was given to the client
        self.over = False
        self.killed = False
        self.feed: Feed

    async def open(self, context: Context) -> None:
        """Join a feed that others read from, or open one; raises RouterError."""
        shared = context.service.feeds.get(self.key)
        if shared and self._fits(shared) and shared.has_no_more(self.position):
            self._join(shared)
        else:
            await self._open_feed(context, self._options)
        self.told = max(self.told, self.feed.mark)

    async def _open_feed(self, context: Context, options: dict[str, Any]) -> None:
        fields = {**self.fields, "pipeline": [{"$changeStream": options}, *self._rest]}
        feed = Feed(context, self.namespace, fields, start=self.told)
        try:
            await feed.open()
        except BaseException:
            context.service.in_background(feed.close())
            raise
        self.position = max(self.position, feed.begun)
        self._join(feed)
        self._still_wanted()

    def _still_wanted(self) -> None:
        """Raise RouterError 237 when the cursor was killed while its getMore was under way."""
        if self.killed:
            self._leave()
            raise RouterError(Code.CursorKilled, f"cursor id {self.id} was killed")

    def _fits(self, shared: Feed) -> bool:
        """Whether a feed has what this stream needs next."""
        return not (self.looking_for or shared.over or shared.failure) and shared.begun <= self.position <= shared.mark

    def _join(self, feed: Feed) -> None:
        self.feed = feed
        feed.readers.add(self)

    def _leave(self) -> None:
        feed = self.feed
        feed.readers.discard(self)
        if not feed.readers:
            if self.service.feeds.get(self.key) is feed:
                del self.service.feeds[self.key]
            self.service.in_background(feed.close())

    async def _settle(self, context: Context) -> None:
        """Read from the feed that others read from, as soon as that is possible.  Raises RouterError."""
        self._still_wanted()
        feeds = self.service.feeds
        if self.looking_for:
            return  # another reader of this feed could read over the event that has to be found
        if self.feed.begun > self.position:  # others were far ahead, and what comes next here is no longer kept
            self._leave()
            await self._open_feed(context, {**self._lasting, "startAfter": {"_data": self.told}})
        shared = feeds.get(self.key)
        if shared is None or shared.over or shared.failure:
            feeds[self.key] = self.feed
        elif shared is not self.feed and self._fits(shared):
            self._leave()
            self._join(shared)

    async def collect(self, context: Context, size: int, seconds: float) -> list[RawBSONDocument]:
        """The next events, at most `size`; waits for the first until `seconds` have passed.  Raises RouterError."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                await self._settle(context)
                batch = self._take(size)
                left = deadline - time.monotonic()
                if batch or self.over or left <= 0 or not size:
                    return batch
                if self.feed.failure:
                    raise self.feed.failure
                await self.feed.moved(left)
        except RouterError as error:
            if error.code in RESUMABLE:
                error.labels = (*error.labels, "ResumableChangeStreamError")
            raise

    def _take(self, size: int) -> list[RawBSONDocument]:
        if self.looking_for:
            if any(token == self.looking_for for token, _ in self.feed.events):
                self.looking_for = ""
            elif self.feed.mark > self.looking_for:
                raise RouterError(Code.ChangeStreamFatalError, "cannot resume stream; the resume token was not found.")
        batch: list[RawBSONDocument] = []
        total = 0
        for token, event in self.feed.after(self.position):
            if len(batch) >= size or total >= BATCH_BYTES:
                break
            total += len(event)
            batch.append(RawBSONDocument(event))
            self.position = self.last = token
        self.feed.forget_read()
        self.over = self.feed.over and self.feed.has_no_more(self.position)
        return batch

    async def more(self, context: Context) -> Reply:
        """The next batch."""
        seconds = context.integer("maxTimeMS") / 1000 or AWAIT_SECONDS
        batch = await self.collect(context, context.integer("batchSize") or 2**31, seconds)
        return self.reply("nextBatch", batch)

    def reply(self, name: str, batch: list[RawBSONDocument]) -> Reply:
        """The reply of an aggregate or getMore, with the token a client resumes from when nothing else has come."""
        self.told = max(self.told, self.last, self.feed.mark if self.feed.has_no_more(self.position) else "")
        self.position = max(self.position, self.told)
        if self.over:
            self.told = self.last or self.told
            self.service.in_background(self.close())
        identity = Int64(0 if self.over else self.id)
        cursor = {name: batch, "id": identity, "ns": self.namespace, "postBatchResumeToken": {"_data": self.told}}
        return {"cursor": cursor, "ok": 1.0}

    async def kill(self) -> None:
        """Close the feed on every member, unless others read from it."""
        self.killed = True
        self._leave()


async def open_stream(context: Context) -> Reply:
    """Serve an aggregate that begins with $changeStream; what is wrong with it the shards say.  Raises RouterError."""
    options = context.stages[0]["$changeStream"]
    collection = context.head["aggregate"]
    if not isinstance(options, dict):
        raise RouterError(Code.StreamNeedsDocument, "$changeStream stage expects a document as argument")
    await ask_all(context, sorted(await context.service.catalog.load_shards()), {"ping": 1})
    if not options.keys() & set(STARTS):
        now = context.service.clock.latest or Timestamp(int(time.time()), 0)
        options["startAtOperationTime"] = after(now)
    kept = {k: v for k, v in context.options().items() if k not in ("pipeline", "cursor", "maxTimeMS", "explain")}
    fields = {"aggregate": collection, "pipeline": context.stages, "cursor": {"batchSize": 0}, **kept}
    fields["readConcern"] = {"level": context.document("readConcern").get("level", "majority")}
    namespace = f"{context.db}.$cmd.aggregate" if collection == 1 else context.namespace
    stream = StreamCursor(context, namespace, fields)
    await stream.open(context)
    try:
        size = int(context.document("cursor").get("batchSize", FIRST_BATCH))
        batch = await stream.collect(context, size, 0.0)
    except BaseException:
        context.service.in_background(stream.kill())
        raise
    if not stream.over:
        context.service.cursors.add(stream)
    return stream.reply("firstBatch", batch)
