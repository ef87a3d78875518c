"""The events of all shards in one order, none before those that may still come from another shard.

`clusterGetMore` on a change stream ends mongod 6.0.5, so the router merges itself: every shard gets the stream as
mongos would send it (`fromMongos`, `needsMerge`), and an event is released once each shard's mark
(`postBatchResumeToken`) has passed it.  A shard where nothing is written gets a note in its oplog, or its mark would
stay.  The list of shards is read as of the event's time, so that a new shard is watched from the moment it is
there.  Streams that ask for the same read from one feed.  Source: MongoDB 6.0 manual, "Change Streams"; verified on
mongod 6.0.5.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from bson import Timestamp
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..routing.member import Member
from .context import Context
from .cursors import Remote
from .send import cursor_id, everywhere

if TYPE_CHECKING:
    from .change_streams import StreamCursor
    from .service import Service

BEGINNING = Timestamp(0, 0)
AGAIN_SECONDS = 1.0  # after which a note is written anew, should a failover have undone it
# How long a shard's getMore waits: its mark is told at the end of it, and holds the others' events until then.  Less
# where an event came lately, and least while one is held; more where many feeds are open.
STEP_SECONDS, QUIET_STEP_SECONDS, STEP_SECONDS_A_FEED, STEP_SECONDS_AT_MOST = 0.02, 0.1, 0.004, 0.25
HELD_STEP_SECONDS = 0.004
QUIET_AFTER_SECONDS = 2.0
BUFFER_BYTES = 16 * 1024 * 1024  # kept for readers that have not asked for them yet; who comes later reads by itself
STARTS = ("resumeAfter", "startAfter", "startAtOperationTime")
_SORT_KEY = frozenset({b"$sortKey"})
# Events that shards tell routers: a collection has its first chunk on a shard. All are watched from the beginning.
_FOR_ROUTERS = ("kNewShardDetected", "migrateChunkToNewShard")
_AFTER_ALL = "FF"  # behind a time, in a token: after every event of that time


def time_of(token: str) -> Timestamp:
    """The cluster time in a resume token's `_data`."""
    try:
        return Timestamp(int(token[2:10], 16), int(token[10:18], 16))
    except ValueError:
        raise RouterError(Code.UnreadableResumeToken, f"resume token {token!r} cannot be read") from None


def after(time: Timestamp) -> Timestamp:
    """The next time there can be."""
    return Timestamp(time.time, time.inc + 1)


def token_of(value: Any) -> str:
    """Its `_data`; raises RouterError."""
    data = value.get("_data") if isinstance(value, dict) else None
    if not isinstance(data, str):
        raise RouterError(Code.UnreadableResumeToken, "a resume token has a string _data")
    return data


def _image_stages(options: dict[str, Any]) -> list[dict[str, Any]]:
    """What a member does for itself and leaves to mongos for a stream that is merged: documents before and after."""
    before, now = options.get("fullDocumentBeforeChange", "off"), options.get("fullDocument", "default")
    stages = [{"$_internalChangeStreamAddPreImage": {"fullDocumentBeforeChange": before}}] if before != "off" else []
    if now != "default":
        stages.append({"$_internalChangeStreamAddPostImage": {"fullDocument": now}})
    return stages


class Marks:
    """Up to which cluster time all is known, for every stream together: the notes written, the shards there were.

    Source: MongoDB 6.0 manual, "Causal Consistency" (afterClusterTime with majority); verified on mongod 6.0.5.
    """

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
        # It is refused where something was written in the meantime; where it fails, the next one is soon.
        await replica_set.command({**command, **self._service.clock.gossip(), "$db": "admin"}, seconds=2.0)

    async def reach(self, wanted: Timestamp) -> None:
        """Know the shards as they were at `wanted` or later; raises RouterError."""
        async with self._listing:
            if self.known < wanted:
                at = max(wanted, self._service.clock.latest or wanted)
                added = await self._service.catalog.shards_at(at, self._service.clock.gossip())
                self.known, self.shards = at, added


