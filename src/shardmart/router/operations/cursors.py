"""Open cursors: on one member, or merged here from several shards.

A cursor is used with the id the client got, by the user who opened it.  When the connection that used it last is
closed and nobody takes it up in `GRACE_SECONDS`, it is killed on the members, so that a client which vanished
leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from bson import Binary, Int64
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, wire
from ..protocol.errors import Code, MemberUnreachableError, RouterError, failure
from ..protocol.peer import Peer
from ..routing.member import Member
from ..routing.replica_set import error_of
from ..routing.shard_key import comparable
from .context import Context, Reply
from .send import checked, cursor_id

if TYPE_CHECKING:
    from .service import Service

GRACE_SECONDS = 30.0
IDLE_SECONDS = 1800.0
FIRST_BATCH = 101
BATCH_BYTES = 15 * 1024 * 1024
_BATCHES = frozenset({b"cursor"})
_SORT_KEY = frozenset({b"$sortKey"})


class Descending:
    """A value that sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: Descending) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descending) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)


class Cursor:
    """An open cursor. `session_id` is the client's logical session, if it has one."""

    def __init__(self, context: Context, identity: int, namespace: str) -> None:
        self.id = identity
        self.namespace = namespace
        self.shown = namespace  # to the client: the name of the view it asked for
        self.user = context.client.user
        self.client: Peer = context.client
        lsid = context.lsid()
        self.session_id = bytes(lsid["id"]) if lsid else None
        self.used = time.monotonic()
        self.busy = False

    async def more(self, context: Context) -> Reply:
        """The reply to getMore."""
        raise NotImplementedError

    async def kill(self, service: Service) -> None:
        """Close it on the members."""
        raise NotImplementedError


class MemberCursor(Cursor):
    """A cursor that lives on one member, under the same id."""

    def __init__(self, context: Context, member: Member, identity: int, namespace: str) -> None:
        super().__init__(context, identity, namespace)
        self.member = member
        self.apart = False  # opened outside the client's session

    async def more(self, context: Context) -> Reply:
        """Forward getMore."""
        fields = context.service.transactions.fields(context) if context.in_transaction else context.session()
        if self.apart:
            fields = {}
        command = {"getMore": Int64(self.id), **context.options(), **fields, **context.service.clock.gossip()}
        command["collection"] = self.namespace.partition(".")[2]
        data = wire.command({**command, "$db": context.db})
        reply = checked(await self.member.call(data, waits="maxTimeMS" in command))
        if not cursor_id(reply.body):
            context.service.cursors.forget(self)
        return reply.body if self.shown == self.namespace else shown_as(reply.body, self.shown)

    async def kill(self, service: Service) -> None:
        """killCursors on the member."""
        database, _, collection = self.namespace.partition(".")
        await self.member.command({"killCursors": collection, "cursors": [Int64(self.id)], "$db": database}, 5.0)


class ClusterCursor(Cursor):
    """A cursor of `clusterAggregate`: no command kills it, but ending the session of its parts on the shards does."""

    def __init__(self, context: Context, member: Member, identity: int, namespace: str, session: Binary) -> None:
        super().__init__(context, identity, namespace)
        self.member = member
        self._session = session

    async def more(self, context: Context) -> Reply:
        """Forward as clusterGetMore."""
        command = {"clusterGetMore": Int64(self.id), **context.options(), "lsid": {"id": self._session}}
        command |= {**context.service.clock.gossip(), "$db": context.db}
        reply = checked(await self.member.call(wire.command(command)))
        if not cursor_id(reply.body):
            context.service.cursors.forget(self)
            context.service.cursors.release_session(self._session)
        return reply.body

    async def kill(self, service: Service) -> None:
        """killSessions on every shard; the next clusterGetMore then finds its parts gone, and closes the rest."""
        command = {"killSessions": [{"id": self._session}], "$db": "admin"}
        shards = service.catalog.shards.values()
        members = {member for shard in shards for member in shard.members.values()} | {self.member}
        await asyncio.gather(*(member.command(command, 5.0) for member in members), return_exceptions=True)
        database, _, collection = self.namespace.partition(".")
        more = {
            "clusterGetMore": Int64(self.id),
            "collection": collection,
            "lsid": {"id": self._session},
            "$db": database,
        }
        with contextlib.suppress(RouterError):
            for _ in range(3):
                await self.member.command(more, 5.0)


