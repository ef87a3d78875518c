"""Nodes come and go while clients read and write: what moves, in which order, and how a killed mover's work goes on.

1. *begin*: the membership says which nodes there will be (compare-and-set: of two changes at once one is refused), and
   every node is fenced, so that from here on every client writes to old and new holders and asks both.
2. *copy*: what a new holder lacks is listed and sent; then every old holder is compared with the new ones, so the new
   copies are proved; hints are delivered.
3. *switch*: the membership says that the new ring is the ring; every node is fenced again.
4. *clean*: only then old copies go, and only those written before the switch.

Every step finds out from the nodes what is left of it, so a mover may be killed anywhere and run again by anybody.
`plan` counts all this beforehand and changes nothing.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field

from .errors import ChangeRefusedError, MoverAtWorkError, NodeAwayError, RingError, WrongNodeError
from .membership import CLEAN, COPY, Membership, Move, View
from .node.connection import WAITS
from .node.nodes import Nodes
from .placement.ring import DEFAULT_COPIES, DEFAULT_VIRTUAL_NODES, Arc, Ring, changes
from .repair.comparison import ARCS_AT_ONCE, Compared, batches, bring, compare, size, within
from .repair.upkeep import Upkeep

LEASE_SECONDS = 60.0


@dataclass(frozen=True)
class Transfer:
    """What one node will get from another."""

    source: str
    target: str
    arcs: tuple[Arc, ...] = field(repr=False)
    records: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Moved:
    """What a move did, as far as this mover did it."""

    copied: int
    bytes: int
    removed: int
    mended: int


Report = Callable[[str, int, int], None]
"""Phase, done, total; called after every batch."""


def _silent(phase: str, done: int, total: int) -> None:
    """Tell nobody."""


def identities() -> str:
    """The identity of a node's data, made once, when it joins."""
    return secrets.token_hex(12)


async def create(
    nodes: Nodes,
    weights: Mapping[str, int],
    *,
    copies: int = DEFAULT_COPIES,
    virtual_nodes: int = DEFAULT_VIRTUAL_NODES,
) -> bool:
    """Make a ring of empty nodes; False when it is there with these nodes.  ChangeRefusedError, WrongNodeError."""
    ring = Ring(weights, copies, virtual_nodes)
    membership: Membership = nodes.membership
    if await membership.exists():
        view = await membership.view()
        if view.ring != ring and (view.move is None or view.move.after != ring.weights):
            raise ChangeRefusedError(
                f"ring {membership.ring} exists with {_words(view.ring)}: change its nodes with `shardmart ring add` "
                "or `remove`; copies and virtual nodes stay as they were made"
            )
        return False
    made: dict[str, str] = {}
    processes: dict[str, str] = {}
    for name in weights:
        identity, process = await nodes[name].look()
        if process in processes.values():
            twin = next(other for other, one in processes.items() if one == process)
            raise WrongNodeError(f"{twin} and {name} are one server under two names")
        if identity is not None and await nodes[name].holds_records():
            raise WrongNodeError(
                f"{name} holds data of an earlier ring {membership.ring!r}: give the node an empty folder"
            )
        if await nodes[name].serves() > 1:
            raise WrongNodeError(f"{name} was in an earlier ring {membership.ring!r}: give the node an empty folder")
        # Of two that make the ring at once both take what the node has then.
        made[name], processes[name] = await nodes[name].prepare(identity or identities(), 1), process
        await nodes[name].fence(1)
    await membership.create(weights, made, processes, copies=copies, virtual_nodes=virtual_nodes)
    return True


