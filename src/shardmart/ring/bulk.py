"""Many keys at once: one request a node for some hundred keys, and single writes for what does not go that way.

A bulk write is proved before it is acknowledged: versions are read back from every holder, and a key that has an older
version there, or a holder that stops answering meanwhile, is written again by itself.  A holder that is known to be
away is not asked: its copies are hints, as many to a request.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .errors import StaleRingError
from .membership import View
from .node.nodes import Nodes
from .node.record import Record, Version, clock
from .placement.keys import Key, canonical, to_id
from .reading import Found, Reader, found
from .repair.comparison import by_size
from .writing import Writer

SINGLE_AT_ONCE = 32
BATCH_TIMEOUTS = 5
"""A batch may take as long as this many single operations."""


async def read(reader: Reader, keys: list[Key]) -> list[Found]:
    """Those of these keys that have a value, in no order.  UnavailableError, StaleRingError."""
    view = reader.nodes.view
    groups: dict[tuple[str, ...], dict[bytes, Any]] = defaultdict(dict)
    for key in keys:
        groups[view.holders(key)][canonical(key)] = to_id(key)

    async def one(holders: tuple[str, ...], ids: list[Any]) -> list[Record]:
        return await reader.collect(
            view, holders, lambda node: node.read_many(ids, view.epoch), lambda node: node.hints_of(ids)
        )

    parts = await asyncio.gather(*(one(holders, list(ids.values())) for holders, ids in groups.items()))
    return [value for part in parts for record in part if (value := found(record))]


async def write(writer: Writer, drafts: Iterable[Record]) -> int:
    """Write drafts, values and tombstones, some hundred at a time; how many, all of them acknowledged.

    Of two drafts of one key in one batch the later one is written.  Raises as writing one does.
    """
    count = 0
    for batch in by_size(drafts):
        latest = {canonical(one.key): one for one in batch}
        groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
        view = writer.nodes.view
        for one in latest.values():
            groups[view.holders(one.key)].append(one)
        left = await asyncio.gather(*(_together(writer.nodes, view, group, of) for group, of in groups.items()))
        await _singly(writer, [record for part in left for record in part])
        count += len(batch)
    return count


async def _together(nodes: Nodes, view: View, holders: tuple[str, ...], drafts: list[Record]) -> list[Record]:
    """Write drafts to all their holders, hints where one is away; returns those of which that is not proved."""
    ids = [to_id(one.key) for one in drafts]
    try:
        before, silent = await nodes.ask(holders, lambda node: node.read_many(ids, view.epoch, values=False))
        if silent:
            if view.move or len(silent) > nodes.tolerated:
                return drafts
            hinted, more = await nodes.ask([n for n in view.nodes if n not in holders], lambda n: n.hints_of(ids))
            if more:
                return drafts
            before |= hinted
        records = _numbered(drafts, before)
        there = [name for name in holders if name not in silent]
        seconds = nodes.settings.timeout_seconds * BATCH_TIMEOUTS
        known = {name: {canonical(one.key) for one in before.get(name, ())} for name in there}
        _, late = await nodes.ask(
            there,
            lambda node: node.apply_many(records, view.epoch, seconds, held=known[node.name], offered=True),
        )
        hints = {} if late else await nodes.leave_hints(view, records, there, silent, seconds)
        after, more = await nodes.ask(there, lambda node: node.read_many(ids, view.epoch, values=False))
    except StaleRingError:
        await nodes.refresh()
        return drafts
    if late or more or hints.keys() != silent.keys() or len({*there, *hints.values()}) < nodes.required:
        return drafts
    written = [{canonical(held.key): held.version for held in answer} for answer in after.values()]

    def proved(record: Record) -> bool:
        """Every holder has it or, where all were asked before it was numbered, what somebody wrote since then."""
        found = [held.get(canonical(record.key)) for held in written]
        return all(v == record.version or (v is not None and v > record.version and not silent) for v in found)

    return [one for one, record in zip(drafts, records, strict=True) if not proved(record)]


def _numbered(drafts: list[Record], before: Mapping[str, list[Record]]) -> list[Record]:
    """The drafts with versions above those that were found."""
    numbers: dict[bytes, int] = {}
    for answer in before.values():
        for held in answer:
            key = canonical(held.key)
            numbers[key] = max(numbers.get(key, 0), held.version.number)
    least = clock()
    return [
        replace(one, version=Version(max(numbers.get(canonical(one.key), 0) + 1, least), one.version.write))
        for one in drafts
    ]


async def _singly(writer: Writer, drafts: list[Record]) -> None:
    limit = asyncio.Semaphore(SINGLE_AT_ONCE)

    async def one(record: Record) -> None:
        async with limit:
            await writer.write(record)

    await asyncio.gather(*(one(record) for record in drafts))
