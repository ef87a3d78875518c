"""Many keys at once: one request a node for some hundred keys, and single writes for what does not go that way.

A bulk write is proved before it is acknowledged: versions are read back from every holder, and a key that has another
version there, or a holder that does not answer, is written again by itself.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from .errors import StaleRingError
from .keys import Key, canonical, to_id
from .records import Record, Version, clock, draft

if TYPE_CHECKING:
    from .client import Found, RingClient
    from .membership import View

BATCH = 500
SINGLE_AT_ONCE = 32
BATCH_TIMEOUTS = 5
"""A batch may take as long as this many single operations."""


async def read(ring: RingClient, keys: list[Key]) -> list[Found]:
    """See `RingClient.get_many`."""
    from .client import found

    view = ring.view
    groups: dict[tuple[str, ...], dict[bytes, Any]] = defaultdict(dict)
    for key in keys:
        groups[view.holders(key)][canonical(key)] = to_id(key)

    async def one(holders: tuple[str, ...], ids: list[Any]) -> list[Record]:
        return await ring.collect(
            view, holders, lambda node: node.read_many(ids, view.epoch), lambda node: node.hints_of(ids)
        )

    parts = await asyncio.gather(*(one(holders, list(ids.values())) for holders, ids in groups.items()))
    return [value for part in parts for record in part if (value := found(record))]


async def write(ring: RingClient, items: Mapping[Key, Any] | Iterable[tuple[Key, Any]]) -> int:
    """See `RingClient.put_many`."""
    pairs: Iterable[tuple[Key, Any]] = items.items() if isinstance(items, Mapping) else items
    count = 0
    for batch in _batches(pairs):
        drafts = {canonical(key): draft(key, value, deleted=False, kind="u") for key, value in batch}
        groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
        view = ring.view
        for one in drafts.values():
            groups[view.holders(one.key)].append(one)
        left = await asyncio.gather(*(_together(ring, view, group, of) for group, of in groups.items()))
        await _singly(ring, [record for part in left for record in part])
        count += len(batch)
    return count


async def _together(ring: RingClient, view: View, holders: tuple[str, ...], drafts: list[Record]) -> list[Record]:
    """Write drafts to all their holders; returns those of which that is not proved."""
    ids = [to_id(one.key) for one in drafts]
    seconds = ring.nodes.settings.timeout_seconds * BATCH_TIMEOUTS
    try:
        before, silent = await ring.nodes.ask(holders, lambda node: node.read_many(ids, view.epoch, values=False))
        if silent:
            return drafts
        numbers: dict[bytes, int] = {}
        for answer in before.values():
            for held in answer:
                key = canonical(held.key)
                numbers[key] = max(numbers.get(key, 0), held.version.number)
        least = clock() - 1
        records = [
            replace(one, version=Version(max(numbers.get(canonical(one.key), 0), least) + 1, one.version.write))
            for one in drafts
        ]
        _, silent = await ring.nodes.ask(holders, lambda node: node.apply_many(records, view.epoch, seconds))
        after, more = await ring.nodes.ask(holders, lambda node: node.read_many(ids, view.epoch, values=False))
    except StaleRingError:
        await ring.nodes.refresh()
        return drafts
    if silent or more:
        return drafts
    written = [{canonical(held.key): held.version for held in answer} for answer in after.values()]
    return [
        one
        for one, record in zip(drafts, records, strict=True)
        if any(held.get(canonical(record.key)) != record.version for held in written)
    ]


async def _singly(ring: RingClient, drafts: list[Record]) -> None:
    limit = asyncio.Semaphore(SINGLE_AT_ONCE)

    async def one(record: Record) -> None:
        async with limit:
            await ring.put(record.key, record.value)

    await asyncio.gather(*(one(record) for record in drafts))


def _batches(pairs: Iterable[tuple[Key, Any]]) -> Iterator[list[tuple[Key, Any]]]:
    source = iter(pairs)
    while batch := list(islice(source, BATCH)):
        yield batch