class Mover:
    """Changes the nodes of a ring.  `nodes` is open; `report` hears of progress."""

    def __init__(self, nodes: Nodes, report: Report = _silent) -> None:
        self.nodes = nodes
        self.report = report
        self.holder = secrets.token_hex(8)

    async def plan(self, after: Mapping[str, int], *, dead: str | None = None) -> list[Transfer]:
        """What would move if the nodes and weights were these, counted on the nodes.  ChangeRefusedError as `begin`."""
        view = await self.nodes.refresh()
        transfers = self._transfers(view.ring, await self._allowed(view, after, dead), dead)
        found: list[Transfer] = []
        for number, one in enumerate(transfers):
            records, total = await size(self.nodes[one.source], one.arcs)
            found.append(Transfer(one.source, one.target, one.arcs, records, total))
            self.report("plan", number + 1, len(transfers))
        return found

    async def begin(self, after: Mapping[str, int], *, dead: str | None = None) -> View:
        """Start a change to these nodes and weights; `dead` is one of those that leave and cannot be asked any more.

        ChangeRefusedError says why it cannot be now; nothing is changed then.
        """
        async with self._leased():  # what joins is emptied: never by two, and never under a move that has begun
            return await self._begin(after, dead)

    async def _allowed(self, view: View, after: Mapping[str, int], dead: str | None) -> Ring:
        """The ring that a change leads to; ChangeRefusedError when it cannot be now."""
        if view.move:
            raise ChangeRefusedError(
                f"nodes are changing already ({_words(view.move.before)} to {_words(view.move.after)}, phase "
                f"{view.move.phase}): finish that first with `shardmart ring resume` (`--dead NAME` when NAME is lost "
                "for good)"
            )
        ring = self._ring(view, after)
        if missing := [name for name in after if name not in self.nodes.settings.nodes]:
            raise ChangeRefusedError(
                f"the settings have no node {missing[0]!r}: start its server, make the ring's user on it, add its "
                "connection string to the settings, then add the node"
            )
        if ring == view.ring:
            raise ChangeRefusedError(f"the ring has exactly these nodes: {_words(after)}")
        if dead is not None and (dead in after or view.ring.copies < 2):
            raise ChangeRefusedError(
                f"{dead} cannot be left behind: "
                + ("it stays" if dead in after else "it has the only copy of its keys")
            )
        if dead is not None:
            await self._refuse_alive(dead)
        if away := {name: why for name, why in self.nodes.away().items() if name != dead}:
            told = "; ".join(f"{name}: {why}" for name, why in away.items())
            waiting = next((name for name, why in away.items() if why == WAITS), None)
            raise ChangeRefusedError(
                f"{told}: nodes change only while all others answer, wait until it is back"
                + (
                    f"; if a node that it waits for is lost for good, `shardmart ring tend --trust {waiting}` has it "
                    "serve as it is"
                    if waiting
                    else ""
                )
            )
        return ring

    async def _refuse_alive(self, lost: str) -> None:
        await self.nodes.look([lost])
        if self.nodes[lost].away in (None, WAITS):
            raise ChangeRefusedError(f"{lost} answers: only a node that is lost for good is left behind")

    async def _begin(self, after: Mapping[str, int], dead: str | None) -> View:
        view = await self.nodes.refresh()
        await self._allowed(view, after, dead)
        fields: dict[str, object] = {}
        for name in after:
            if name not in view.ring.weights:
                identity, process = await self._welcome(view, name)
                fields[f"members.{name}"] = {"identity": identity, "process": process}
        move = Move(COPY, dict(view.ring.weights), dict(after), view.epoch + 1, dead)
        await self.nodes.membership.change(view, fields | {"move": asdict(move)})
        return await self.nodes.refresh()

    async def run(self) -> Moved:
        """Do what is left of the change under way.  NodeAwayError when a node stops answering: run it again then."""
        async with self._leased():
            view = await self.nodes.refresh()
            copied = Compared()
            mended = removed = 0
            if view.move and view.move.phase == COPY:
                copied, mended = await self._copy(view, view.move)
                if (await self.nodes.refresh()).epoch != view.epoch:
                    raise ChangeRefusedError("another mover has taken over")
                view = await self._switch(view)
            if view.move and view.move.phase == CLEAN:
                removed = await self._clean(view, view.move)
            return Moved(copied.new, copied.bytes, removed, mended)

    async def give_up(self, lost: str) -> View:
        """Go on without a node that is lost for good while nodes change; `run` does what is left then.

        A node that leaves anyway is left behind.  Otherwise what has not been switched yet is taken back, and what has
        is finished; if the node stays in the ring, its folder is not taken for it any more, and it can be removed as
        dead afterwards.  ChangeRefusedError.
        """
        async with self._leased():
            view = await self.nodes.refresh()
            move = view.move
            if move is None:
                raise ChangeRefusedError(f"no nodes are changing: `shardmart ring remove {lost} --dead`")
            if lost not in {**move.before, **move.after}:
                raise ChangeRefusedError(f"{lost} is none of the nodes that change: {_words(move.before)}")
            if move.dead not in (None, lost):
                raise ChangeRefusedError(f"{move.dead} is left behind already: a ring does without one node at a time")
            if view.ring.copies < 2 and lost in view.ring.weights:
                raise ChangeRefusedError(f"{lost} cannot be left behind: it has the only copy of its keys")
            await self._refuse_alive(lost)
            fields: dict[str, object] = {"move.dead": lost}
            stays = lost in view.ring.weights
            if move.phase == COPY:
                back = move.back or lost in move.after
                stays = lost in (move.before if back else move.after)
                fields |= {"move.back": back, "move.epoch": view.epoch + 1}
            if stays:
                fields[f"members.{lost}"] = {"identity": identities(), "process": None}
            await self.nodes.membership.change(view, fields)
            return await self.nodes.refresh()

    @asynccontextmanager
    async def _leased(self) -> AsyncIterator[None]:
        if not await self.nodes.membership.lease("move", self.holder, LEASE_SECONDS):
            raise MoverAtWorkError("another mover is at work; if it was killed, its lease ends within a minute")
        try:
            yield
        finally:
            await self.nodes.membership.release("move", self.holder)

    async def _welcome(self, view: View, name: str) -> tuple[str, str]:
        """Prepare a node that joins, emptied of what it may hold from an earlier time in this ring."""
        node = self.nodes[name]
        with suppress(NodeAwayError):  # connections from before the server was started again end at their first use
            await node.look()
        identity, process = await node.look()
        for other in view.members.values():
            if process == other.process or (identity is not None and identity == other.identity):
                raise WrongNodeError(f"{name} is the server of {other.name} under another name")
        made, epoch = identities(), view.epoch + 1
        if identity is not None:
            # By epoch: had this mover slept, and another brought the node in meanwhile, nothing of that is removed.
            await node.clear(view.epoch)
        if await node.prepare(made, epoch, view.reaps, instead_of=identity) != made:
            raise ChangeRefusedError(f"{name}: another mover prepares it; look at `shardmart ring status`")
        if await node.holds_records() or await node.serves() > epoch:
            raise WrongNodeError(
                f"{name} holds data of another ring {self.nodes.settings.name!r}: give it an empty folder"
            )
        await node.fence(epoch)
        return made, process

    def _ring(self, view: View, weights: Mapping[str, int]) -> Ring:
        try:
            return Ring(dict(weights), view.ring.copies, view.ring.virtual_nodes)
        except RingError as error:
            raise ChangeRefusedError(str(error)) from None

    def _transfers(self, before: Ring, after: Ring, dead: str | None) -> list[Transfer]:
        found: dict[tuple[str, str], list[Arc]] = defaultdict(list)
        for arc, old, new in changes(before, after):
            source = next(name for name in old if name != dead)
            for target in new:
                if target not in old:
                    found[source, target].append(arc)
        return [Transfer(source, target, tuple(arcs)) for (source, target), arcs in found.items()]

    async def _fence(self, view: View, move: Move) -> None:
        for name in {**move.before, **move.after}:
            if name != move.dead:
                await self.nodes[name].fence(view.epoch)

    async def _renew(self) -> None:
        if not await self.nodes.membership.lease("move", self.holder, LEASE_SECONDS):
            raise ChangeRefusedError("another mover has taken over")

    async def _copy(self, view: View, move: Move) -> tuple[Compared, int]:
        await self._fence(view, move)
        before, after = view.ring, view.rings[-1]
        transfers = [] if move.back else self._transfers(before, after, move.dead)
        total = sum(len(one.arcs) for one in transfers)
        copied = Compared()
        done = 0
        for one in transfers:
            for arcs in batches(one.arcs, ARCS_AT_ONCE):
                copied.add(await bring(self.nodes[one.source], self.nodes[one.target], arcs, view.epoch))
                done += len(arcs)
                self.report("copy", done, total)
                await self._renew()
        mended = 0
        pairs: dict[tuple[str, str], list[Arc]] = defaultdict(list)
        for arc, old, new in changes(before, after):
            for source in old:
                for target in new:
                    if target not in old and move.dead not in (source, target):
                        pairs[source, target].append(arc)
        for number, ((source, target), arcs) in enumerate(pairs.items()):
            mended += (await compare(self.nodes[source], self.nodes[target], arcs, view.epoch)).differing
            self.report("verify", number + 1, len(pairs))
            await self._renew()
        return copied, mended

    async def _switch(self, view: View) -> View:
        move = view.move
        assert move
        await Upkeep(self.nodes).deliver(strict=True)
        for name in view.nodes:  # a hint that its node has not got might be for the next ring
            if name != move.dead:
                await self.nodes[name].check()
                if self.nodes[name].away is not None:
                    raise NodeAwayError(name, f"{self.nodes[name].away}; run the move again when it is back")
            if name not in view.target.weights and name != move.dead and (kept := await self.nodes[name].hint_count()):
                raise NodeAwayError(name, f"it leaves and keeps {kept} hints for others: run the move again")
        before, after = (move.after, move.before) if move.back else (move.before, move.after)
        done = {"phase": CLEAN, "before": dict(before), "after": dict(after), "back": False}
        fields = {"weights": dict(after)} | {f"move.{name}": value for name, value in done.items()}
        await self.nodes.membership.change(view, fields)
        return await self.nodes.refresh()

    async def _clean(self, view: View, move: Move) -> int:
        await self._fence(view, move)
        before = Ring(move.before, view.ring.copies, view.ring.virtual_nodes)
        leaving: dict[str, list[Arc]] = defaultdict(list)
        for arc, old, new in changes(before, view.ring):
            for name in old:
                if name not in new and name in move.after and name != move.dead:
                    leaving[name].append(arc)
        removed = 0
        for number, (name, arcs) in enumerate(leaving.items()):
            node = self.nodes[name]
            for some in batches(arcs, ARCS_AT_ONCE):
                # A mover that slept since an earlier change must not remove what a later one has brought.
                removed += await node.remove({**within(some), "e": {"$lte": move.epoch}})
            self.report("clean", number + 1, len(leaving))
            await self._renew()
        gone = [name for name in move.before if name not in move.after]
        for name in gone:
            if name != move.dead:
                removed += await self.nodes[name].clear(move.epoch)
        await self.nodes.membership.finish(view, gone)
        await self.nodes.refresh()
        return removed


def _words(weights: Mapping[str, int] | Ring) -> str:
    names = weights.weights if isinstance(weights, Ring) else weights
    return ", ".join(name if weight == 1 else f"{name} (weight {weight})" for name, weight in names.items())
