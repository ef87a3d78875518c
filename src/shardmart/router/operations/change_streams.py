"""Change streams: the events of all shards in one order, none before those that may still come from another shard.

`clusterGetMore` on a change stream ends mongod 6.0.5, so the router merges itself: every shard gets the stream as
mongos would send it (`fromMongos`, `needsMerge`), and an event is released once each shard's mark
(`postBatchResumeToken`) has passed it.  A shard where nothing is written gets a note in its oplog, or its mark would
stay.  The list of shards is read as of the event's time, so that a new shard is watched from the moment it is
there.  Source: MongoDB 6.0 manual, "Change Streams"; verified on mongod 6.0.5.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections import deque
from typing import Any

from bson import Int64, Timestamp
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..routing.member import Member
from .cluster_aggregation import pipeline_of
from .context import Context, Reply
from .cursors import Cursor
from .marks import BEGINNING
from .reads import find
from .send import ask, checked, everywhere
from .service import Service

AWAIT_SECONDS = 1.0  # how long a getMore waits that does not say
# How long a shard's getMore waits: its mark is told at the end of it, and holds the others' events until then.  Less
# where an event came lately, and least while one is held; more where many streams are open.
STEP_SECONDS, QUIET_STEP_SECONDS, STEP_SECONDS_A_STREAM, STEP_SECONDS_AT_MOST = 0.04, 0.12, 0.001, 0.25
HELD_STEP_SECONDS = 0.004
QUIET_AFTER_SECONDS = 2.0
FIRST_BATCH = 101
BATCH_BYTES = 15 * 1024 * 1024
_STARTS = ("resumeAfter", "startAfter", "startAtOperationTime")
_SORT_KEY = frozenset({b"$sortKey"})
# A token of an event: after its time, the token's version 2 and a type that is not 0, that of a mark.
_EVENT = re.compile("82[0-9A-F]{16}2B02(?!29)")
# Events that shards tell routers: a collection has its first chunk on a shard. All are watched from the beginning.
_FOR_ROUTERS = ("kNewShardDetected", "migrateChunkToNewShard")
_AFTER_ALL = "FF"  # behind a time, in a token: after every event of that time
_LABELLED = ("ResumableChangeStreamError",)
# Errors after which a driver opens the stream again where it was (MongoDB 6.0, `isResumableChangeStreamError`).
RESUMABLE = frozenset({
    Code.HostUnreachable, Code.HostNotFound, Code.StaleShardVersion, Code.NetworkTimeout, Code.ShutdownInProgress,
    Code.FailedToSatisfyReadPreference, Code.StaleEpoch, Code.PrimarySteppedDown, Code.RetryChangeStream,
    Code.ExceededTimeLimit, Code.SocketException, Code.NotWritablePrimary, Code.InterruptedAtShutdown,
    Code.InterruptedDueToReplStateChange, Code.StaleConfig, Code.NotPrimaryNoSecondaryOk, Code.NotPrimaryOrSecondary,
})  # fmt: skip


def is_change_stream(context: Context) -> bool:
    """Whether an aggregate opens a change stream."""
    pipeline = pipeline_of(context)
    return bool(pipeline) and "$changeStream" in pipeline[0]


def time_of(token: str) -> Timestamp:
    """The cluster time in a resume token's `_data`."""
    try:
        return Timestamp(int(token[2:10], 16), int(token[10:18], 16))
    except ValueError:
        raise RouterError(Code.UnreadableResumeToken, f"resume token {token!r} cannot be read") from None


def _after(time: Timestamp) -> Timestamp:
    return Timestamp(time.time, time.inc + 1)


def _token(value: Any) -> str:
    data = value.get("_data") if isinstance(value, dict) else None
    if not isinstance(data, str):
        raise RouterError(Code.UnreadableResumeToken, "a resume token has a string _data")
    return data


