"""The connection to one node: it knows whether an answer came from the node and the process that it must come from.

What an operation of a node relies on is checked by the operation itself, not by a memory of an earlier check:
- the *fence*, a document beside the records that is read in the same query as a record, says whose data this is and
  which epoch of the ring it serves; a validator on both collections refuses writes of an older epoch (error 121);
- a mongod gives every start of itself another `topologyVersion.processId` (`hello`, MongoDB 4.4 and later).  When a
  connection was opened since the last look, the process is looked at after the operation: if it is the one that was
  looked at before, the operation met it too, for a process never comes back.
So an answer never comes from swapped ports, from a folder restored from a copy, or from a process that lost its last
writes, unless it has been compared first (`upkeep`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import pymongo
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteError,
)
from pymongo.monitoring import ConnectionCreatedEvent, ConnectionPoolListener
from pymongo.write_concern import WriteConcern

from ...tasks import StrayCancellationError, no_lost_cancellation, no_stray_cancellation
from ..errors import NodeAwayError, NodeRefusesError, SettingsError, StaleRingError
from .record import CODEC, Document

FENCE = {"ring": "fence"}
"""`_id` of the fence; keys that are documents have other fields, so no key is like it."""
WAITS = "it was started again and waits to be compared with the others"
VALIDATION_FAILED, AUTHENTICATION_FAILED = 121, 18
WORK_SECONDS = 30.0
"""How long one request of upkeep or of a move may take."""
Answer = TypeVar("Answer")


class _Connections(ConnectionPoolListener):
    """Counts connections as they are opened; it never opens or closes one."""

    def __init__(self) -> None:
        self.opened = 0

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        self.opened += 1

    def _nothing(self, event: Any) -> None:
        """The other events say nothing we need."""

    pool_created = pool_ready = pool_cleared = pool_closed = _nothing
    connection_ready = connection_closed = connection_check_out_started = _nothing
    connection_check_out_failed = connection_checked_out = connection_checked_in = _nothing


class Connection:
    """See the module.  Every operation ends within `timeout_seconds`, with NodeAwayError when the node did not answer.

    `expect` says whose data and which process it must be; until then, and after it did not answer, it is `away`.
    """

    def __init__(self, name: str, uri: str, database: str, timeout_seconds: float) -> None:
        self.name = name
        self.away: str | None = "not asked yet"
        self.other_data = False
        """Whether its server answered last, and holds other data than this node's, or none."""
        self.absences = 0
        """How often it did not answer as it must: each time something may have reached it that nobody else has."""
        self.process: str | None = None
        self.identity: str | None = None
        self._listener = _Connections()
        self._looked_at = -1
        self._looking = asyncio.Lock()
        self._looks = 0
        self.timeout_seconds = timeout_seconds
        milliseconds = max(1, int(timeout_seconds * 1000))
        try:
            self.client: AsyncMongoClient[Document] = AsyncMongoClient(
                uri,
                directConnection=True,
                appname="shardmart-ring",
                timeoutMS=milliseconds,
                serverSelectionTimeoutMS=milliseconds,
                connectTimeoutMS=milliseconds,
                retryWrites=False,
                retryReads=False,
                event_listeners=[self._listener],
            )
        except (PyMongoError, ValueError) as error:  # its text may hold the password
            raise SettingsError(f"nodes.{name}: not a usable connection string: {type(error).__name__}") from None
        journalled = WriteConcern(1, j=True)
        self.database = self.client.get_database(database, codec_options=CODEC, write_concern=journalled)
        self.records: AsyncCollection[Document] = self.database["records"]
        self.hints: AsyncCollection[Document] = self.database["hints"]

    async def close(self) -> None:
        """Give back the connections."""
        await self.client.close()

    def expect(self, identity: str, process: str | None) -> None:
        """Whose data this node must be, and the process of it that has been compared (None: none yet)."""
        if (identity, process) != (self.identity, self.process):
            self.identity, self.process = identity, process
            self.away, self.other_data, self._looked_at = "not asked yet", False, -1

    # What and who it is

    async def look(self) -> tuple[str | None, str]:
        """The identity of its data (None: nobody's) and its process, whatever is expected."""
        hello = await self.answer(self.client.admin.command("hello"))
        fence = await self.answer(self.records.find_one({"_id": FENCE}))
        return (fence or {}).get("id"), str(hello["topologyVersion"]["processId"])

    async def check(self) -> None:
        """Look whether it is the node and process it must be, and use it from now on; NodeAwayError if not."""
        looks = self._looks
        async with self._looking:
            if self.away is None and self._listener.opened == self._looked_at:
                return
            if self._looks != looks and self.away is not None:  # somebody looked while this one waited
                raise NodeAwayError(self.name, self.away)
            try:
                await self._check()
            finally:
                self._looks += 1

    async def _check(self) -> None:
        opened = self._listener.opened
        identity, process = await self.look()
        if identity != self.identity:
            whose = "no ring's data" if identity is None else "the data of another node"
            self.leave(
                f"the server at its address holds {whose}: were addresses swapped, or a folder lost?", other=True
            )
        if process != self.process:
            self.leave(WAITS)
        self.away, self.other_data = None, False
        self._looked_at = opened  # one opened while looking may reach a later process: the next operation looks again

    def leave(self, reason: str, *, sent: bool = True, other: bool = False) -> NoReturn:
        self.away, self.other_data = reason, other
        self.absences += 1
        raise NodeAwayError(self.name, reason, sent=sent)

    async def use(self, operation: Callable[[], Awaitable[Answer]], seconds: float | None = None) -> Answer:
        """Run an operation that counts: it is certain afterwards that the node and process expected have answered."""
        if self.away is not None:
            raise NodeAwayError(self.name, self.away, sent=False)
        answer = await self.answer(operation(), seconds)
        if self._listener.opened != self._looked_at:
            await self.check()
        return answer

    async def drained(self, cursor: AsyncCursor[Document]) -> list[Document]:
        """All documents of a cursor; it is each next one that has to come in time, however many there are."""
        found: list[Document] = []
        task = asyncio.current_task()
        assert task
        cancelled = task.cancelling()
        now, seconds = asyncio.get_running_loop().time, self.timeout_seconds * 2
        moved = now()
        async with asyncio.timeout(seconds) as limit:
            async for document in cursor:
                found.append(document)
                if task.cancelling() > cancelled:  # it came together with an answer, and the driver swallowed it
                    raise asyncio.CancelledError
                if now() - moved > seconds / 20:  # to move it for every document costs more than to read one
                    moved = now()
                    limit.reschedule(moved + seconds)
        return found

    async def listed(self, cursor: Callable[[], AsyncCursor[Document]]) -> list[Document]:
        """`use` of an operation whose answer may be large."""
        return await self.use(lambda: self.drained(cursor()), WORK_SECONDS)

    async def work(self, operation: Callable[[], Awaitable[Answer]], seconds: float = WORK_SECONDS) -> Answer:
        """Run an operation over many records, on a node in any state."""
        with pymongo.timeout(seconds):
            return await self.answer(operation(), seconds)

    async def answer(self, operation: Awaitable[Answer], seconds: float | None = None) -> Answer:
        try:
            # PyMongo's own limit comes first.  Not wait_for: before Python 3.12 it can swallow a cancellation.
            with no_stray_cancellation():
                async with asyncio.timeout((seconds or self.timeout_seconds) * 2), no_lost_cancellation():
                    return await operation
        except (WriteError, BulkWriteError) as error:
            if _code(error) == VALIDATION_FAILED:
                raise StaleRingError(f"{self.name} serves a later epoch of the ring") from None
            raise NodeRefusesError(self.name, error.code, str(error)[:300]) from None
        except (ConnectionFailure, ExecutionTimeout, TimeoutError, StrayCancellationError) as error:
            never_sent = isinstance(error, ServerSelectionTimeoutError)
            self.leave(f"does not answer ({type(error).__name__})", sent=not never_sent)
        except OperationFailure as error:
            if error.code == VALIDATION_FAILED:
                raise StaleRingError(f"{self.name} serves a later epoch of the ring") from None
            if error.code == AUTHENTICATION_FAILED:
                self.leave(
                    "the server at its address does not know the ring's user: was a folder lost, or is the settings' "
                    "password another?",
                    other=True,
                )
            raise NodeRefusesError(self.name, error.code, str(error)[:300]) from None
        except PyMongoError as error:
            raise NodeRefusesError(self.name, None, f"{type(error).__name__}: {str(error)[:300]}") from None
        finally:
            if isinstance(operation, Coroutine):
                operation.close()  # one that was not begun would be complained of


def _code(error: PyMongoError) -> int | None:
    if isinstance(error, BulkWriteError):
        codes = {one["code"] for one in (error.details or {}).get("writeErrors", [])}
        return VALIDATION_FAILED if VALIDATION_FAILED in codes else None
    return getattr(error, "code", None)
