"""How keys are read: every holder is asked, hints where one is silent, and the newest version of each key counts.

Whoever held an older version is given the newest before the read returns.  It never answers with less than makes it
certain: where too many nodes are silent it raises UnavailableError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from .errors import NodeAwayError, StaleRingError, UnavailableError
from .membership import View
from .node.connection import WORK_SECONDS
from .node.node import Node
from .node.nodes import Nodes
from .node.record import Record, Version, measured
from .placement.keys import Key, canonical, hash_of, to_id
from .repair.comparison import by_size

ATTEMPTS: Final = 10
"""How often an operation starts anew because the ring changed under it, or somebody else wrote the key."""
MENDED_IN_ONE: Final = 20
"""So many records of any size are written within the time of one request, and never more than WORK_SECONDS in all."""
LEAST_SECONDS: Final = 0.001
"""What a request gets whose time is over: no limit would be none at all."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Found:
    """A value and its version, for a conditional put."""

    key: Key
    value: Any
    version: Version


def found(record: Record | None) -> Found | None:
    """What a caller sees of a record: nothing of a tombstone."""
    return None if record is None or record.deleted else Found(record.key, record.value, record.version)


async def again(nodes: Nodes, read: Callable[[], Awaitable[Answer]], attempts: int = ATTEMPTS) -> Answer:
    """Run a read; when the ring has changed, read the membership anew and run it once more."""
    for _ in range(attempts):
        try:
            return await read()
        except StaleRingError:
            await nodes.refresh()
        except UnavailableError:
            if not await nodes.one_is_back():
                raise
    raise UnavailableError(f"the ring kept changing; {attempts} attempts")


class Reader:
    """See the module.  Safe to use from many tasks of one event loop; `nodes` is open while it is used."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes

    async def newest(self, key: Key) -> Record | None:
        """The newest record of a key, tombstones included.  UnavailableError, StaleRingError."""
        view, key_id = self.nodes.view, to_id(key)
        records = await self.collect(
            view,
            view.holders(key),
            lambda node: node.read_many([key_id], view.epoch),
            lambda node: node.hints_of([key_id]),
        )
        return records[0] if records else None

    async def group(self, group: str) -> list[Record]:
        """The newest records of a group in the order of their names, tombstones included.  Raises as `newest` does."""
        view, place = self.nodes.view, hash_of(group)
        records = await self.collect(
            view,
            view.holders_at(place),
            lambda node: node.read_group(place, group, view.epoch),
            lambda node: node.hints_of_group(place, group),
        )
        return sorted(records, key=lambda record: canonical(record.key))

    async def collect(
        self,
        view: View,
        holders: tuple[str, ...],
        records: Callable[[Node], Awaitable[list[Record]]],
        hints: Callable[[Node], Awaitable[list[Record]]],
    ) -> list[Record]:
        """Ask the holders, and hints where one is silent; the newest of every key, given to holders that lag.

        Hints are asked before the records that count: a hint that is delivered meanwhile and removed is in its holder's
        answer then.  So when another holder turns out to be silent, all is asked again, hints first.
        """
        newest: dict[bytes, Record] = {}
        known = {name for name in holders if self.nodes[name].away is not None}
        while True:
            more: dict[str, NodeAwayError] = {}
            if known:
                others, more = await self.nodes.ask([name for name in view.nodes if name not in holders], hints)
                keep_newest(newest, (record for answer in others.values() for record in answer))
            answers, silent = await self.nodes.ask(holders, records)
            self.nodes.refuse_uncertain(silent | more)
            if silent.keys() <= known:
                break
            known |= silent.keys()
        keep_newest(newest, (record for answer in answers.values() for record in answer))
        await self._mend(view, answers, newest)
        return list(newest.values())

    async def _mend(self, view: View, answers: Mapping[str, list[Record]], newest: Mapping[bytes, Record]) -> None:
        lagging: dict[str, list[Record]] = {}
        for name, answer in answers.items():
            held = {canonical(record.key): record.version for record in answer}
            late = [record for key, record in newest.items() if held.get(key) != record.version]
            if late:
                lagging[name] = late

        async def mend(node: Node) -> None:
            late, now = lagging[node.name], asyncio.get_running_loop().time
            requests = -(-len(late) // MENDED_IN_ONE)
            ends = now() + max(node.timeout_seconds, min(WORK_SECONDS, requests * node.timeout_seconds))
            for some in by_size(map(measured, late)):
                await node.apply_many(some, view.epoch, max(ends - now(), LEAST_SECONDS))
            await node.check()

        _, failed = await self.nodes.ask(lagging, mend)
        kept = answers.keys() - failed.keys()
        for name, why in failed.items():  # what is read once must be found by who reads next: another node keeps it
            for some in by_size(map(measured, lagging[name])):
                if not await self.nodes.leave_hints(view, some, kept, [name], WORK_SECONDS):
                    raise UnavailableError(f"{some[0].key!r}: {why}, and no other node keeps it for that one")


def keep_newest(newest: dict[bytes, Record], records: Iterable[Record]) -> None:
    """Keep the newest record of every key."""
    for record in records:
        key = canonical(record.key)
        if key not in newest or newest[key].version < record.version:
            newest[key] = record