class Part:
    """One replica set's share of a stream."""

    def __init__(self, name: str, member: Member, namespace: str, reply: bytes) -> None:
        self.name = name  # of the shard
        self.member = member
        self.namespace = namespace
        self.events: deque[tuple[str, bytes]] = deque()
        self.mark = ""
        self.asking: asyncio.Task[wire.Message] | None = None
        self.take(reply)

    def take(self, reply: bytes) -> None:
        """Take the events and the mark of a reply."""
        cursor = rawbson.head(rawbson.head(reply)["cursor"])
        self.id = int(cursor["id"])
        for document in cursor.get("nextBatch", cursor.get("firstBatch", ())):
            event = rawbson.raw(document)
            key = rawbson.find(event, _SORT_KEY).get(b"$sortKey")
            token = rawbson.value_of(event, key) if key else None
            token = token[0] if isinstance(token, list) and token else token
            self.events.append((_token(token), event))
        if "postBatchResumeToken" in cursor:
            self.mark = _token(rawbson.decode(cursor["postBatchResumeToken"]))

    def ask(self, seconds: float, gossip: dict[str, Any]) -> None:
        """Send getMore, unless one is on its way or events are waiting."""
        if self.asking is None and not self.events and self.id:
            database, _, collection = self.namespace.partition(".")
            command = {"getMore": Int64(self.id), "collection": collection, "maxTimeMS": int(seconds * 1000)}
            data = wire.command({**command, **gossip, "$db": database})
            self.asking = asyncio.ensure_future(self.member.call(data, waits=True))

    def heard(self) -> None:
        """Take the answer if it has come; raises RouterError."""
        if self.asking and self.asking.done():
            task, self.asking = self.asking, None
            self.take(checked(task.result()).body)

    @property
    def reached(self) -> str:
        """The token up to which everything of this set is known."""
        return self.events[0][0] if self.events else self.mark

    async def close(self) -> None:
        """Close the cursor on the member."""
        if self.asking:
            self.asking.cancel()
        identity, self.id = self.id, 0
        if identity:
            database, _, collection = self.namespace.partition(".")
            with contextlib.suppress(RouterError):
                command = {"killCursors": collection, "cursors": [Int64(identity)], "$db": database}
                await self.member.command(command, 5.0)