class Part:
    """One replica set's share of a stream."""

    def __init__(self, name: str, member: Member, namespace: str, reply: bytes) -> None:
        self.name = name  # of the shard
        self._remote = Remote(member, namespace, cursor_id(reply))
        self.events: deque[tuple[str, bytes]] = deque()
        self.mark = ""
        self.asking: asyncio.Task[wire.Message] | None = None
        self.take(reply)

    def take(self, reply: bytes) -> None:
        """Take the events and the mark of a reply."""
        cursor = rawbson.head(rawbson.head(reply)["cursor"])
        for document in cursor.get("nextBatch", cursor.get("firstBatch", ())):
            event = rawbson.raw(document)
            token = rawbson.get(event, b"$sortKey")
            token = token[0] if isinstance(token, list) and token else token
            self.events.append((token_of(token), event))
        if "postBatchResumeToken" in cursor:
            self.mark = token_of(rawbson.decode(cursor["postBatchResumeToken"]))

    def ask(self, seconds: float, gossip: dict[str, Any]) -> None:
        """Send getMore, unless one is on its way or events are waiting."""
        if self.asking is None and not self.events and not self.ended:
            fields = {"maxTimeMS": int(seconds * 1000), **gossip}
            self.asking = asyncio.ensure_future(self._remote.more(fields, waits=True))

    def heard(self) -> None:
        """Take the answer if it has come; raises RouterError."""
        if self.asking and self.asking.done():
            task, self.asking = self.asking, None
            self.take(task.result().body)

    @property
    def ended(self) -> bool:
        """Whether the member has closed the stream, and all it told was taken."""
        return not self._remote.id and self.asking is None

    @property
    def reached(self) -> str:
        """The token up to which everything of this set is known."""
        return self.events[0][0] if self.events else self.mark

    async def close(self) -> None:
        """Close the cursor on the member."""
        if self.asking:
            self.asking.cancel()
        await self._remote.kill()


def _check_token(event: bytes, token: str) -> None:
    """Raise RouterError 280 unless the event's `_id` is its token: the client's stages have to leave it as it is."""
    if rawbson.get(event, b"_id", b"_data") != token:
        message = "Encountered an event whose _id field, which contains the resume token, was modified by the pipeline."
        raise RouterError(Code.ChangeStreamFatalError, message)