class Part:
    """One shard's share of a merged cursor."""

    def __init__(self, member: Member, reply: bytes, directions: list[int]) -> None:
        self.member = member
        self.buffer: deque[tuple[tuple[Any, ...], bytes]] = deque()
        self.directions = directions
        self.id = 0
        self.take(reply)

    def take(self, reply: bytes) -> None:
        """Take the batch of a reply."""
        self.id = cursor_id(reply)
        start = rawbson.find(reply, _BATCHES)[b"cursor"][1]
        batch = rawbson.find(reply, frozenset({b"firstBatch"}), start) or rawbson.find(
            reply, frozenset({b"nextBatch"}), start
        )
        (_, first, _) = next(iter(batch.values()))
        for _, _, at, after in rawbson.walk(reply, first):
            document = reply[at:after]
            self.buffer.append((self._key(document), document) if self.directions else ((), document))

    def _key(self, document: bytes) -> tuple[Any, ...]:
        (kind, start, end) = rawbson.find(document, _SORT_KEY)[b"$sortKey"]
        if kind not in (0x03, 0x04):  # a distance
            return (comparable(document, kind, start, end),)
        values = [comparable(document, kind, at, after) for _, kind, at, after in rawbson.walk(document, start)]
        return tuple(v if d > 0 else Descending(v) for v, d in zip(values, self.directions, strict=True))


class MergedCursor(Cursor):
    """A find over several shards, merged by its sort order; without one, shard after shard."""

    def __init__(
        self, context: Context, namespace: str, parts: list[Part], *, skip: int, limit: int, partial: bool = False
    ) -> None:
        super().__init__(context, random.getrandbits(62) | 1, namespace)  # a handle, checked against its user
        self.parts = parts
        self._partial = partial
        self.missing = False  # whether a shard did not answer, where that is allowed
        self._skip = skip
        self._left = limit or None
        self._sorted = bool(parts and parts[0].directions)

    async def batch(self, context: Context, size: int) -> list[RawBSONDocument]:
        """At most `size` documents; fewer at the end, or before a wait for more."""
        result: list[RawBSONDocument] = []
        total = 0
        while len(result) < size and total < BATCH_BYTES and self._left != 0:
            document = await self._next(context, wait=not result)
            if document is None:
                break
            if self._skip:
                self._skip -= 1
                continue
            if self._left is not None:
                self._left -= 1
            total += len(document)
            result.append(RawBSONDocument(document))
        return result

    @property
    def exhausted(self) -> bool:
        """Whether nothing can come any more."""
        return self._left == 0 or not any(part.buffer or part.id for part in self.parts)

    async def _next(self, context: Context, *, wait: bool) -> bytes | None:
        if self._sorted:
            for part in self.parts:
                if not part.buffer and part.id:
                    await self._fetch(context, part)
            candidates = [part for part in self.parts if part.buffer]
            if not candidates:
                return None
            part = min(candidates, key=lambda p: p.buffer[0][0])
            return rawbson.without(part.buffer.popleft()[1], _SORT_KEY)
        for part in self.parts:
            if part.buffer:
                return part.buffer.popleft()[1]
        for part in self.parts:
            if wait and part.id:
                await self._fetch(context, part)
                if part.buffer:
                    return part.buffer.popleft()[1]
        return None

    async def _fetch(self, context: Context, part: Part) -> None:
        database, _, collection = self.namespace.partition(".")
        fields = context.service.transactions.fields(context) if context.in_transaction else context.session()
        size = context.integer("batchSize") if context.name == "getMore" else 0
        if size:
            fields["batchSize"] = Int64(size)
        while part.id and not part.buffer:
            command = {"getMore": Int64(part.id), "collection": collection, **fields, **context.service.clock.gossip()}
            try:
                reply = await part.member.call(wire.command({**command, "$db": database}))
            except MemberUnreachableError:
                if not self._partial:
                    raise
                part.id, self.missing = 0, True
                return
            if error := error_of(reply):
                part.id = 0
                raise failure(error)
            part.take(reply.body)

    async def more(self, context: Context) -> Reply:
        """The next batch of the merge."""
        batch = await self.batch(context, context.integer("batchSize") or 2**31)
        if self.exhausted:
            context.service.cursors.forget(self)
            await self.kill(context.service)
        cursor = {"id": Int64(0 if self.exhausted else self.id), "ns": self.shown, "nextBatch": batch}
        return {"cursor": cursor | ({"partialResultsReturned": True} if self.missing else {}), "ok": 1.0}

    async def kill(self, service: Service) -> None:
        """killCursors for every part that is still open."""
        database, _, collection = self.namespace.partition(".")
        for part in self.parts:
            if part.id:
                command = {"killCursors": collection, "cursors": [Int64(part.id)], "$db": database}
                part.id = 0
                with contextlib.suppress(RouterError):
                    await part.member.command(command, 5.0)