class StreamCursor(Cursor):
    """A change stream merged from the streams of all shards."""

    waits = True

    def __init__(self, context: Context, namespace: str, fields: dict[str, Any]) -> None:
        super().__init__(context, random.getrandbits(62) | 1, namespace)
        self.fields = fields
        stage, *stages = fields["pipeline"]
        self.looks_up = stage["$changeStream"].get("fullDocument") == "updateLookup"
        self.stages: list[Any] = []  # to be run here, on events whose documents were looked up
        if self.looks_up:
            self.stages = stages
            without = {k: v for k, v in stage["$changeStream"].items() if k != "fullDocument"}
            self.fields = {**fields, "pipeline": [{"$changeStream": without}]}
        self.parts: list[Part] = []
        self.after = ""  # events up to this token were delivered before
        self.looking_for = ""  # the event a client resumes after, which has to be there
        self.last = ""
        self.told = ""  # the newest mark that was given to the client
        self.known = BEGINNING  # the shards that were there up to this time are all among the parts
        self.listing: asyncio.Task[None] | None = None
        self.seen = 0.0  # when an event came, on the monotonic clock
        self.held_step = HELD_STEP_SECONDS
        self.over = False

    async def open(self, context: Context) -> None:
        """Open the stream on every shard; raises RouterError."""
        marks = context.service.marks
        await marks.reach(context.service.clock.latest or BEGINNING)
        self.known = marks.known
        if not marks.shards:
            raise RouterError(Code.ShardNotFound, "No shards found")
        try:
            await everywhere(self._open_part(context, shard, self.fields) for shard in sorted(marks.shards))
            if self.looks_up:
                await self._staged(context, [])  # a wrong stage is refused at once
            self.told = min(part.mark for part in self.parts)
        except BaseException:
            context.service.in_background(self.kill(context.service))
            raise

    async def _open_part(self, context: Context, shard: str, fields: dict[str, Any]) -> None:
        replica_set = await context.service.catalog.shard(shard)
        mode, tags = context.read_preference()
        send = {**fields, "fromMongos": True, "needsMerge": True, "readConcern": {"level": "majority"}}
        send |= {**context.service.clock.gossip(), "$db": context.db}
        send["$readPreference"] = {"mode": mode, "tags": tags}
        if not tags:
            send["$readPreference"] = {"mode": mode}
        member = await replica_set.readable(mode, tags)
        reply = checked(await member.call(wire.command(send)))
        self.parts.append(Part(shard, member, self.namespace, reply.body))

    async def _learn(self, context: Context) -> None:
        """Take what is known of shards: those that came are watched from when they were added.  Raises RouterError."""
        if self.listing and self.listing.done():
            task, self.listing = self.listing, None
            task.result()
        marks = context.service.marks
        if marks.known <= self.known:
            return
        options = {k: v for k, v in self.fields["pipeline"][0]["$changeStream"].items() if k not in _STARTS}
        for shard in sorted(set(marks.shards) - {part.name for part in self.parts}):
            begin = max(marks.shards[shard], _after(self.known))
            stage = {"$changeStream": {**options, "startAtOperationTime": begin}}
            await self._open_part(context, shard, {**self.fields, "pipeline": [stage, *self.fields["pipeline"][1:]]})
        self.known = marks.known

    def _move_marks(self, context: Context) -> None:
        """Have the marks moved that hold events back: of shards where nothing is written, and of the shards' list."""
        reached = time_of(min(part.reached for part in self.parts))
        held = min((part.events[0][0] for part in self.parts if part.events), default="")
        waits = held or any(not part.id for part in self.parts)
        if self.listing is None and (reached > self.known if waits else reached.time > self.known.time):
            self.listing = asyncio.ensure_future(context.service.marks.reach(reached))
        if held:
            for part in self.parts:
                if not part.events and part.mark < held:
                    context.service.marks.note(part.name, _after(time_of(held)))

    def _step(self, service: Service) -> float:
        """How long the next getMores wait, in seconds."""
        if any(part.events for part in self.parts):
            self.held_step *= 1.5  # shorter than usual until its mark has moved, which may take an election
            return min(self.held_step, STEP_SECONDS_AT_MOST)
        self.held_step = HELD_STEP_SECONDS
        quiet = time.monotonic() - self.seen > QUIET_AFTER_SECONDS
        step = QUIET_STEP_SECONDS if quiet else STEP_SECONDS
        return min(step + service.cursors.streams() * STEP_SECONDS_A_STREAM, STEP_SECONDS_AT_MOST)

    async def collect(self, context: Context, size: int, seconds: float) -> list[RawBSONDocument]:
        """The next events, at most `size`; waits for the first until `seconds` have passed.  Raises RouterError."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                for part in self.parts:
                    part.heard()
                await self._learn(context)
                batch = self._release(size)
                if batch and self.looks_up:
                    batch = await self._staged(context, await self._looked_up(context, batch))
                left = deadline - time.monotonic()
                if batch or self.over or left <= 0 or not size:
                    return batch
                step = max(0.001, min(self._step(context.service), left))
                for part in self.parts:
                    part.ask(step, context.service.clock.gossip())
                self._move_marks(context)
                asked = [
                    *(part.asking for part in self.parts if part.asking),
                    *([self.listing] if self.listing else ()),
                ]
                if not asked:
                    return batch
                await asyncio.wait(asked, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        except RouterError as error:
            labels = (*error.labels, *(_LABELLED if error.code in RESUMABLE else ()))
            raise RouterError(error.code, error.message, name=error.name, labels=labels, extra=error.extra) from None

    def _release(self, size: int) -> list[RawBSONDocument]:
        batch: list[RawBSONDocument] = []
        total = 0
        while len(batch) < size and total < BATCH_BYTES and not self.over:
            waiting = [part for part in self.parts if part.events]
            reached = min([self._known_token(), *(part.reached for part in self.parts)])
            part = min(waiting, key=lambda p: p.events[0][0], default=None)
            if part is None or part.events[0][0] > reached:
                # All is known up to here; a shard whose stream has ended for good ends the whole there.
                self.over = any(not p.id and not p.events and p.mark <= reached for p in self.parts)
                self._check_resumed(reached)
                break
            token, event = part.events.popleft()
            if token == self.looking_for:
                self.looking_for = ""
            if token <= self.after:
                continue
            self._check_resumed(token)
            self.last, self.seen = token, time.monotonic()
            kind = RawBSONDocument(event).get("operationType")
            if kind in _FOR_ROUTERS:
                continue
            document = rawbson.without(event, _SORT_KEY)
            if not self.looks_up:
                _check_token(document, {token})
            total += len(document)
            batch.append(RawBSONDocument(document))
            self.over = kind == "invalidate"
        return batch

    def _check_resumed(self, reached: str) -> None:
        if self.looking_for and reached > self.looking_for:
            raise RouterError(Code.ChangeStreamFatalError, "cannot resume stream; the resume token was not found.")

    async def _looked_up(self, context: Context, events: list[RawBSONDocument]) -> list[RawBSONDocument]:
        """The events with the documents as they are now; null where there is none any more."""

        async def one(event: RawBSONDocument) -> RawBSONDocument:
            if event.get("operationType") != "update":
                return event
            space = event["ns"]
            concern = {"level": "majority", "afterClusterTime": event["clusterTime"]}
            fields = {"find": space["coll"], "filter": event["documentKey"], "limit": 1, "singleBatch": True}
            message = wire.Message(0, 0, rawbson.encode({**fields, "readConcern": concern, "$db": space["db"]}))
            reply = await find(Context(context.service, context.client, message))
            cursor = (rawbson.decode(reply) if isinstance(reply, bytes) else reply)["cursor"]
            found = next(iter(cursor["firstBatch"]), None)
            return RawBSONDocument(rawbson.encode({**rawbson.head(event), "fullDocument": found}))

        return await everywhere(one(event) for event in events)

    async def _staged(self, context: Context, events: list[RawBSONDocument]) -> list[RawBSONDocument]:
        """The client's stages, carried out by a member over events that were completed here."""
        if not self.stages:
            return events
        source = {"$documents": {"$literal": events} if events else []}
        fields = {"aggregate": 1, "pipeline": [source, *self.stages], "cursor": {"batchSize": 2**31 - 1}}
        fields |= {k: v for k, v in self.fields.items() if k in ("collation", "let")} | {"$db": context.db}
        member = await (await context.service.catalog.shard(self.parts[0].name)).primary()
        reply = rawbson.head(checked(await member.call(wire.command(fields))).body)
        results: list[RawBSONDocument] = list(rawbson.head(reply["cursor"])["firstBatch"])
        tokens = {_token(rawbson.decode(event["_id"])) for event in events}
        for result in results:
            _check_token(rawbson.raw(result), tokens)
        return results

    def _known_token(self) -> str:
        return f"82{self.known.time:08X}{self.known.inc:08X}{_AFTER_ALL}"

    def mark(self) -> dict[str, Any]:
        """The token a client resumes from when nothing else has come."""
        reached = min(part.reached for part in self.parts)
        held = any(part.events and part.events[0][0] <= reached for part in self.parts)
        known = not held and reached <= self._known_token()
        self.told = max(self.told, self.last, self.after, reached if known else "")
        return {"_data": self.told}

    async def more(self, context: Context) -> Reply:
        """The next batch."""
        seconds = context.integer("maxTimeMS") / 1000 or AWAIT_SECONDS
        batch = await self.collect(context, context.integer("batchSize") or 2**31, seconds)
        return self.reply(context, "nextBatch", batch)

    def reply(self, context: Context, name: str, batch: list[RawBSONDocument]) -> Reply:
        """The reply of an aggregate or getMore."""
        if self.over:
            context.service.cursors.forget(self)
            context.service.in_background(self.kill(context.service))
        identity = Int64(0 if self.over else self.id)
        token = {"_data": self.last} if self.over and self.last else self.mark()
        cursor = {name: batch, "id": identity, "ns": self.namespace, "postBatchResumeToken": token}
        return {"cursor": cursor, "ok": 1.0}

    async def kill(self, service: Service) -> None:
        """Close it on every member."""
        if self.listing:
            self.listing.cancel()
        await asyncio.gather(*(part.close() for part in self.parts))


