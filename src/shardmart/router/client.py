"""A client's connection: reads its commands one after the other, authenticates it, runs them, writes the replies.

The SCRAM conversation is forwarded to a config server word for word; the router sees the name of the user,
never the password.  Source: MongoDB 6.0 manual, "hello"; drivers' specification "Authentication".
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import logging
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import bson.errors
from bson import Binary

from .operations.context import COMMANDS, NOBODY, Context, Peer, Reply, clean
from .operations.service import Service
from .protocol import rawbson, wire
from .protocol.errors import NOT_PRIMARY, RETRYABLE, TRANSIENT, Code, RouterError
from .routing.member import MAXIMUM_WIRE_VERSION, Connection, Member
from .routing.replica_set import PRIMARY_PREFERRED

log = logging.getLogger("router")

# Less than a member accepts (48,000,000): a batch is sent on with identities, versions and numbers of its statements.
LONGEST_MESSAGE_BYTES = 44_000_000
_MAXIMUM_QUEUED = 8
_HANDSHAKE = frozenset({"hello", "isMaster", "ismaster"})
_connection_ids = itertools.count(1)


class Client(Peer, asyncio.Protocol):
    """One client connection."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service
        self.connection_id = next(_connection_ids)
        self.gone = False
        self._buffer = bytearray()
        self._queue: deque[wire.Message] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._conversation: Connection | None = None
        self._candidate: tuple[str, str] | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by duck typing
        host, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        self.peer = f"{host}:{port}"
        self.service.clients.add(self)
        self.service.connections_created += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._writable.set()
        self._end_conversation()
        self.service.clients.discard(self)
        self._queue.clear()
        # A read is of no use to anybody now; a write is carried to its end, as mongos does.
        if self._task and self.running and self.running.cancel:
            self._task.cancel()
        self.service.cursors.client_gone(self, self.service)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while message := wire.take(self._buffer):
                self._queue.append(message)
        except wire.MalformedMessageError as error:
            log.info("client %s: %s; connection closed", self.peer, error)
            self.close()
            return
        if len(self._queue) > _MAXIMUM_QUEUED and self.transport:
            self.transport.pause_reading()
        if self._queue and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._serve())

    # commands

    async def _serve(self) -> None:
        while self._queue and not self.gone:
            message = self._queue.popleft()
            reply = await self._answer(message)
            if self.gone or self.transport is None:
                return
            if not message.more_to_come:
                self.transport.write(wire.build_reply(reply, message))
                await self._writable.wait()
            if len(self._queue) <= _MAXIMUM_QUEUED:
                self.transport.resume_reading()

    async def _answer(self, request: wire.Message) -> bytes:
        gossip = self.service.clock.gossip if self.user or not self.service.users.enabled else dict
        context: Context | None = None
        try:
            context = Context(self.service, self, request)
            if context.name in _HANDSHAKE:  # drivers begin with this time, before they log in
                gossip = self.service.clock.gossip
            reply = await self._run(context)
        except RouterError as error:
            reply = for_client(error, context).reply()
            if context and context.joined:
                self.service.transactions.failed(context)
        except bson.errors.BSONError as error:
            reply = RouterError(Code.InvalidBSON, f"InvalidBSON: {error}").reply()
        except Exception:
            log.exception("client %s: internal error", self.peer)
            message = "internal error of the development router; its log has the details"
            reply = RouterError(Code.InternalError, message).reply()
        clock = gossip()
        if context and context.joined:
            clock |= self.service.transactions.recovery_token(context)
        if isinstance(reply, bytes):
            return clean(reply, clock)
        if "$clusterTime" in clock and "operationTime" not in reply:
            reply["operationTime"] = clock["$clusterTime"]["clusterTime"]
        return rawbson.encode({**reply, **clock})

    async def _run(self, context: Context) -> Reply:
        name = context.name
        if context.message.legacy and name not in _HANDSHAKE:
            message = f"Unsupported OP_QUERY command: {name}. The client driver may require an upgrade."
            raise RouterError(Code.UnsupportedOpQueryCommand, message)
        self.service.counters["command"] += 1
        if name in _HANDSHAKE:
            return await self._hello(context)
        if name in ("saslStart", "saslContinue"):
            return await self._authenticate(context.name, context.head, context.db)
        if name == "logout":
            self.user, self.digest = None, NOBODY
            return {"ok": 1.0}
        found = COMMANDS.get(name)
        if found is None:
            if self.service.users.enabled and self.user is None:
                raise RouterError(Code.Unauthorized, f"command {name} requires authentication")
            raise RouterError(Code.CommandNotFound, f"no such command: '{name}'")
        if not found.public:
            if self.user or not self.service.users.enabled:
                self.service.clock.observe_client(context.head.get("$clusterTime"))
            await self.service.users.check(context, found.access)
            if not context.in_transaction:
                context.check_read_concern()
        if context.in_transaction:
            if not found.transaction:
                message = f"Cannot run '{name}' in a multi-document transaction."
                raise RouterError(Code.OperationNotSupportedInTransaction, message)
            self.service.transactions.begin(context)
            context.joined = True
        limit = 0 if name == "getMore" else context.integer("maxTimeMS")
        self.running = found
        try:
            async with asyncio.timeout(limit / 1000 + 0.05 if limit else None):
                return await found.handler(context)
        except TimeoutError:
            raise RouterError(Code.MaxTimeMSExpired, "operation exceeded time limit") from None
        finally:
            self.running = None

    async def _hello(self, context: Context) -> dict[str, Any]:
        head = context.head
        reply: dict[str, Any] = {
            "isWritablePrimary" if context.name == "hello" else "ismaster": True,
            **({"helloOk": True} if head.get("helloOk") else {}),
            "msg": "isdbgrid", "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": LONGEST_MESSAGE_BYTES, "maxWriteBatchSize": 100_000,
            "localTime": datetime.now(UTC), "logicalSessionTimeoutMinutes": 30, "connectionId": self.connection_id,
            "maxWireVersion": MAXIMUM_WIRE_VERSION, "minWireVersion": 0,
        }  # fmt: skip
        mechanisms = head.get("saslSupportedMechs")
        if isinstance(mechanisms, str):
            try:
                ask = {"hello": 1, "saslSupportedMechs": mechanisms, "$db": "admin"}
                reply["saslSupportedMechs"] = (await self.service.config.read(ask, 5.0)).get("saslSupportedMechs", [])
            except RouterError as error:
                log.info("cannot ask the config servers for mechanisms: %s", error.message)
        first = context.document("speculativeAuthenticate")
        if first and self.service.users.enabled:
            try:  # the first step of logging in; where it fails, the client begins anew and is told why
                step = rawbson.decode(await self._authenticate("saslStart", first, str(first.get("db", "admin")), 2.0))
                if "payload" in step:
                    reply["speculativeAuthenticate"] = step
            except RouterError as error:
                log.info("client %s: %s", self.peer, error.message)
        return {**reply, "ok": 1.0}

    # authentication

    async def _authenticate(self, name: str, head: Mapping[str, Any], db: str, seconds: float = 10.0) -> bytes:
        """A step of logging in; `seconds` to look for a config server.  Raises RouterError."""
        fields = ("mechanism", "payload", "options", "autoAuthorize", "conversationId")
        command = {name: 1, **{k: head[k] for k in fields if k in head}, "$db": db}
        payload = head.get("payload")
        if not isinstance(payload, bytes | str):
            raise RouterError(Code.TypeMismatch, f"BSON field '{name}.payload' must be binary data")
        if name == "saslStart":
            self._end_conversation()
            if head.get("mechanism") not in ("SCRAM-SHA-256", "SCRAM-SHA-1"):
                message = "the development router authenticates with SCRAM-SHA-256 and SCRAM-SHA-1 only"
                raise RouterError(Code.MechanismUnavailable, message)
            self._candidate = (_user_of(bytes(payload) if isinstance(payload, bytes) else b""), db)
            if self._candidate == ("__system", "local"):
                raise RouterError(Code.AuthenticationFailed, "Authentication failed.")
            connect = functools.partial(Member.connect, authenticate=False)
            self._conversation = await self.service.config.on_readable(PRIMARY_PREFERRED, connect, seconds)
        if self._conversation is None or self._candidate is None:
            raise RouterError(Code.ProtocolError, "No SASL session state found")
        try:
            reply = await self._conversation.call(wire.command(command), 30.0)
        except RouterError:
            self._end_conversation()
            raise
        if reply.refused:
            self._end_conversation()
        elif reply.document.get("done"):
            await self.service.users.load(*self._candidate)
            self.user = self._candidate
            self.digest = Binary(hashlib.sha256("@".join(self.user).encode()).digest())
            self._end_conversation()
        return rawbson.without(reply.body, frozenset({b"operationTime"}))

    def _end_conversation(self) -> None:
        if self._conversation:
            self._conversation.close()
        self._conversation = None


def for_client(error: RouterError, context: Context | None) -> RouterError:
    """The error as mongos shows it: labelled for retries, a member's change of state turned into HostUnreachable."""
    code, message, labels = error.code, error.message, set(error.labels)
    name, in_transaction = (context.name, context.in_transaction) if context else ("", False)
    if code in RETRYABLE and (name == "commitTransaction" if in_transaction else context and context.retryable):
        labels.add("RetryableWriteError")
    elif code in TRANSIENT and in_transaction and name not in ("commitTransaction", "abortTransaction"):
        labels.add("TransientTransactionError")
    if code in NOT_PRIMARY:
        code, message = Code.HostUnreachable, f"the primary of a shard changed: {message}"
    shown = error.name if code == error.code else None
    return RouterError(code, message, name=shown, labels=sorted(labels), extra=error.extra)


def _user_of(client_first: bytes) -> str:
    """The user of a SCRAM client-first message `n,,n=user,r=nonce` (RFC 5802, section 5.1)."""
    for attribute in client_first.split(b","):
        if attribute.startswith(b"n="):
            return attribute[2:].decode(errors="replace").replace("=2C", ",").replace("=3D", "=")
    raise RouterError(Code.AuthenticationFailed, "Authentication failed.")
