"""What a ring needs while nobody looks: nodes that return, hints to deliver, tombstones that may end.

Any client may do it, in the background or once (`shardmart ring tend`); a lease keeps it to one at a time, and nothing
goes wrong if it is two.

- A node whose process is not the one the membership knows (it was started again, or its folder is another) is compared
  with every other node before it serves.  Until then clients treat it as away.
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
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import combinations

from ..errors import NodeAwayError, RingError, StaleRingError, WrongNodeError
from ..membership import View
from ..node.connection import FENCE, WORK_SECONDS
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
        for name in self.nodes.away():
            with suppress(NodeAwayError, WrongNodeError):  # `away` says why; the others are tended all the same
                await self.bring_back(name)
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
            with suppress(NodeAwayError, StaleRingError):  # the next round finds them unsettled still
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
        # From here on no tombstone ends until it serves: `Membership.reap` wants the processes that it knows.
        await self.nodes.membership.withdraw(name, member.process)
        view = await self.nodes.refresh()
        if await node.reaps() < view.reaps and view.ring.copies > 1:
            if not trust:
                await self._empty(view, name)
            await node.answer(node.records.update_one({"_id": FENCE}, {"$max": {"r": view.reaps}}))
        if not trust:
            found = Compared()
            for other in view.nodes:
                if other not in (name, view.dead) and (arcs := held_by_both(view, name, other)):
                    found.add(await compare(node, self.nodes[other], arcs, view.epoch))
            self.compared[name] = found
        if (await node.look()) != (identity, process):
            raise NodeAwayError(name, "it was started again while it was compared")
        await self.nodes.membership.serve(name, view.members[name].process, process)
        await self.nodes.refresh()
        log.info("%s is back: %s", name, self.compared.get(name))
        return True

    async def _empty(self, view: View, name: str) -> None:
        """Empty a node whose folder is older than tombstones that have ended: it may hold what was deleted.

        Only while all others are there and none of them is older too: they have everything that counts.
        """
        for other in view.nodes:
            if other not in (name, view.dead) and await self.nodes[other].reaps() < view.reaps:
                raise NodeAwayError(
                    name,
                    f"its folder is older than deletions that have ended, and so is that of {other}: "
                    f"`shardmart ring tend --trust {name}` takes it all the same, and what was deleted may be back",
                )
        gone = await self.nodes[name].clear(view.epoch)
        log.warning("%s: its folder is older than deletions that have ended: emptied of %d records", name, gone)

    # Hints

    async def deliver(self) -> int:
        """Deliver the hints whose nodes answer; returns how many."""
        view = self.nodes.view
        count = 0
        for keeper in view.nodes:
            if self.nodes[keeper].away is None:
                with suppress(NodeAwayError):
                    count += await self._deliver_from(view, self.nodes[keeper])
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

    async def _deliver_from(self, view: View, keeper: Node) -> int:
        count = 0
        for target in await keeper.use(lambda: keeper.hints.distinct("to")):
            if target in view.nodes and target != view.dead and self.nodes[target].away is not None:
                continue
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
        # copied before it had one of these tombstones has the smaller count.
        _, silent = await self.nodes.ask(view.nodes, lambda node: node.count_reaps(view.reaps + 1))
        if silent or not await self.nodes.membership.reap(view):
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


def held_by_both(view: View, one: str, other: str) -> list[Arc]:
    """The arcs that two nodes both hold, by the ring and while nodes change by the next one too."""
    return joined(arc for arc in cut(view.rings) if {one, other} <= set(view.holders_at(arc.first)))


async def _all(node: Node, pipeline: list[Document]) -> list[Document]:
    return await (await node.hints.aggregate(pipeline)).to_list()
