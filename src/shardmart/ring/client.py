"""The client of a ring: get, put, delete, many at once, a whole group, everything; asynchronous.

What its answers promise is said where they are made: `reading`, `writing`, `bulk` for many keys, `pages` for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from ..tasks import cancel, kept_running
from . import bulk, pages
from .membership import View
from .node.nodes import Nodes
from .node.record import BLIND, CONDITIONAL, Version, draft
from .placement.keys import Key
from .reading import Found, Reader, again, found
from .repair.upkeep import Upkeep
from .settings import Settings
from .writing import Acknowledged, Writer


class _Anything:
    """What a put expects that is not conditional."""


ANYTHING: Final = _Anything()


class RingClient:
    """See the module.  Safe to use from many tasks of one event loop; `async with RingClient(settings) as ring:`.

    With `upkeep` it tends the ring in the background: nodes that return, hints, tombstones (one client at a time does).
    """

    def __init__(self, settings: Settings, *, upkeep: bool = True) -> None:
        self.nodes = Nodes(settings)
        self.upkeep = Upkeep(self.nodes)
        self._reader = Reader(self.nodes)
        self._writer = Writer(self._reader)
        self._tends = upkeep
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.nodes.open()
        except BaseException:
            await self.nodes.close()
            raise
        if self._tends:
            self._task = asyncio.create_task(kept_running(self.upkeep.run))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task:
            await cancel(self._task)
        await self.nodes.close()

    @property
    def view(self) -> View:
        """The ring as this client knows it."""
        return self.nodes.view

    # Reading

    async def get(self, key: Key) -> Found | None:
        """The newest value of a key; None when there is none or it was deleted.  UnavailableError."""
        return found(await again(self.nodes, lambda: self._reader.newest(key)))

    async def get_many(self, keys: Iterable[Key]) -> list[Found]:
        """Those of these keys that have a value, in no order."""
        wanted = list(keys)
        return await again(self.nodes, lambda: bulk.read(self._reader, wanted))

    async def get_group(self, group: str) -> list[Found]:
        """Every value of a group (`Grouped`), in the order of their names."""
        records = await again(self.nodes, lambda: self._reader.group(group))
        return [one for record in records if (one := found(record))]

    def iterate(self, *, page: int = 500, without: Collection[str] = ()) -> AsyncIterator[Found]:
        """Every key that has a value, once, in the order of places, also while nodes come and go.

        A key written or deleted after the iteration began may be seen or not.  Nodes named in `without` are not asked:
        what is left of a ring whose nodes have lost their data, and no more than that.
        """
        return pages.iterate(self.nodes, page, without)

    # Writing

    async def put(self, key: Key, value: Any, *, expect: Version | _Anything | None = ANYTHING) -> Acknowledged:
        """Write a value.  With `expect` only over that version (None: only where there is no value).

        Raises NotAcknowledgedError, UnavailableError, ValueTooLargeError, with `expect` also ConflictError.
        """
        if isinstance(expect, _Anything):
            return await self._writer.write(draft(key, value, deleted=False, kind=BLIND))
        return await self._writer.write_if(draft(key, value, deleted=False, kind=CONDITIONAL), expect)

    async def delete(self, key: Key, *, expect: Version | _Anything = ANYTHING) -> Acknowledged:
        """Delete a key: a tombstone takes its place.  Raises as `put` does; deleting what is not there is no error."""
        if isinstance(expect, _Anything):
            return await self._writer.write(draft(key, None, deleted=True, kind=BLIND))
        return await self._writer.write_if(draft(key, None, deleted=True, kind=CONDITIONAL), expect)

    async def put_many(self, items: Mapping[Key, Any] | Iterable[tuple[Key, Any]]) -> int:
        """Write many values, some hundred at a time; returns how many, all of them acknowledged."""
        pairs: Iterable[tuple[Key, Any]] = items.items() if isinstance(items, Mapping) else items
        return await bulk.write(self._writer, (draft(key, value, deleted=False, kind=BLIND) for key, value in pairs))

    async def delete_many(self, keys: Iterable[Key]) -> int:
        """Delete many keys, as `put_many` writes; returns how many keys were given."""
        return await bulk.write(self._writer, (draft(key, None, deleted=True, kind=BLIND) for key in keys))