class Feed:
    """The merge of all shards' streams, from a token on; it moves while somebody waits for it."""

    def __init__(self, context: Context, namespace: str, fields: dict[str, Any], *, start: str) -> None:
        self._start = start  # the token it resumes from: what is told once more ends nothing
        self.service: Service = context.service
        self.namespace = namespace
        self.readers: set[StreamCursor] = set()
        self.events: deque[tuple[str, bytes]] = deque()
        self.begun = ""  # all events after this token are in `events`, or have not been released
        self.mark = ""  # no event up to this token will be released any more
        self.over = False
        self.failure: RouterError | None = None
        self.parts: list[Part] = []
        self._fields = fields
        self._context = context
        self._bytes = 0
        self._known = BEGINNING  # the shards that were there up to this time are all among the parts
        self._seen = 0.0  # when an event came, on the monotonic clock
        self._held_step = HELD_STEP_SECONDS
        self._waiters = 0
        self._driver: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    async def open(self) -> None:
        """Open the stream on every shard; raises RouterError."""
        marks = self.service.marks
        await marks.reach(self.service.clock.latest or BEGINNING)
        self._known = marks.known
        if not marks.shards:
            raise RouterError(Code.ShardNotFound, "No shards found")
        await everywhere(self._open_part(shard, self._fields) for shard in sorted(marks.shards))
        self.begun = self.mark = min(part.mark for part in self.parts)

    async def _open_part(self, shard: str, fields: dict[str, Any]) -> None:
        replica_set = await self.service.catalog.shard(shard)
        stage, *stages = fields["pipeline"]
        images = _image_stages(stage["$changeStream"])
        send = {**fields, "pipeline": [stage, *images, *stages], "fromMongos": True, "needsMerge": True}
        preference = self._context.read_preference()
        send |= {"writeConcern": {"w": 1, "wtimeout": 0}, "$db": self._context.db}
        send |= self.service.clock.gossip() | preference.document
        member = await replica_set.readable(preference)
        call = member.call_as_server if images else member.call
        reply = wire.checked(await call(wire.command(send)))
        self.parts.append(Part(shard, member, self.namespace, reply.body))

    # reading

    def after(self, position: str) -> Any:
        """The released (token, event) after `position`."""
        return itertools.dropwhile(lambda event: event[0] <= position, self.events)

    def has_no_more(self, position: str) -> bool:
        """Whether nothing after `position` was released."""
        return not self.events or self.events[-1][0] <= position

    def forget_read(self) -> None:
        """Drop the events that every reader has read."""
        read = min((reader.position for reader in self.readers), default="")
        while self.events and self.events[0][0] <= read:
            self._drop()

    def _drop(self) -> None:
        self.begun, event = self.events.popleft()
        self._bytes -= len(event)

    async def moved(self, seconds: float) -> None:
        """Wait until there is something new, at most so long."""
        self._waiters += 1
        try:
            if self._driver is None or self._driver.done():
                self._driver = asyncio.ensure_future(self._drive())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), seconds)
        finally:
            self._waiters -= 1

    # moving

    async def _drive(self) -> None:
        """Ask the shards and release what they tell, while somebody waits."""
        try:
            while self._waiters and not self.over:
                for part in self.parts:
                    part.heard()
                if self._release() or self.over or len(self.readers) == 1:
                    self._wake()
                if not self.over:
                    await self._ask()
        except RouterError as error:
            self.failure = error
        except BaseException:
            self.failure = RouterError(Code.InternalError, "the change stream's feed ended; the router's log says why")
            raise
        finally:
            self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _ask(self) -> None:
        step = self._step()
        for part in self.parts:
            part.ask(step, self.service.clock.gossip())
        if await self._learn():
            return  # and see what waited for that
        if asked := [part.asking for part in self.parts if part.asking]:
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        else:
            self.over = True  # every shard's stream has ended

    def _step(self) -> float:
        """How long the next getMores wait, in seconds."""
        if any(part.events for part in self.parts):
            self._held_step *= 1.5  # shorter than usual until its mark has moved, which may take an election
            return min(self._held_step, STEP_SECONDS_AT_MOST)
        self._held_step = HELD_STEP_SECONDS
        quiet = time.monotonic() - self._seen > QUIET_AFTER_SECONDS
        step = QUIET_STEP_SECONDS if quiet else STEP_SECONDS
        return min(step + len(self.service.feeds) * STEP_SECONDS_A_FEED, STEP_SECONDS_AT_MOST)

    async def _learn(self) -> bool:
        """Have the marks moved that hold events back, of shards where nothing is written and of the shards' list.

        Shards that came are watched from when they were added.  Whether more is known; raises RouterError.
        """
        marks = self.service.marks
        held = min((part.events[0][0] for part in self.parts if part.events), default="")
        for part in self.parts:
            if not part.events and part.mark < held:
                marks.note(part.name, after(time_of(held)))
        reached = time_of(min(part.reached for part in self.parts))
        waits = held or any(part.ended for part in self.parts)
        behind = reached > self._known if waits else reached.time > self._known.time
        now = self.service.clock.latest
        if not behind or not now or reached > now:  # a stream may begin in the future
            return False
        await marks.reach(reached)
        known, shards = marks.known, dict(marks.shards)
        stage, *stages = self._fields["pipeline"]
        options = {k: v for k, v in stage["$changeStream"].items() if k not in STARTS}
        for shard in sorted(set(shards) - {part.name for part in self.parts}):
            begin = max(shards[shard], after(self._known))
            stage = {"$changeStream": {**options, "startAtOperationTime": begin}}
            await self._open_part(shard, {**self._fields, "pipeline": [stage, *stages]})
        self._known = known
        return True

    def _release(self) -> bool:
        """Put the events in their order that nothing can come before any more; whether there were any."""
        known = f"82{self._known.time:08X}{self._known.inc:08X}{_AFTER_ALL}"
        released = False
        while self._bytes > BUFFER_BYTES and len(self.readers) > 1:  # what every waiting reader could have read by now
            self._drop()
        while not self.over:
            reached = min(part.reached for part in self.parts)
            part = min((p for p in self.parts if p.events), key=lambda p: p.events[0][0], default=None)
            if part is None or part.events[0][0] > min(reached, known):
                # All is known up to here; a shard whose stream has ended for good ends the whole there.
                self.over = any(p.ended and not p.events and p.mark <= min(reached, known) for p in self.parts)
                if reached <= known:
                    self.mark = max(self.mark, reached)
                break
            token, event = part.events.popleft()
            kind = RawBSONDocument(event).get("operationType")
            if kind not in _FOR_ROUTERS:
                document = rawbson.without(event, _SORT_KEY)
                _check_token(document, token)
                self.events.append((token, document))
                self._bytes += len(document)
                self.over, released = kind == "invalidate" and token > self._start, True
            self.mark, self._seen = token, time.monotonic()
        return released

    async def close(self) -> None:
        """Close it on every member."""
        self.over = True
        if self._driver:
            self._driver.cancel()
        await asyncio.gather(*(part.close() for part in self.parts))