def _check_token(document: bytes, tokens: set[str]) -> None:
    found = rawbson.find(document, frozenset({b"_id"})).get(b"_id")
    value = rawbson.value_of(document, found) if found else None
    if not isinstance(value, dict) or value.get("_data") not in tokens:
        raise RouterError(
            Code.ChangeStreamFatalError,
            "Encountered an event whose _id field, which contains the resume token, was modified by the pipeline."
            " Modifying the _id field of an event makes it impossible to resume the stream from that point."
            " Only transformations that retain the unmodified _id field are allowed.",
        )


async def open_stream(context: Context) -> Reply:
    """Serve an aggregate that begins with $changeStream; raises RouterError."""
    stages = [rawbson.decode(stage) for stage in pipeline_of(context)]
    options = stages[0]["$changeStream"]
    collection = context.head["aggregate"]
    if not isinstance(options, dict):
        raise RouterError(Code.StreamNeedsDocument, "$changeStream stage expects a document as argument")
    whole = bool(options.get("allChangesForCluster"))
    if context.db in ("admin", "config", "local") and not (whole and context.db == "admin" and collection == 1):
        raise RouterError(
            Code.InvalidNamespace, f"$changeStream may not be opened on the internal {context.db} database"
        )
    if sum(name in options for name in _STARTS) > 1:
        raise RouterError(
            Code.SeveralResumeOptions, "Only one type of resume option is allowed, but multiple were found."
        )
    await everywhere(
        ask(context, shard, {"ping": 1}, session=False) for shard in sorted(await context.service.catalog.load_shards())
    )
    now = context.service.clock.latest or Timestamp(int(time.time()), 0)
    if not any(name in options for name in _STARTS):
        options["startAtOperationTime"] = Timestamp(now.time, now.inc + 1)
    kept = {k: v for k, v in context.options().items() if k not in ("pipeline", "cursor", "maxTimeMS", "explain")}
    fields = {"aggregate": collection, "pipeline": stages, "cursor": {"batchSize": 0}, **kept}
    namespace = f"{context.db}.$cmd.aggregate" if collection == 1 else context.namespace
    stream = StreamCursor(context, namespace, fields)
    for name in ("resumeAfter", "startAfter"):
        if name in options:
            stream.after = _token(options[name])
            time_of(stream.after)
            stream.looking_for = stream.after if _EVENT.match(stream.after) and name == "resumeAfter" else ""
    await stream.open(context)
    cursor = rawbson.decode(context.head["cursor"])
    size = int(cursor.get("batchSize", FIRST_BATCH))
    try:
        batch = await stream.collect(context, size, 0.0)
    except BaseException:
        context.service.in_background(stream.kill(context.service))
        raise
    if not stream.over:
        context.service.cursors.add(stream)
    return stream.reply(context, "firstBatch", batch)
