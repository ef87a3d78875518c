"""What a ring needs while nobody looks: nodes that return, hints to deliver, tombstones that may end.

Any client may do it, in the background or once (`shardmart ring tend`); a lease keeps it to one at a time, and nothing
goes wrong if it is two.

- A node whose process is not the one the membership knows (it was started again, or its folder is another) is compared
  with every other node before it serves, by one client at a time: a lease keeps the others off, and who works on when
  his has ended can neither empty the node nor let it serve.  Until then clients treat it as away.
- One whose folder is older than tombstones that have ended is emptied first, and no node is compared with it before.
- A node that did not answer for a while and is the same process may have carried out late what it was asked before:
  it is compared with the others when it is back, and so are all nodes every ten minutes.  Meanwhile it serves: a read
  asks every holder.
- A hint goes to its node when that is back, and is removed once it is journalled there.  A hint for a node that no
  longer holds the key goes to those that do.
- A tombstone ends only when it is old enough, no node is away, no nodes are changing, every holder has exactly it, and
  no hint for its key is left anywhere: so nothing older can come after it.  The rule is Riak's (reap only with all
  primaries up) rather than Cassandra's (a time that must be longer than any absence).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import combinations

from ...tasks import cancel, kept_running
from ..errors import NodeAwayError, RingError, StoreError, WrongNodeError
from ..membership import View
from ..node.connection import WORK_SECONDS
from ..node.node import Node
from ..node.nodes import Nodes
from ..node.record import Document, Record
from ..placement.keys import canonical, to_id
from ..placement.ring import Arc, cut, joined
from .comparison import BATCH_BYTES, Compared, batches, compare

ROUND_SECONDS = 1.0
LEASE_SECONDS = 10.0
REAP_EVERY_SECONDS = 60.0
COMPARE_EVERY_SECONDS = 600.0
TOMBSTONE_SECONDS = 86_400.0
BATCH = 200
log = logging.getLogger(__name__)


class Upkeep:
    """See the module.  `compared` says what the last return of each node found."""

    def __init__(self, nodes: Nodes, *, tombstone_seconds: float = TOMBSTONE_SECONDS) -> None:
        self.nodes = nodes
        self.tombstone_seconds = tombstone_seconds
        self.compared: dict[str, Compared] = {}
        self.holder = secrets.token_hex(8)
        self._settled: dict[tuple[str, str], tuple[int, int]] = {}
        """Two nodes → how often each had been absent when they were compared last."""
        self._said: dict[str, str] = {}
        """What could not be done → why, as it was logged last."""

    async def run(self) -> None:
        """Tend the ring until cancelled."""
        reaped = compared = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            with suppress(RingError):  # whoever is away is tried again in the next round
                if not await self.nodes.membership.lease("upkeep", self.holder, LEASE_SECONDS):
                    continue
                await self.tend()
                if asyncio.get_running_loop().time() - compared > COMPARE_EVERY_SECONDS:
                    compared = asyncio.get_running_loop().time()
                    self._settled.clear()
                if asyncio.get_running_loop().time() - reaped > REAP_EVERY_SECONDS:
                    reaped = asyncio.get_running_loop().time()
                    await self.reap()

    async def tend(self) -> None:
        """Bring back the nodes that can come back, and deliver the hints that can be delivered."""
        await self.nodes.refresh()
        left = list(self.nodes.away())
        while left:
            for name in left:
                with self._others_all_the_same(f"bring {name} back"):
                    await self.bring_back(name)
            now = list(self.nodes.away())
            left = now if len(now) < len(left) else []  # one may have waited for another that serves now
        await self.deliver()
        await self.settle()

    async def settle(self) -> Compared:
        """Compare each two nodes of which one was absent since they were compared last; the first time all."""
        view = self.nodes.view
        found = Compared()
        there = [name for name in view.nodes if self.nodes[name].away is None]
        for one, other in combinations(there, 2):
            absences = self.nodes[one].absences, self.nodes[other].absences
            if self._settled.get((one, other)) == absences:
                continue
            with self._others_all_the_same(f"compare {one} with {other}"):  # unsettled still in the next round
                if arcs := held_by_both(view, one, other):
                    found.add(await compare(self.nodes[one], self.nodes[other], arcs, view.epoch))
                self._settled[one, other] = absences
        return found

    # Nodes that return

    async def bring_back(self, name: str, *, trust: bool = False) -> bool:
        """Compare a node that was started again with all others, then let it serve; False when it serves already.

        NodeAwayError when it or another does not answer: what only the two hold cannot be compared then.  With `trust`
        its data is taken as it is, which is right only if its folder is the one it had when it went.
        """
        view = await self.nodes.refresh()
        node, member = self.nodes[name], view.members[name]
        identity, process = await node.look()
        if identity != member.identity:
            raise WrongNodeError(
                f"{name}: the server at its address does not hold its data; give it its folder back, or remove the "
                "node and add it anew"
            )
        if process == member.process:
            await self.nodes.look([name])
            return False
        async with self._alone(name) as token:
            # From here on no tombstone ends until it serves: `Membership.reap` wants the processes that it knows.
            if not await self.nodes.membership.withdraw(member, token):
                raise NodeAwayError(
                    name, "another client has brought it back, or its folder is not taken for it any more"
                )
            await self._bring_back(await self.nodes.refresh(), name, (identity, process), token, trust=trust)
        await self.nodes.refresh()
        log.info("%s is back: %s", name, self.compared.get(name))
        return True

    async def _bring_back(self, view: View, name: str, is_now: tuple[str, str], token: str, *, trust: bool) -> None:
        node, (identity, process) = self.nodes[name], is_now
        told = await node.reaps()
        older = told < view.reaps
        met: dict[str, tuple[str | None, str]] = {}
        if trust and not older:
            partners: list[str] = []
        else:
            met, old = await self._meet(view, name, trust=trust)
            partners = old if trust else list(met)
            if old and not trust:
                raise NodeAwayError(name, _waits_for(name, old[0], older=older))
        emptied = older and not trust and view.ring.copies > 1
        if emptied and not await node.emptied(identity, view.reaps):
            view = await self._empty(view, name, identity, token)
        if partners or not trust:
            self.compared[name] = await self._compare(view, name, partners)
        met[name] = is_now
        if any([await self.nodes[one].look() != found for one, found in met.items()]):
            raise NodeAwayError(name, "it or another was started again while they were compared")
        if older and not await node.note_told(identity, told, view.reaps, emptied=emptied):
            raise NodeAwayError(name, "somebody else has emptied or filled it meanwhile")
        if not await self.nodes.membership.serve(name, token, process):
            raise NodeAwayError(name, "another client compares it")

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[str]:
        """Be the one that brings a node back, until the end or as long as the store answers; the token of this time."""
        token, work, membership = secrets.token_hex(8), f"return of {name}", self.nodes.membership
        if not await membership.lease(work, token, LEASE_SECONDS):
            raise NodeAwayError(name, "another client compares it")

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE_SECONDS / 4)
                with suppress(StoreError):
                    await membership.lease(work, token, LEASE_SECONDS)

        renewing = asyncio.create_task(kept_running(renew))
        try:
            yield token
        finally:
            await cancel(renewing)
            with suppress(StoreError):
                await membership.release(work, token)

    async def _meet(self, view: View, name: str, *, trust: bool) -> tuple[dict[str, tuple[str | None, str]], list[str]]:
        """What all others are, and which of them are older than tombstones that have ended (in a ring of one copy none
        count as older).  NodeAwayError when one does not answer or holds other data; with `trust` it is left out.
        """
        met: dict[str, tuple[str | None, str]] = {}
        old: list[str] = []
        for other in view.nodes:
            if other in (name, view.dead):
                continue
            try:
                found, told = await self.nodes[other].look(), await self.nodes[other].reaps()
            except NodeAwayError as error:
                if not trust:
                    raise
                log.warning("%s is trusted without a look at what only %s may hold: %s", name, other, error)
                continue
            if found[0] == view.members[other].identity:
                met[other] = found
                if told < view.reaps and view.ring.copies > 1:
                    old.append(other)
            elif not trust:
                raise NodeAwayError(name, f"the server of {other} does not hold its data: the two cannot be compared")
        return met, old

    async def _compare(self, view: View, name: str, others: Iterable[str]) -> Compared:
        found = Compared()
        for other in others:
            if arcs := held_by_both(view, name, other):
                found.add(await compare(self.nodes[name], self.nodes[other], arcs, view.epoch))
        return found

    async def _empty(self, view: View, name: str, identity: str, token: str) -> View:
        """Empty a node whose folder is older than tombstones that have ended: it may hold what was deleted.

        Only while all others are there and none of them is older too: they have everything that counts.  What it is
        filled with is of a new epoch, and what is removed is not.
        """
        if not await self.nodes.membership.lease(f"return of {name}", token, LEASE_SECONDS):
            raise NodeAwayError(name, "another client compares it")
        view = await self.nodes.membership.empties(view, name, token)
        node = self.nodes[name]
        await node.fence(view.epoch)
        gone = await node.clear(view.epoch - 1)
        if not await node.note_emptied(identity, view.reaps, view.epoch):
            raise NodeAwayError(name, "another client empties it")
        log.warning("%s: its folder is older than deletions that have ended: emptied of %d records", name, gone)
        return view

    @contextmanager
    def _others_all_the_same(self, what: str, *, strict: bool = False) -> Iterator[None]:
        """Go on with other nodes when this cannot be done, and log why, once.

        Not without the store; and with `strict` only past a node that is away.
        """
        try:
            yield
        except StoreError:
            raise
        except RingError as error:
            if strict and not isinstance(error, NodeAwayError):
                raise
            if self._said.get(what) != str(error):
                self._said[what] = str(error)
                log.warning("cannot %s: %s", what, error)
        else:
            self._said.pop(what, None)

    # Hints

    async def deliver(self, *, strict: bool = False) -> int:
        """Deliver the hints whose nodes answer; returns how many.

        What one node refuses is logged, and the others get theirs; with `strict` it is raised.
        """
        view = self.nodes.view
        count = 0
        for keeper in [self.nodes[name] for name in view.nodes if self.nodes[name].away is None]:
            targets: list[str] = []
            with self._others_all_the_same(f"list the hints of {keeper.name}", strict=strict):
                targets = await keeper.hint_targets()
            for target in targets:
                if target in view.nodes and target != view.dead and self.nodes[target].away is not None:
                    continue
                with self._others_all_the_same(f"deliver hints of {keeper.name} to {target}", strict=strict):
                    count += await self._deliver(view, keeper, target)
        return count

    async def hints(self) -> dict[str, int]:
        """How many hints wait for each node; nodes that do not answer are left out of the count."""
        waiting: dict[str, int] = defaultdict(int)
        count = {"$group": {"_id": "$to", "count": {"$sum": 1}}}

        async def of(node: Node) -> list[Document]:
            return await node.use(lambda: _all(node, [count]))

        answers, _ = await self.nodes.ask(self.nodes.view.nodes, of)
        for answer in answers.values():
            for one in answer:
                waiting[one["_id"]] += one["count"]
        return dict(waiting)

    async def _deliver(self, view: View, keeper: Node, target: str) -> int:
        count = 0
        while hints := await keeper.hints_for(target, BATCH, BATCH_BYTES):
            await self._hand_over(view, target, hints)
            await keeper.forget_hints(target, hints)
            count += len(hints)
        return count

    async def _hand_over(self, view: View, target: str, records: Sequence[Record]) -> None:
        """Give records to the node they wait for, or to all that hold them where it does not any more."""
        parts: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            holders = view.holders(record.key)
            for name in [target] if target in holders and target != view.dead else holders:
                if name != view.dead:
                    parts[name].append(record)
        for name, part in parts.items():
            await self.nodes[name].apply_many(part, view.epoch, WORK_SECONDS)
            await self.nodes[name].check()

    # Tombstones

    async def reap(self) -> int:
        """End the tombstones that may end; returns how many.  Nothing while a node is away or nodes change."""
        view = await self.nodes.refresh()
        if self.nodes.away() or view.move:
            return 0
        before = datetime.now(UTC) - timedelta(seconds=self.tombstone_seconds)
        ended: list[Record] = []
        for name in view.nodes:
            node = self.nodes[name]
            mine = [r for r in await node.tombstones(before) if view.holders(r.key)[0] == name]
            for some in batches(mine, BATCH):
                ended += await self._may_end(view, some)
        if not ended:
            return 0
        # All is looked at before it is counted, and counted on every node before anything goes: a folder that was
        # copied before it had one of these tombstones has the smaller count.  No number is used twice: a round that
        # ended half way has told some nodes its own, and a folder may have been copied since.
        told, silent = await self.nodes.ask(view.nodes, lambda node: node.reaps())
        count = max([view.reaps, *told.values()]) + 1
        counted, more = await self.nodes.ask(view.nodes, lambda node: node.count_reaps(view.reaps, count))
        if silent or more or not all(counted.values()) or not await self.nodes.membership.reap(view, count):
            return 0
        for some in batches(ended, BATCH):
            await self.nodes.ask(view.nodes, lambda node, some=some: node.forget(some))  # type: ignore[misc]
        return len(ended)

    async def _may_end(self, view: View, tombstones: list[Record]) -> list[Record]:
        ids = [to_id(record.key) for record in tombstones]
        hints, away = await self.nodes.ask(view.nodes, lambda node: node.hints_of(ids))
        waiting = {canonical(record.key) for answer in hints.values() for record in answer}
        held, silent = await self.nodes.ask(view.nodes, lambda node: node.read_many(ids, view.epoch, values=False))
        if away or silent:
            return []
        versions = {name: {canonical(r.key): r.version for r in answer} for name, answer in held.items()}

        def everywhere(record: Record) -> bool:
            """On every holder, and on no other node in another version, which would be left alone."""
            key, holders = canonical(record.key), view.holders(record.key)
            return all(
                of.get(key, None if name in holders else record.version) == record.version
                for name, of in versions.items()
            )

        return [record for record in tombstones if canonical(record.key) not in waiting and everywhere(record)]


def _waits_for(name: str, other: str, *, older: bool) -> str:
    if not older:
        return f"the folder of {other} is older than deletions that have ended: that node goes first"
    return (
        f"its folder is older than deletions that have ended, and so is that of {other}: "
        f"`shardmart ring tend --trust {name}` takes it all the same, and what was deleted may be back"
    )


def held_by_both(view: View, one: str, other: str) -> list[Arc]:
    """The arcs that two nodes both hold, by the ring and while nodes change by the next one too."""
    return joined(arc for arc in cut(view.rings) if {one, other} <= set(view.holders_at(arc.first)))


async def _all(node: Node, pipeline: list[Document]) -> list[Document]:
    return await (await node.hints.aggregate(pipeline)).to_list()
