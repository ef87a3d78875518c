"""One node: a standalone mongod, its fence, its copies and the hints it keeps for others.

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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import pymongo
from pymongo import AsyncMongoClient, DeleteOne, ReturnDocument, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    BulkWriteError,
    CollectionInvalid,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteError,
)
from pymongo.monitoring import ConnectionCreatedEvent, ConnectionPoolListener
from pymongo.write_concern import WriteConcern

from .errors import NodeAwayError, SettingsError, StaleRingError
from .keys import to_id
from .records import CODEC, Document, Record, Version, newest_wins, next_version

FENCE = {"ring": "fence"}
"""`_id` of the fence; keys that are documents have other fields, so no key is like it."""
VALIDATION_FAILED, AUTHENTICATION_FAILED = 121, 18
WORK_SECONDS = 30.0
"""How long one request of upkeep or of a move may take."""
NAMESPACE_NOT_FOUND, NAMESPACE_EXISTS = 26, 48
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


class Node:
    """See the module.  Every operation ends within `timeout_seconds`, with NodeAwayError when the node did not answer.

    `expect` says whose data and which process it must be; until then, and after it did not answer, it is `away`.
    """

    def __init__(self, name: str, uri: str, database: str, timeout_seconds: float) -> None:
        self.name = name
        self.away: str | None = "not asked yet"
        self.other_data = False
        """Whether its server answered last, and holds other data than this node's, or none."""
        self.process: str | None = None
        self._identity: str | None = None
        self._listener = _Connections()
        self._looked_at = -1
        self._looking = asyncio.Lock()
        self._timeout = timeout_seconds
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
        self._database = self.client.get_database(database, codec_options=CODEC, write_concern=journalled)
        self.records: AsyncCollection[Document] = self._database["records"]
        self.hints: AsyncCollection[Document] = self._database["hints"]

    async def close(self) -> None:
        """Give back the connections."""
        await self.client.close()

    def expect(self, identity: str, process: str | None) -> None:
        """Whose data this node must be, and the process of it that has been compared (None: none yet)."""
        if (identity, process) != (self._identity, self.process):
            self._identity, self.process = identity, process
            self.away, self.other_data, self._looked_at = "not asked yet", False, -1

    # What and who it is

    async def look(self) -> tuple[str | None, str]:
        """The identity of its data (None: nobody's) and its process, whatever is expected."""
        hello, fence = await asyncio.gather(
            self._answer(self.client.admin.command("hello")), self._answer(self.records.find_one({"_id": FENCE}))
        )
        return (fence or {}).get("id"), str(hello["topologyVersion"]["processId"])

    async def check(self) -> None:
        """Look whether it is the node and process it must be, and use it from now on; NodeAwayError if not."""
        async with self._looking:
            if self.away is None and self._listener.opened == self._looked_at:
                return
            await self._check()

    async def _check(self) -> None:
        opened = self._listener.opened
        identity, process = await self.look()
        if identity != self._identity:
            whose = "no ring's data" if identity is None else "the data of another node"
            self._leave(
                f"the server at its address holds {whose}: were addresses swapped, or a folder lost?", other=True
            )
        if process != self.process:
            self._leave("it was started again and waits to be compared with the others")
        self.away, self.other_data = None, False
        self._looked_at = opened  # one opened while looking may reach a later process: the next operation looks again

    def _leave(self, reason: str, *, sent: bool = True, other: bool = False) -> NoReturn:
        self.away, self.other_data = reason, other
        raise NodeAwayError(self.name, reason, sent=sent)

    async def use(self, operation: Callable[[], Awaitable[Answer]], seconds: float | None = None) -> Answer:
        """Run an operation that counts: it is certain afterwards that the node and process expected have answered."""
        if self.away is not None:
            raise NodeAwayError(self.name, self.away, sent=False)
        answer = await self._answer(operation(), seconds)
        if self._listener.opened != self._looked_at:
            await self.check()
        return answer

    async def work(self, operation: Callable[[], Awaitable[Answer]], seconds: float = WORK_SECONDS) -> Answer:
        """Run an operation over many records, on a node in any state."""
        with pymongo.timeout(seconds):
            return await self._answer(operation(), seconds)

    async def _answer(self, operation: Awaitable[Answer], seconds: float | None = None) -> Answer:
        try:
            # PyMongo's own limit comes first.  Not wait_for: before Python 3.12 it can swallow a cancellation.
            async with asyncio.timeout((seconds or self._timeout) * 2):
                return await operation
        except (WriteError, BulkWriteError) as error:
            if _code(error) == VALIDATION_FAILED:
                raise StaleRingError(f"{self.name} serves a later epoch of the ring") from None
            raise
        except (ConnectionFailure, ExecutionTimeout, TimeoutError) as error:
            never_sent = isinstance(error, ServerSelectionTimeoutError)
            self._leave(f"does not answer ({type(error).__name__})", sent=not never_sent)
        except OperationFailure as error:
            if error.code == VALIDATION_FAILED:
                raise StaleRingError(f"{self.name} serves a later epoch of the ring") from None
            if error.code == AUTHENTICATION_FAILED:
                self._leave("the server at its address does not know the ring's user: was a folder lost?", other=True)
            raise

    # Records

    async def read(self, key: Any, epoch: int) -> Record | None:
        """The record of a key, tombstones included; StaleRingError when the node serves a later epoch."""
        found = await self.read_many([to_id(key)], epoch)
        return found[0] if found else None

    async def read_many(self, ids: Sequence[Any], epoch: int, *, values: bool = True) -> list[Record]:
        """Those of these ids that there are; without `values` only versions and tombstones."""
        return await self.use(lambda: self._fenced({"_id": {"$in": [FENCE, *ids]}}, epoch, values=values))

    async def read_group(self, place: int, group: str, epoch: int) -> list[Record]:
        """The records of a group, tombstones included."""
        where = {"$or": [{"_id": FENCE}, {"h": place, "_id.g": group}]}
        return await self.use(lambda: self._fenced(where, epoch))

    async def _fenced(self, where: Document, epoch: int, *, values: bool = True) -> list[Record]:
        found = await self.records.find(where, None if values else {"x": 0}).to_list()
        fence = next((one for one in found if one["_id"] == FENCE), None)
        if fence is None or fence["id"] != self._identity:
            self._leave(
                "the server at its address holds other data: were addresses swapped, or a folder lost?", other=True
            )
        if fence["e"] > epoch:
            raise StaleRingError(f"{self.name} serves epoch {fence['e']} of the ring, epoch {epoch} has ended")
        return [Record.of(one) for one in found if one["_id"] != FENCE]

    async def page(self, first: int, limit: int) -> list[Record]:
        """Up to `limit` records in the order of their places, from the place `first` on; tombstones included."""
        return [
            Record.of(one)
            for one in await self.use(
                lambda: self.records.find({"h": {"$gte": first}}).sort("h").limit(limit).to_list()
            )
        ]

    async def renew(self, draft: Record, floor: int, epoch: int) -> Record:
        """Write a record with a number above `floor` and above what there is; returns it with its version."""
        kept = draft.document(epoch)

        async def write() -> Document | None:
            return await self.records.find_one_and_update(
                {"_id": to_id(draft.key)},
                next_version(kept, floor),
                projection={"n": 1},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )

        answer = await self.use(lambda: _once_more(write))
        assert answer
        return Record(draft.key, Version(int(answer["n"]), draft.version.write), draft.value, draft.deleted)

    async def replace(self, draft: Record, expected: Version | None, epoch: int) -> bool:
        """Write a record in place of exactly the version expected (None: nothing at all); False if there is another."""
        kept = draft.document(epoch)

        async def write() -> bool:
            if expected is None:
                try:
                    await self.records.insert_one({"_id": to_id(draft.key), **kept})
                except DuplicateKeyError:
                    return False
                return True
            where = {"_id": to_id(draft.key), "n": expected.number, "w": expected.write}
            return bool((await self.records.update_one(where, {"$set": kept, "$unset": _other(draft)})).matched_count)

        return await self.use(write)

    async def apply(self, record: Record, epoch: int) -> Version | None:
        """Keep a record unless a newer version is there; returns that newer version, or None."""

        async def write() -> Version | None:
            where = {"_id": to_id(record.key)}
            done = await self.records.update_one(
                where, newest_wins(record.version, record.document(epoch)), upsert=True
            )
            if done.modified_count or done.upserted_id is not None:
                return None
            found = await self.records.find_one(where, {"n": 1, "w": 1})
            held = Version(int(found["n"]), found["w"]) if found else record.version
            return held if held > record.version else None

        return await self.use(lambda: _once_more(write))

    async def apply_many(self, records: Sequence[Record], epoch: int, seconds: float | None = None) -> int:
        """Keep these records where they are newer; returns how many it had not held at all.

        It works on a node that waits to be compared too, for that is how a comparison mends one.
        """
        if not records:
            return 0
        updates = [
            UpdateOne(
                {"_id": to_id(record.key)},
                newest_wins(record.version, record.document(epoch)),
                upsert=True,
            )
            for record in records
        ]
        done = await self.work(
            lambda: _once_more(lambda: self.records.bulk_write(updates, ordered=False)), seconds or self._timeout
        )
        return int(done.upserted_count)

    async def tombstones(self, before: datetime) -> list[Record]:
        """The tombstones made before a time."""
        return [Record.of(one) for one in await self.use(lambda: self.records.find({"t": {"$lt": before}}).to_list())]

    async def forget(self, records: Sequence[Record]) -> None:
        """Remove exactly these versions of these records, with no tombstone."""
        gone = [DeleteOne({"_id": to_id(r.key), "n": r.version.number, "w": r.version.write}) for r in records]
        await self.use(lambda: self.records.bulk_write(gone, ordered=False))

    async def remove(self, where: Document) -> int:
        """Remove all records of a filter on a node in any state; returns how many."""
        return (await self.work(lambda: self.records.delete_many(where))).deleted_count

    async def fetch(self, ids: Sequence[Any]) -> list[Record]:
        """The records of these ids, from a node in any state."""
        found = await self.work(lambda: self.records.find({"_id": {"$in": list(ids)}}).to_list())
        return [Record.of(one) for one in found]

    # Hints

    async def hints_for(self, target: str, limit: int) -> list[Record]:
        """Up to `limit` records that are kept here for a node."""
        found = await self.use(lambda: self.hints.find({"to": target}).limit(limit).to_list())
        return [hinted(one) for one in found]

    async def hint_count(self) -> int:
        """How many hints are kept here."""
        return await self.use(lambda: self.hints.count_documents({}))

    async def forget_hints(self, target: str, records: Sequence[Record]) -> None:
        """Remove exactly these hints; a newer one of the same key stays."""
        gone = [
            DeleteOne({"_id": {"to": target, "key": to_id(r.key)}, "n": r.version.number, "w": r.version.write})
            for r in records
        ]
        await self.use(lambda: self.hints.bulk_write(gone, ordered=False))

    async def hint(self, record: Record, target: str, epoch: int) -> None:
        """Keep a record for a node that is away; a newer hint stays."""
        await self.hint_many([record], target, epoch, self._timeout)

    async def hint_many(self, records: Sequence[Record], target: str, epoch: int, seconds: float) -> None:
        """The same for many; `seconds` for all of them."""
        updates = [
            UpdateOne(
                {"_id": {"to": target, "key": to_id(record.key)}},
                newest_wins(record.version, record.document(epoch) | {"to": target, "key": to_id(record.key)}),
                upsert=True,
            )
            for record in records
        ]

        async def write() -> None:
            with pymongo.timeout(seconds):
                await _once_more(lambda: self.hints.bulk_write(updates, ordered=False))

        await self.use(write, seconds)

    async def hints_of(self, ids: Sequence[Any]) -> list[Record]:
        """The newest that is kept here of these ids for others."""
        found = await self.use(lambda: self.hints.find({"key": {"$in": list(ids)}}).to_list())
        return [hinted(one) for one in found]

    async def hints_of_group(self, place: int, group: str) -> list[Record]:
        """The same for a group."""
        found = await self.use(lambda: self.hints.find({"h": place, "key.g": group}).to_list())
        return [hinted(one) for one in found]

    async def hints_between(self, first: int, last: int) -> list[Record]:
        """What is kept here for others of these places."""
        found = await self.use(lambda: self.hints.find({"h": {"$gte": first, "$lte": last}}).to_list())
        return [hinted(one) for one in found]

    # Preparation

    async def prepare(self, identity: str, epoch: int) -> None:
        """Make what is missing: collections, indexes, the fence.  Again and again with the same result."""
        for name in ("records", "hints"):
            try:
                await self._answer(self._database.create_collection(name))
            except CollectionInvalid:
                pass
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS:
                    raise
        # Covers the comparison: a sum of fingerprints over hashes never reads a record.
        await self._answer(self.records.create_index([("h", 1), ("f", 1)]))
        await self._answer(self.records.create_index([("t", 1)], partialFilterExpression={"t": {"$exists": True}}))
        await self._answer(self.hints.create_index([("to", 1), ("h", 1)]))
        await self._answer(self.hints.create_index([("key", 1)]))
        await self._answer(self.hints.create_index([("h", 1)]))
        await self._answer(
            self.records.update_one({"_id": FENCE}, {"$setOnInsert": {"id": identity, "e": epoch}}, upsert=True)
        )

    async def fence(self, epoch: int) -> None:
        """Serve this epoch and none before it: first writes of older ones are refused, then reads."""
        for name in ("records", "hints"):
            rule = {"e": {"$gte": epoch}}
            await self._answer(self._database.command("collMod", name, validator=rule, validationAction="error"))
        await self._answer(self.records.update_one({"_id": FENCE, "e": {"$lt": epoch}}, {"$set": {"e": epoch}}))

    async def serves(self) -> int:
        """The epoch of its fence."""
        found = await self._answer(self.records.find_one({"_id": FENCE}, {"e": 1}))
        return int(found["e"]) if found else 0

    async def holds_records(self) -> bool:
        """Whether there is any record, tombstone or hint."""
        found = await self._answer(self.records.find_one({"_id": {"$ne": FENCE}}, {"_id": 1}))
        return bool(found or await self._answer(self.hints.find_one({}, {"_id": 1})))

    async def clear(self) -> int:
        """Remove every record and hint; the fence stays, so that whoever works by an old ring is told."""
        gone = await self.work(lambda: self.records.delete_many({"_id": {"$ne": FENCE}}))
        await self.work(lambda: self.hints.delete_many({}))
        return gone.deleted_count

    async def drop(self) -> None:
        """Remove everything of the ring from this node, its identity too."""
        await self.work(self.records.drop)
        await self.work(self.hints.drop)


def hinted(document: Mapping[str, Any]) -> Record:
    """The record that a hint keeps."""
    return Record.of({**document, "_id": document["key"]})


def _other(record: Record) -> Document:
    return {"x": ""} if record.deleted else {"t": ""}


def _code(error: PyMongoError) -> int | None:
    if isinstance(error, BulkWriteError):
        codes = {one["code"] for one in (error.details or {}).get("writeErrors", [])}
        return VALIDATION_FAILED if VALIDATION_FAILED in codes else None
    return getattr(error, "code", None)


async def _once_more(write: Callable[[], Awaitable[Answer]], times: int = 5) -> Answer:
    """Two upserts of one new `_id` may collide; the loser is then an update."""
    for _ in range(times - 1):
        try:
            return await write()
        except DuplicateKeyError:
            continue
        except BulkWriteError as error:
            if {one["code"] for one in (error.details or {}).get("writeErrors", [])} != {11000}:
                raise
    return await write()
