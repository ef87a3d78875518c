"""The nodes of a ring as one client sees them: the view it works by, and whom it can ask.

It reads the membership anew when a node says that the ring has changed, and every second in the background; it looks at
nodes that are away until they are back.  It moves no data.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from ...tasks import cancel, kept_running
from ..errors import NodeAwayError, RingError, SettingsError, StaleRingError, UnavailableError
from ..membership import Membership, View
from ..placement.keys import hash_of
from ..settings import Settings
from .connection import WAITS
from .node import Node
from .record import Record

WATCH_SECONDS = 0.5
NOTICED_SECONDS = 6 * WATCH_SECONDS
"""Within this every client that is not itself held up has read the membership twice, and asks a node that serves."""
Answer = TypeVar("Answer")


class Nodes:
    """Connections to the nodes and the store.  `open` before use, `close` after."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.membership = Membership(settings.store, settings.name, settings.database)
        self._nodes = {
            name: Node(name, uri, settings.database, settings.timeout_seconds) for name, uri in settings.nodes.items()
        }
        self._view: View | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._closing = False

    async def open(self) -> None:
        """Read the membership and look at every node.  StoreError without the store; a node may be away."""
        await self.refresh()
        self._watcher = asyncio.create_task(kept_running(self._watch))

    async def close(self) -> None:
        """Stop watching and give back every connection."""
        self._closing = True
        if self._watcher:
            await cancel(self._watcher)
        await asyncio.gather(*(node.close() for node in self._nodes.values()), self.membership.close())

    @property
    def view(self) -> View:
        """The view this client works by."""
        assert self._view, "open it first"
        return self._view

    @property
    def required(self) -> int:
        """On how many nodes an acknowledged write is journalled."""
        return self.settings.required_copies or min(2, self.view.ring.copies)

    @property
    def tolerated(self) -> int:
        """How many nodes that may hold a key need not answer a read, and it is certain all the same.

        An acknowledged write is on `required` nodes, so all but that many less one suffice.  Whoever has chosen
        acknowledgements by one node has chosen not to be certain: then it is as if by two.
        """
        return max(self.required, min(2, self.view.ring.copies)) - 1

    def __getitem__(self, name: str) -> Node:
        """The node of this name, whatever the view says of it; SettingsError when the settings have none."""
        try:
            return self._nodes[name]
        except KeyError:
            raise SettingsError(
                f"the ring has a node {name!r} that the settings do not have: add its connection string"
            ) from None

    def away(self) -> dict[str, str]:
        """The nodes of the view that are not asked now, and why."""
        return {name: reason for name in self.view.nodes if (reason := self[name].away) is not None}

    async def refresh(self) -> View:
        """Read the membership anew and look at the nodes that it says something new of."""
        async with self._reading:
            view = await self.membership.view()
            if (required := self.settings.required_copies or 1) > view.ring.copies:
                raise SettingsError(
                    f"required_copies: {required}, and the ring keeps {view.ring.copies} copies: nothing would ever be "
                    "acknowledged"
                )
            if self._view is None or view.epoch >= self._view.epoch:
                for name in view.nodes:
                    self[name].expect(view.members[name].identity, view.members[name].process)
                self._view = view
        await self.look(name for name in self.view.nodes if self[name].away == "not asked yet")
        return self.view

    async def look(self, names: Iterable[str]) -> None:
        """Look at these nodes; those that are well are asked again from now on."""

        async def one(node: Node) -> None:
            with suppress(RingError):
                await node.check()

        await asyncio.gather(*(one(self[name]) for name in names))

    async def one_is_back(self) -> bool:
        """Whether a node that was waiting to be compared serves by now; the membership is read for it."""
        waiting = [name for name, reason in self.away().items() if reason == WAITS]
        with suppress(RingError):
            if waiting:
                await self.refresh()
        return any(self[name].away is None for name in waiting)

    async def _watch(self) -> None:
        """Read the membership and look at nodes that are away, again and again."""
        turn = 0
        while not self._closing:
            await asyncio.sleep(WATCH_SECONDS)
            turn += 1
            with suppress(RingError):  # operations tell: they go on with the view there is
                if turn % 2 == 0:
                    await self.refresh()
            await self.look(self.away())

    async def ask(
        self, names: Iterable[str], question: Callable[[Node], Awaitable[Answer]]
    ) -> tuple[dict[str, Answer], dict[str, NodeAwayError]]:
        """Ask these nodes at once: what those said that answered, and why the others did not.

        StaleRingError when one of them serves a later epoch.
        """
        asked = list(names)

        async def one(name: str) -> Answer:
            return await question(self[name])

        answers: dict[str, Answer] = {}
        silent: dict[str, NodeAwayError] = {}
        stale: StaleRingError | None = None
        for name, answer in zip(asked, await asyncio.gather(*map(one, asked), return_exceptions=True), strict=True):
            if isinstance(answer, NodeAwayError):
                silent[name] = answer
            elif isinstance(answer, StaleRingError):
                stale = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers[name] = answer
        if stale:
            raise stale
        return answers, silent

    async def leave_hints(
        self,
        view: View,
        records: Sequence[Record],
        kept: Collection[str],
        targets: Iterable[str],
        seconds: float | None = None,
    ) -> dict[str, str]:
        """Leave records, all of the same holders, with another node for each holder that is silent; target → keeper.

        Those of the holders keep hints that have the records themselves (`kept`), and only where no other node does.
        A target for which no node took them is not in the answer; `seconds` are for one request.
        """
        holders = view.holders(records[0].key)
        order = view.target.all_from(hash_of(records[0].key))
        keepers = [n for n in order if n not in holders] + [n for n in order if n in holders and n in kept]
        found: dict[str, str] = {}
        for target in targets:
            if target == view.dead and target not in view.target.weights:
                continue
            for name in keepers:
                try:
                    await self[name].hint_many(records, target, view.epoch, seconds)
                except NodeAwayError:
                    continue
                found[target] = name
                break
        return found

    def refuse_uncertain(self, silent: dict[str, NodeAwayError]) -> None:
        """UnavailableError when more nodes than are tolerated did not answer."""
        if len(silent) > self.tolerated:
            raise UnavailableError(
                f"{'; '.join(str(one) for one in silent.values())}: at most {self.tolerated} of the nodes that "
                "may hold this key can be away"
            )
