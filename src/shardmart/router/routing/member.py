"""One mongod as the router sees it: an address and a pool of authenticated connections.

A call takes an idle connection (or opens one), sends a message, and puts the connection back.  A cancelled
call closes its connection, which makes the mongod interrupt a read it was doing for us.  While calls are
outstanding for long, the member is probed on a connection of its own, so that a member which stopped answering
(a stopped process, a partition) fails the calls instead of hanging them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from bson import Int64, Timestamp
from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson, scram, wire
from ..protocol.errors import MemberUnreachableError, RouterError
from ..protocol.tls import Tls

CONNECT_SECONDS = 5.0
PROBE_SECONDS = 5.0
IDLE_SECONDS = 120.0
OPEN_SECONDS = 30.0
MAXIMUM_WIRE_VERSION = 17  # MongoDB 6.0
MAXIMUM_CONNECTIONS = 200
MAXIMUM_CLIENT_LEAD_SECONDS = 60
BUFFER_BYTES = 4 * 1024 * 1024  # of an answer, before the member is asked to wait


class ClusterClock:
    """The greatest cluster time of all replies, `latest`, which is told to members and clients; None before the first.

    Members that see the router as `__system` sign their times with a dummy signature and accept any; so a time that a
    client brings is believed only when it is not ahead of this machine's clock by more than a minute.  Source:
    MongoDB 6.0 driver specification "Causal Consistency".
    """

    def __init__(self) -> None:
        self.latest: Timestamp | None = None

    def gossip(self) -> dict[str, Any]:
        """What to send as `$clusterTime` to members and clients; empty before the first reply of a member."""
        if not self.latest:
            return {}
        return {"$clusterTime": {"clusterTime": self.latest, "signature": {"hash": b"\x00" * 20, "keyId": Int64(0)}}}

    def observe(self, reply: wire.Message) -> None:
        """Learn from the reply of a member."""
        self._take(rawbson.get(reply.body, b"$clusterTime", b"clusterTime"))

    def observe_client(self, cluster_time: Any) -> None:
        """Learn from a client, which may have learned from another router; a time from the future is ignored."""
        told = rawbson.decode(cluster_time).get("clusterTime") if isinstance(cluster_time, RawBSONDocument) else None
        if isinstance(told, Timestamp) and told.time <= time.time() + MAXIMUM_CLIENT_LEAD_SECONDS:
            self._take(told)

    def _take(self, told: Any) -> None:
        if isinstance(told, Timestamp) and (self.latest is None or told > self.latest):
            self.latest = told


@dataclass
class Credentials:
    """How the router talks to members: the key of the keyfile (None: no authentication), TLS (None: none)."""

    key: str | None = None
    tls: Tls | None = None
    clock: ClusterClock = field(default_factory=ClusterClock)


class Connection:
    """A connection to the mongod at `address`; one call at a time."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.address, self._reader, self._writer = address, reader, writer
        self.idle_since = self.busy_since = 0.0

    @property
    def closed(self) -> bool:
        """Whether one of both ends has closed it."""
        return self._writer.is_closing() or self._reader.at_eof()

    async def call(self, data: bytes, seconds: float | None = None) -> wire.Message:
        """Send a message and return the answer; raises MemberUnreachableError.  Without an answer it is closed."""
        if self.closed:
            raise MemberUnreachableError(f"{self.address}: connection closed", sent=False)
        self.busy_since = time.monotonic()
        answered = False
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(data)
                header = await self._reader.readexactly(wire.HEADER.size)
                message = wire.parse(header + await self._reader.readexactly(wire.length(header) - len(header)))
            answered = True
            return message
        except TimeoutError as error:  # ours says nothing, the system's does
            raise MemberUnreachableError(f"{self.address}: {str(error) or f'no answer in {seconds:g} s'}") from None
        except (OSError, EOFError, wire.MalformedMessageError) as error:
            raise MemberUnreachableError(f"{self.address}: connection closed: {error}") from None
        finally:
            if not answered:  # the answer of this call would be that of the next one
                self.close()

    async def command(self, document: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Run a command and return the whole reply as a dict, errors included."""
        return (await self.call(wire.command(document), seconds)).document

    def close(self) -> None:
        """Close the connection; an outstanding call fails."""
        self._writer.transport.abort()


class Member:
    """A mongod at `address` ("host:port") and the connections to it."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self.address = address
        self._credentials = credentials
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._slots = asyncio.Semaphore(MAXIMUM_CONNECTIONS)
        self._watch: asyncio.Task[None] | None = None

    async def connect(self, *, authenticate: bool = True) -> Connection:
        """A new connection of the caller's own, authenticated as `__system` unless told otherwise."""
        host, _, port = self.address.rpartition(":")
        tls = self._credentials.tls
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                context = tls.members if tls else None
                ends = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, limit=BUFFER_BYTES)
                connection = Connection(self.address, *ends)
                if authenticate and self._credentials.key:
                    try:
                        await scram.authenticate(connection.command, self._credentials.key)
                    except BaseException:
                        connection.close()
                        raise
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"no connection in {CONNECT_SECONDS:g} seconds"
            raise MemberUnreachableError(f"cannot reach {self.address}: {reason}", sent=False) from None
        return connection

    async def call(self, data: bytes, seconds: float | None = None, *, waits: bool = False) -> wire.Message:
        """Send a message on a pooled connection and return the answer; raises MemberUnreachableError.

        A call that `waits` for something to happen (a getMore that may wait) takes no place from those that work.
        """
        async with contextlib.nullcontext() if waits else self._slots:
            connection = self._checkout() or await self.connect()
            self._busy.add(connection)
            if self._watch is None or self._watch.done():
                self._watch = asyncio.create_task(self._watch_outstanding())
            try:
                reply = await connection.call(data, seconds)
            finally:
                self._busy.discard(connection)
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        self._credentials.clock.observe(reply)
        return reply

    async def call_as_server(self, data: bytes) -> wire.Message:
        """Send a message that only a server of the cluster may send, on a connection that says that it is one."""
        with contextlib.closing(await self.connect()) as connection:
            versions = {"minWireVersion": MAXIMUM_WIRE_VERSION, "maxWireVersion": MAXIMUM_WIRE_VERSION}
            await connection.command({"hello": 1, "internalClient": versions, "$db": "admin"}, CONNECT_SECONDS)
            reply = await connection.call(data, OPEN_SECONDS)
        self._credentials.clock.observe(reply)
        return reply

    async def command(self, document: dict[str, Any], seconds: float | None = None) -> dict[str, Any]:
        """Run a command and return the reply as a dict; raises RouterError when it says `ok: 0`."""
        return wire.checked(await self.call(wire.command(document), seconds)).document

    def _checkout(self) -> Connection | None:
        self._close_expired()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    def _close_expired(self) -> None:
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle and (self._idle[0].closed or self._idle[0].idle_since < oldest):
            self._idle.pop(0).close()

    def drop_connections(self) -> None:
        """Close every connection; outstanding calls fail with MemberUnreachableError."""
        for connection in [*self._idle, *self._busy]:
            connection.close()
        self._idle.clear()

    async def _watch_outstanding(self) -> None:
        while self._busy or self._idle:
            await asyncio.sleep(PROBE_SECONDS)
            overdue = time.monotonic() - PROBE_SECONDS
            if any(connection.busy_since < overdue for connection in self._busy):
                try:
                    with contextlib.closing(await self.connect(authenticate=False)) as probe:
                        await probe.command({"hello": 1, "$db": "admin"}, PROBE_SECONDS)
                except RouterError:
                    self.drop_connections()
            self._close_expired()
