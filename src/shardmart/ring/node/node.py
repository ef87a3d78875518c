"""One node: a standalone mongod, its fence, its copies and the hints it keeps for others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import pymongo
from pymongo import DeleteOne, UpdateOne
from pymongo.errors import BulkWriteError, CollectionInvalid, DuplicateKeyError, OperationFailure

from ..errors import StaleRingError
from ..placement.keys import canonical, to_id
from .connection import FENCE, WORK_SECONDS, Connection
from .record import OFFERED, Document, Record, Version, newest_wins

NAMESPACE_EXISTS, DUPLICATE_KEY = 48, 11000
Answer = TypeVar("Answer")


class Node(Connection):
    """What a node is asked for.  Every operation ends in time, with NodeAwayError where there was no answer."""

    # Records

    async def read(self, key: Any, epoch: int) -> Record | None:
        """The record of a key, tombstones included; StaleRingError when the node serves a later epoch."""
        found = await self.read_many([to_id(key)], epoch)
        return found[0] if found else None

    async def read_many(self, ids: Sequence[Any], epoch: int, *, values: bool = True) -> list[Record]:
        """Those of these ids that there are; without `values` only versions and tombstones."""
        where = {"_id": {"$in": [FENCE, *ids]}}
        return await self.use(lambda: self._fenced(where, epoch, values=values), WORK_SECONDS)

    async def read_group(self, place: int, group: str, epoch: int) -> list[Record]:
        """The records of a group, tombstones included."""
        where = {"$or": [{"_id": FENCE}, {"h": place, "_id.g": group}]}
        return await self.use(lambda: self._fenced(where, epoch), WORK_SECONDS)

    async def _fenced(self, where: Document, epoch: int, *, values: bool = True) -> list[Record]:
        found = await self.drained(self.records.find(where, None if values else {"x": 0}))
        fence = next((one for one in found if one["_id"] == FENCE), None)
        if fence is None or fence["id"] != self.identity:
            self.leave(
                "the server at its address holds other data: were addresses swapped, or a folder lost?", other=True
            )
        if fence["e"] > epoch:
            raise StaleRingError(f"{self.name} serves epoch {fence['e']} of the ring, epoch {epoch} has ended")
        return [Record.of(one) for one in found if one["_id"] != FENCE]

    async def page(self, first: int, limit: int) -> list[Record]:
        """Up to `limit` records in the order of their places, from the place `first` on; tombstones included."""
        return [
            Record.of(one)
            for one in await self.listed(lambda: self.records.find({"h": {"$gte": first}}).sort("h").limit(limit))
        ]

    async def between(self, first: int, last: int) -> list[Record]:
        """All records of these places; tombstones included."""
        where = {"h": {"$gte": first, "$lte": last}}
        return [Record.of(one) for one in await self.listed(lambda: self.records.find(where))]

    async def replace(self, draft: Record, expected: Version | None, epoch: int) -> bool:
        """Write a record in place of exactly the version expected (None: nothing at all); False if there is another."""
        kept = draft.document(epoch) | OFFERED

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

    async def apply(self, record: Record, epoch: int, *, offered: bool = False) -> Version | None:
        """Keep a record unless a newer version is there; returns that newer version, or None.

        `offered` as in `Record`.
        """
        kept = record.document(epoch) | (OFFERED if offered else {})

        async def write() -> Version | None:
            where = {"_id": to_id(record.key)}
            done = await self.records.update_one(where, newest_wins(record.version, kept), upsert=True)
            if done.modified_count or done.upserted_id is not None:
                return None
            found = await self.records.find_one(where, {"n": 1, "w": 1})
            held = Version(int(found["n"]), found["w"]) if found else record.version
            return held if held > record.version else None

        return await self.use(lambda: _once_more(write))

    async def apply_many(
        self,
        records: Sequence[Record],
        epoch: int,
        seconds: float | None = None,
        *,
        held: Collection[bytes] | None = None,
        offered: bool = False,
    ) -> int:
        """Keep these records where they are newer; returns how many it had not held at all.

        It works on a node that waits to be compared too, for that is how a comparison mends one.  `held` are the keys
        (canonical) that it is known to hold: the others are inserted first, which costs the server a third.  `offered`
        as in `Record`.
        """
        added, mark = 0, OFFERED if offered else {}
        if held is not None:
            absent = [record for record in records if canonical(record.key) not in held]
            refused = await self._insert(absent, epoch, mark, seconds or self.timeout_seconds)
            added = len(absent) - len(refused)
            records = [record for record in records if canonical(record.key) in held] + refused
        if not records:
            return added
        updates = [
            UpdateOne(
                {"_id": to_id(record.key)},
                newest_wins(record.version, record.document(epoch) | mark),
                upsert=True,
            )
            for record in records
        ]
        done = await self.work(
            lambda: _once_more(lambda: self.records.bulk_write(updates, ordered=False)), seconds or self.timeout_seconds
        )
        return added + int(done.upserted_count)

    async def _insert(self, records: Sequence[Record], epoch: int, mark: Document, seconds: float) -> list[Record]:
        """Insert records; those whose key was there by then, which are left as they are."""
        if not records:
            return []
        documents = [{"_id": to_id(record.key), **record.document(epoch), **mark} for record in records]

        async def write() -> list[Record]:
            try:
                await self.records.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                errors = (error.details or {}).get("writeErrors", [])
                if {one["code"] for one in errors} != {DUPLICATE_KEY}:
                    raise
                return [records[one["index"]] for one in errors]
            return []

        return await self.work(write, seconds)

    async def tombstones(self, before: datetime) -> list[Record]:
        """The tombstones made before a time."""
        return [Record.of(one) for one in await self.listed(lambda: self.records.find({"t": {"$lt": before}}))]

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

    async def hints_for(self, target: str, limit: int, limit_bytes: int) -> list[Record]:
        """Up to `limit` records that are kept here for a node, of up to `limit_bytes` together, but one at least."""
        size = {"size": {"$bsonSize": "$$ROOT"}}
        ids: list[Any] = []
        total = 0
        for one in await self.listed(lambda: self.hints.find({"to": target}, size).limit(limit)):
            total += one["size"]
            if ids and total > limit_bytes:
                break
            ids.append(one["_id"])
        found = await self.listed(lambda: self.hints.find({"_id": {"$in": ids}}))
        return [hinted(one) for one in found]

    async def hint_targets(self) -> list[str]:
        """The nodes for which hints are kept here."""
        return await self.use(lambda: self.hints.distinct("to"))

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

    async def hint_many(self, records: Sequence[Record], target: str, epoch: int, seconds: float | None = None) -> None:
        """Keep records for a node that is away, newer hints stay; `seconds` for all of them, else as one operation."""
        updates = [
            UpdateOne(
                {"_id": {"to": target, "key": to_id(record.key)}},
                newest_wins(record.version, record.document(epoch) | {"to": target, "key": to_id(record.key)}),
                upsert=True,
            )
            for record in records
        ]

        async def write() -> None:
            with pymongo.timeout(seconds or self.timeout_seconds):
                await _once_more(lambda: self.hints.bulk_write(updates, ordered=False))

        await self.use(write, seconds)

    async def hints_of(self, ids: Sequence[Any]) -> list[Record]:
        """The newest that is kept here of these ids for others."""
        found = await self.listed(lambda: self.hints.find({"key": {"$in": list(ids)}}))
        return [hinted(one) for one in found]

    async def hints_of_group(self, place: int, group: str) -> list[Record]:
        """The same for a group."""
        found = await self.listed(lambda: self.hints.find({"h": place, "key.g": group}))
        return [hinted(one) for one in found]

    async def hints_between(self, first: int, last: int) -> list[Record]:
        """What is kept here for others of these places."""
        found = await self.listed(lambda: self.hints.find({"h": {"$gte": first, "$lte": last}}))
        return [hinted(one) for one in found]

    # Preparation

    async def prepare(self, identity: str, epoch: int, reaps: int = 0, *, instead_of: str | None = None) -> str:
        """Make what is missing: collections, indexes, the fence; returns whose data it is afterwards.

        That is `identity` where there was none, or exactly `instead_of`; else somebody else prepares it, too.
        """
        for name in ("records", "hints"):
            await self.answer(self._have(name))
        # Covers the comparison: a sum of fingerprints over hashes never reads a record.
        await self.answer(self.records.create_index([("h", 1), ("f", 1)]))
        await self.answer(self.records.create_index([("t", 1)], partialFilterExpression={"t": {"$exists": True}}))
        await self.answer(self.hints.create_index([("to", 1), ("h", 1)]))
        await self.answer(self.hints.create_index([("key", 1)]))
        await self.answer(self.hints.create_index([("h", 1)]))
        if instead_of is None:
            new = {"$setOnInsert": {"id": identity, "e": epoch, "r": reaps}}
            await self.answer(self.records.update_one({"_id": FENCE}, new, upsert=True))
        else:
            where = {"_id": FENCE, "id": instead_of}
            taken = {"$set": {"id": identity, "r": reaps}, "$max": {"e": epoch}, "$unset": {"filling": ""}}
            await self.answer(self.records.update_one(where, taken))
        return str(await self._of_fence("id"))

    async def _have(self, collection: str) -> None:
        try:
            await self.database.create_collection(collection)
        except CollectionInvalid:
            pass
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise

    async def fence(self, epoch: int) -> None:
        """Serve this epoch and none before it: first writes of older ones are refused, then reads.

        A later epoch that somebody else has brought meanwhile stays.
        """
        while True:
            for name in ("records", "hints"):
                rule = {"e": {"$gte": epoch}}
                await self.answer(self.database.command("collMod", name, validator=rule, validationAction="error"))
            await self.answer(self.records.update_one({"_id": FENCE, "e": {"$lt": epoch}}, {"$set": {"e": epoch}}))
            if (later := await self.serves()) <= epoch:
                return
            epoch = later

    async def reaps(self) -> int:
        """The number of the last end of tombstones that it was told of."""
        return int(await self._of_fence("r") or 0)

    async def count_reaps(self, known: int, reaps: int) -> bool:
        """Note on the node itself that tombstones end for the time `reaps`; it must be the process expected.

        False when it was not told of the time `known`, or was told of one as late as this by somebody else.
        """
        where: Document = {"_id": FENCE, "id": self.identity, "r": {"$gte": known, "$lt": reaps}}
        if not known:  # a fence that an earlier version made has no count
            where["r"] = {"$not": {"$gte": reaps}}
        done = await self.use(lambda: self.records.update_one(where, {"$set": {"r": reaps}}))
        return bool(done.matched_count)

    async def emptied(self, identity: str, reaps: int) -> bool:
        """Whether it was emptied for the ends of tombstones up to `reaps` and has not been filled by all since."""
        where = {"_id": FENCE, "id": identity, "filling": reaps}
        return await self.answer(self.records.find_one(where, {"_id": 1})) is not None

    async def note_emptied(self, identity: str, reaps: int, epoch: int) -> bool:
        """Note that; False when it serves another epoch than the one in which it was emptied."""
        where = {"_id": FENCE, "id": identity, "e": epoch}
        return bool((await self.answer(self.records.update_one(where, {"$set": {"filling": reaps}}))).matched_count)

    async def note_told(self, identity: str, before: int, reaps: int, *, emptied: bool) -> bool:
        """Note that it was told of all ends of tombstones up to `reaps`; False unless its count is still `before`.

        With `emptied` only if it was, for these.
        """
        where = {"_id": FENCE, "id": identity, "r": before or {"$in": [None, 0]}}
        where |= {"filling": reaps} if emptied else {}
        noted = {"$set": {"r": reaps}, "$unset": {"filling": ""}}
        return bool((await self.answer(self.records.update_one(where, noted))).matched_count)

    async def serves(self) -> int:
        """The epoch of its fence."""
        return int(await self._of_fence("e") or 0)

    async def _of_fence(self, field: str) -> Any:
        """What the fence says, None without one or where it says nothing of that."""
        return (await self.answer(self.records.find_one({"_id": FENCE}, {field: 1})) or {}).get(field)

    async def holds_records(self) -> bool:
        """Whether there is any record, tombstone or hint."""
        found = await self.answer(self.records.find_one({"_id": {"$ne": FENCE}}, {"_id": 1}))
        return bool(found or await self.answer(self.hints.find_one({}, {"_id": 1})))

    async def clear(self, epoch: int) -> int:
        """Remove every record and hint written up to this epoch, and none that a later change has brought.

        The fence stays, so that whoever works by an old ring is told.
        """
        old = {"e": {"$lte": epoch}}
        gone = await self.work(lambda: self.records.delete_many({"_id": {"$ne": FENCE}, **old}))
        await self.work(lambda: self.hints.delete_many(old))
        return gone.deleted_count


def hinted(document: Mapping[str, Any]) -> Record:
    """The record that a hint keeps."""
    return Record.of({**document, "_id": document["key"]})


def _other(record: Record) -> Document:
    return {"x": ""} if record.deleted else {"t": ""}


async def _once_more(write: Callable[[], Awaitable[Answer]], times: int = 5) -> Answer:
    """Two upserts of one new `_id` may collide; the loser is then an update."""
    for _ in range(times - 1):
        try:
            return await write()
        except DuplicateKeyError:
            continue
        except BulkWriteError as error:
            if {one["code"] for one in (error.details or {}).get("writeErrors", [])} != {DUPLICATE_KEY}:
                raise
    return await write()
