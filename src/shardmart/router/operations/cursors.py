"""Open cursors; those merged here from several shards are in `merged_cursors`.

A cursor is used with the id the client got, by the user who opened it.  When the connection that used it last is
closed and nobody takes it up in `GRACE_SECONDS`, it is killed on the members, so that a client which vanished
leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson import Binary, Int64

from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..routing.member import Member
from .context import Context, Peer, Reply, as_document
from .send import cursor_id

if TYPE_CHECKING:
    from .service import Service

Session = dict[str, Any] | None  # what getMore says of it; None: the client's own
GRACE_SECONDS = 30.0
FIRST_BATCH = 101
BATCH_BYTES = 15 * 1024 * 1024


@dataclass
class Remote:
    """A cursor that a member keeps open; `id` 0 when it is closed."""

    member: Member
    namespace: str
    id: int

    async def more(self, fields: dict[str, Any], *, name: str = "getMore", waits: bool = False) -> wire.Message:
        """The answer to getMore with these fields; raises RouterError."""
        database, _, collection = self.namespace.partition(".")
        command = {name: Int64(self.id), **fields, "collection": collection, "$db": database}
        reply = wire.checked(await self.member.call(wire.command(command), waits=waits))
        self.id = cursor_id(reply.body)
        return reply

    async def kill(self) -> None:
        """killCursors; a member that does not answer keeps the cursor until it times out."""
        database, _, collection = self.namespace.partition(".")
        if self.id:
            command = {"killCursors": collection, "cursors": [Int64(self.id)], "$db": database}
            with contextlib.suppress(RouterError):
                await self.member.command(command, 5.0)


class Cursor:
    """An open cursor. `session_id` is the client's logical session, if it has one."""

    def __init__(self, context: Context, identity: int, namespace: str) -> None:
        self.service = context.service
        self.id = identity
        self.namespace = namespace
        self.shown = namespace  # to the client: the name of the view it asked for
        self.user = context.client.user
        self.client: Peer = context.client
        lsid = context.lsid()
        self.session_id = bytes(lsid["id"]) if lsid else None
        self.busy = False

    async def more(self, context: Context) -> Reply:
        """The reply to getMore."""
        raise NotImplementedError

    async def kill(self) -> None:
        """Close it on the members."""
        raise NotImplementedError

    async def close(self) -> None:
        """Forget it, and close it on the members."""
        self.service.cursors.forget(self)
        await self.kill()


class MemberCursor(Cursor):
    """A cursor that lives on one member, under the same id; `session`: where it is not the client's own."""

    get_more = "getMore"

    def __init__(self, context: Context, member: Member, reply: bytes, *, session: Session = None) -> None:
        super().__init__(context, cursor_id(reply), rawbson.get(reply, b"cursor", b"ns"))
        self.remote = Remote(member, self.namespace, self.id)
        self.session = session

    async def more(self, context: Context) -> Reply:
        """Forward getMore."""
        session = context.session() if self.session is None else self.session
        fields = {**context.options(), **session, **self.service.clock.gossip()}
        reply = await self.remote.more(fields, name=self.get_more, waits="maxTimeMS" in fields)
        if not self.remote.id:
            self.ended()
        return reply.body if self.shown == self.namespace else shown_as(reply.body, self.shown)

    def ended(self) -> None:
        """The member has closed it."""
        self.service.cursors.forget(self)

    async def kill(self) -> None:
        """killCursors on the member."""
        await self.remote.kill()


class ClusterCursor(MemberCursor):
    """A cursor over all shards: no command kills it, but ending the session of its parts on the shards does."""

    get_more = "clusterGetMore"

    def ended(self) -> None:
        """The session is free for another, unless what kills the cursor, and with it the session, is under way."""
        if self.service.cursors.open.get(self.id) is self and self.session:
            self.service.cursors.sessions.append(self.session)
        super().ended()

    async def kill(self) -> None:
        """killSessions on every shard; the next clusterGetMore then finds its parts gone, and closes the rest."""
        assert self.session is not None
        command = {"killSessions": [self.session["lsid"]], "$db": "admin"}
        shards = self.service.catalog.shards.values()
        members = {member for shard in shards for member in shard.members.values()} | {self.remote.member}
        await asyncio.gather(*(member.command(command, 5.0) for member in members), return_exceptions=True)
        with contextlib.suppress(RouterError, TimeoutError):
            async with asyncio.timeout(5.0):
                for _ in range(3):
                    await self.remote.more(self.session, name=self.get_more)


class Cursors:
    """All open cursors by the id clients know, and the sessions of cluster cursors."""

    def __init__(self) -> None:
        self.open: dict[int, Cursor] = {}
        self.sessions: list[dict[str, Any]] = []  # that are free

    def add(self, cursor: Cursor) -> None:
        """Keep a cursor for getMore."""
        self.open[cursor.id] = cursor

    def forget(self, cursor: Cursor) -> None:
        """The cursor is exhausted or dead."""
        self.open.pop(cursor.id, None)

    def take_session(self) -> dict[str, Any]:
        """{"lsid": ...} of a session of the router's own, not used by any other open cursor."""
        return self.sessions.pop() if self.sessions else {"lsid": {"id": Binary.from_uuid(uuid.uuid4())}}

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
        cursor = self.get(context, context.integer("getMore", negative=True))
        namespace = f"{context.db}.{context.head.get('collection')}"
        if namespace != cursor.shown:
            message = f"Requested getMore on namespace '{namespace}', but cursor belongs to '{cursor.shown}'"
            raise RouterError(Code.Unauthorized, message)
        if cursor.busy:
            raise RouterError(Code.CursorInUse, f"cursor id {cursor.id} is already in use")
        cursor.busy, cursor.client = True, context.client
        try:
            return await cursor.more(context)
        except (RouterError, asyncio.CancelledError) as error:
            if not isinstance(error, RouterError) or error.code != Code.MaxTimeMSExpired:
                context.service.in_background(cursor.close())
            raise
        finally:
            cursor.busy = False

    def client_gone(self, client: Peer, service: Service) -> None:
        """A connection was closed: kill its cursors unless another connection takes them up soon."""
        if any(cursor.client is client for cursor in self.open.values()):
            service.in_background(self._kill_later(client, service))

    async def _kill_later(self, client: Peer, service: Service) -> None:
        await asyncio.sleep(float(service.options.get("cursorGraceSeconds", GRACE_SECONDS)))
        for cursor in [cursor for cursor in self.open.values() if cursor.client is client]:
            await cursor.close()

    async def end_session(self, session_id: bytes, user: tuple[str, str] | None) -> None:
        """Kill the cursors of a user's logical session that ended."""
        for cursor in [c for c in self.open.values() if c.session_id == session_id and c.user == user]:
            await cursor.close()


def shown_as(reply: Reply, namespace: str) -> dict[str, Any]:
    """The reply of a cursor with the namespace the client knows it by."""
    document = as_document(reply)
    document["cursor"]["ns"] = namespace
    return document


def keep_cursor(context: Context, member: Member, reply: wire.Message, *, session: Session = None) -> Reply:
    """Remember a cursor that a member left open, and pass its reply on."""
    if cursor_id(reply.body):
        context.service.cursors.add(MemberCursor(context, member, reply.body, session=session))
    return reply.body
