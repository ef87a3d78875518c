"""Compare what two nodes hold, and mend what differs: a hash tree over arcs of the ring, its sums made by the servers.

The digest of some arcs is the count of records and the sum of their fingerprints, tombstones included: one scan of an
index, no record read.  Where two digests differ the arcs are halved until few records are left; those are listed by
version, and only what one node lacks or has older is sent.  Equal nodes exchange some hundred bytes for 128 arcs.

Source: Merkle trees as Dynamo (4.7) and Cassandra ("Repair") use them; sums instead of hashes of hashes, because a sum
needs no order and so can be made by `$group` (Bellare and Micciancio's AdHash; 40 bits here guard against chance, not
against an adversary who may write the nodes anyway).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

from ..node.connection import WORK_SECONDS
from ..node.node import Node
from ..node.record import Document, Version
from ..placement.keys import canonical, from_id
from ..placement.ring import Arc

ARCS_AT_ONCE = 128
FEW = 256
"""So many records are listed rather than halved once more."""
LISTED = 20_000
BATCH_RECORDS, BATCH_BYTES = 500, 8 << 20
Item = TypeVar("Item")


class Sized(Protocol):
    """What says how many bytes it has."""

    @property
    def size(self) -> int: ...


SizedItem = TypeVar("SizedItem", bound=Sized)


class Digest(NamedTuple):
    """How many records, and the sum of their fingerprints."""

    records: int
    total: int


class Held(NamedTuple):
    """A record as a listing shows it."""

    id: Any
    version: Version
    size: int


@dataclass
class Compared:
    """What a comparison found and did."""

    digests: int = 0
    differing: int = 0
    sent: int = 0
    new: int = 0
    """Records that were sent to a node which had not held them at all."""
    bytes: int = 0

    def add(self, other: Compared) -> None:
        """Take over what `other` has."""
        self.digests += other.digests
        self.differing += other.differing
        self.sent += other.sent
        self.new += other.new
        self.bytes += other.bytes


def within(arcs: Iterable[Arc]) -> Document:
    """The filter "lies on one of these arcs"."""
    return {"$or": [{"h": {"$gte": arc.first, "$lte": arc.last}} for arc in arcs]}


async def digest(node: Node, arcs: Sequence[Arc]) -> Digest:
    """The digest of what a node holds on these arcs."""
    sums = {"_id": None, "count": {"$sum": 1}, "total": {"$sum": "$f"}}
    pipeline = [{"$match": within(arcs)}, {"$project": {"_id": 0, "f": 1}}, {"$group": sums}]

    async def ask() -> list[Document]:
        return await (await node.records.aggregate(pipeline)).to_list()

    found = await node.work(ask)
    return Digest(int(found[0]["count"]), int(found[0]["total"])) if found else Digest(0, 0)


async def size(node: Node, arcs: Sequence[Arc]) -> tuple[int, int]:
    """How many records a node holds on these arcs, and how many bytes they are."""
    records = total = 0
    for some in batches(arcs, ARCS_AT_ONCE):
        sums = {"_id": None, "count": {"$sum": 1}, "bytes": {"$sum": {"$bsonSize": "$$ROOT"}}}

        async def ask(some: list[Arc] = some, sums: Document = sums) -> list[Document]:
            return await (await node.records.aggregate([{"$match": within(some)}, {"$group": sums}])).to_list()

        for one in await node.work(ask):
            records += int(one["count"])
            total += int(one["bytes"])
    return records, total


async def listing(node: Node, arcs: Sequence[Arc]) -> dict[bytes, Held]:
    """Version and size of every record on these arcs, by canonical key."""
    fields = {"n": 1, "w": 1, "size": {"$bsonSize": "$$ROOT"}}

    async def ask() -> list[Document]:
        return await (await node.records.aggregate([{"$match": within(arcs)}, {"$project": fields}])).to_list()

    return {
        canonical(from_id(one["_id"])): Held(one["_id"], Version(int(one["n"]), one["w"]), one["size"])
        for one in await node.work(ask)
    }


async def compare(one: Node, other: Node, arcs: Sequence[Arc], epoch: int) -> Compared:
    """Make two nodes hold the same on these arcs: the newest of both.  NodeAwayError, StaleRingError."""
    result = Compared()
    for some in batches(arcs, ARCS_AT_ONCE):
        await _descend(one, other, some, epoch, result)
    return result


async def bring(source: Node, target: Node, arcs: Sequence[Arc], epoch: int) -> Compared:
    """Give a target all that the source holds on these arcs and the target lacks or has older."""
    result = Compared()
    # More than this at once is neither listed in time nor kept in memory here.
    halves = _halves(list(arcs))
    if halves and (await digest(source, arcs)).records > LISTED:
        for half in halves:
            result.add(await bring(source, target, half, epoch))
        return result
    has, lacks = await asyncio.gather(listing(source, arcs), listing(target, arcs))
    await _send(source, target, _newer(has, lacks), lacks, epoch, result)
    return result


async def _descend(one: Node, other: Node, arcs: list[Arc], epoch: int, result: Compared) -> None:
    first, second = await asyncio.gather(digest(one, arcs), digest(other, arcs))
    result.digests += 2
    if first == second:
        return
    halves = _halves(arcs)
    if halves and max(first.records, second.records) > FEW:
        for half in halves:
            await _descend(one, other, half, epoch, result)
        return
    here, there = await asyncio.gather(listing(one, arcs), listing(other, arcs))
    to_other, to_one = _newer(here, there), _newer(there, here)
    result.differing += len(to_other) + len(to_one)
    await _send(one, other, to_other, there, epoch, result)
    await _send(other, one, to_one, here, epoch, result)


def _halves(arcs: list[Arc]) -> tuple[list[Arc], list[Arc]] | None:
    if len(arcs) > 1:
        return arcs[: len(arcs) // 2], arcs[len(arcs) // 2 :]
    arc = arcs[0]
    if arc.first == arc.last:
        return None
    middle = (arc.first + arc.last) // 2
    return [Arc(arc.first, middle)], [Arc(middle + 1, arc.last)]


def _newer(here: dict[bytes, Held], there: dict[bytes, Held]) -> list[Held]:
    return [held for key, held in here.items() if key not in there or there[key].version < held.version]


async def _send(
    source: Node, target: Node, wanted: list[Held], known: Collection[bytes], epoch: int, result: Compared
) -> None:
    """Give the target these records of the source; `known` are the keys that the target has some version of."""
    for some in by_size(wanted):
        ids = [held.id for held in some]
        result.new += await target.apply_many(await source.fetch(ids), epoch, WORK_SECONDS, held=known)
        result.sent += len(ids)
        result.bytes += sum(held.size for held in some)


def by_size(items: Iterable[SizedItem]) -> Iterator[list[SizedItem]]:
    """As many as fit a request: by count and by the bytes that each says it has, but one at least."""
    some: list[SizedItem] = []
    total = 0
    for item in items:
        if some and (len(some) == BATCH_RECORDS or total + item.size > BATCH_BYTES):
            yield some
            some, total = [], 0
        some.append(item)
        total += item.size
    if some:
        yield some


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to `size` items."""
    source = iter(items)
    while some := list(islice(source, size)):
        yield some