class Cursors:
    """All open cursors by the id clients know, and the sessions of cluster cursors."""

    def __init__(self) -> None:
        self.open: dict[int, Cursor] = {}
        self._sessions: list[Binary] = []

    def add(self, cursor: Cursor) -> None:
        """Keep a cursor for getMore."""
        self.open[cursor.id] = cursor

    def forget(self, cursor: Cursor) -> None:
        """The cursor is exhausted or dead."""
        self.open.pop(cursor.id, None)

    def take_session(self) -> Binary:
        """A logical session id of the router's own, not used by any other open cursor."""
        return self._sessions.pop() if self._sessions else Binary.from_uuid(uuid.uuid4())

    def release_session(self, session: Binary) -> None:
        """The cursor of that session is done."""
        self._sessions.append(session)

    def get(self, context: Context, identity: int) -> Cursor:
        """The cursor `identity` of the client's user; raises RouterError 43 or 13."""
        cursor = self.open.get(identity)
        if cursor is None:
            raise RouterError(Code.CursorNotFound, f"Cursor not found (namespace: '{context.db}', id: {identity}).")
        if cursor.user != context.client.user:
            raise RouterError(Code.Unauthorized, f"cursor id {identity} was not created by the authenticated user")
        return cursor

    async def more(self, context: Context) -> Reply:
        """Serve getMore."""
        cursor = self.get(context, int(context.head["getMore"]))
        namespace = f"{context.db}.{context.head.get('collection')}"
        if namespace != cursor.shown:
            raise RouterError(
                Code.Unauthorized,
                f"Requested getMore on namespace '{namespace}', but cursor belongs to '{cursor.shown}'",
            )
        if cursor.busy:
            raise RouterError(Code.CursorInUse, f"cursor id {cursor.id} is already in use")
        cursor.busy, cursor.client = True, context.client
        try:
            return await cursor.more(context)
        except (RouterError, asyncio.CancelledError) as error:
            if not isinstance(error, RouterError) or error.code != Code.MaxTimeMSExpired:
                self.forget(cursor)
                context.service.in_background(cursor.kill(context.service))
            raise
        finally:
            cursor.busy, cursor.used = False, time.monotonic()

    def client_gone(self, client: Peer, service: Service) -> None:
        """A connection was closed: kill its cursors unless another connection takes them up soon."""
        mine = [cursor for cursor in self.open.values() if cursor.client is client]
        if mine:
            service.in_background(self._kill_later(mine, client, service))

    async def _kill_later(self, cursors: list[Cursor], client: Peer, service: Service) -> None:
        await asyncio.sleep(float(service.options.get("cursorGraceSeconds", GRACE_SECONDS)))
        for cursor in cursors:
            if cursor.client is client and self.open.get(cursor.id) is cursor:
                self.forget(cursor)
                await cursor.kill(service)

    async def end_session(self, session_id: bytes, user: tuple[str, str] | None, service: Service) -> None:
        """Kill the cursors of a user's logical session that ended."""
        for cursor in [c for c in self.open.values() if c.session_id == session_id and c.user == user]:
            self.forget(cursor)
            await cursor.kill(service)


def shown_as(reply: Reply, namespace: str) -> dict[str, Any]:
    """The reply of a cursor with the namespace the client knows it by."""
    document = rawbson.decode(reply) if isinstance(reply, bytes) else reply
    document["cursor"]["ns"] = namespace
    return document


def keep_cursor(context: Context, member: Member, reply: wire.Message, *, apart: bool = False) -> Reply:
    """Remember a cursor that a member left open (`apart` from the client's session), and pass its reply on."""
    if identity := cursor_id(reply.body):
        cursor = rawbson.find(reply.body, frozenset({b"cursor"}))[b"cursor"]
        namespace = rawbson.value_of(reply.body, rawbson.find(reply.body, frozenset({b"ns"}), cursor[1])[b"ns"])
        kept = MemberCursor(context, member, identity, namespace)
        kept.apart = apart
        context.service.cursors.add(kept)
    return reply.body
