"""The three demonstrations: one node; three nodes that change; a backup that answers for a node that was killed.

Each is a story in steps; what it claims at the end it has counted on the nodes, not in its own memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from shardmart.loader.progress import Reporter
from shardmart.ring import RingClient, Settings, moves
from shardmart.ring.moves import Mover
from shardmart.ring.node.nodes import Nodes
from shardmart.ring.repair.comparison import BATCH_RECORDS, batches, digest
from shardmart.ring.repair.upkeep import held_by_both

from .outcome import Outcome

VALUES = {"$and": [{"h": {"$exists": True}}, {"t": {"$exists": False}}]}
CALM_SECONDS, LOSS_SECONDS = 5.0, 2.0
"""How long an operation may take: where no node goes, and where the first answer after one went is measured."""
RESYNC_SECONDS = 120.0
SPREAD_FROM = 5_000
"""Below so many documents chance alone makes nodes differ by several per cent: nothing is claimed then."""


def documents(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents of a demonstration: keys and values, the same each time."""
    return ((f"document-{n}", {"name": f"Document {n}", "quantity": n % 100}) for n in range(count))


class Serving(Protocol):
    """The servers of a demonstration."""

    names: tuple[str, ...]

    def settings(self, *, timeout_seconds: float) -> Settings:
        """The settings of a ring of these nodes."""


class Losing(Serving, Protocol):
    """Servers of which one can be lost and come back with its data; `loss` says how, in words."""

    loss: str

    def kill(self, name: str) -> None:
        """Lose a node now."""

    def start(self, name: str) -> None:
        """Have it back."""


async def prepare(settings: Settings, copies: int, names: Iterable[str]) -> None:
    """Make the ring."""
    nodes = Nodes(settings)
    try:
        await moves.create(nodes, dict.fromkeys(names, 1), copies=copies)
    finally:
        await nodes.close()


async def single(servers: Serving, count: int, reporter: Reporter) -> Outcome:
    """Insert documents on one node, and find each of them."""
    outcome = Outcome("Insert and find on one node")
    names, settings = servers.names, servers.settings(timeout_seconds=CALM_SECONDS)
    await prepare(settings, 1, names)
    async with RingClient(settings, upkeep=False) as ring:
        await _insert(ring, count, outcome, reporter)
        await _find(ring, count, outcome, reporter, "find every document")
        outcome.claim(f"documents on {names[0]}", count, (await _counts(ring))[names[0]])
    return outcome


async def multi(servers: Serving, count: int, reporter: Reporter) -> Outcome:
    """Spread documents over three nodes, remove one, add it back."""
    outcome = Outcome("Three nodes: spread, remove one, add it back")
    names, settings = servers.names, servers.settings(timeout_seconds=CALM_SECONDS)
    gone = names[-1]
    await prepare(settings, 1, names)
    async with RingClient(settings, upkeep=False) as ring:
        await _insert(ring, count, outcome, reporter)
        first = await _counts(ring)
        mean = count / len(names)
        deviation = 100 * (sum((c - mean) ** 2 for c in first.values()) / len(names)) ** 0.5 / mean
        outcome.claim("documents on all nodes together", count, sum(first.values()))
        if count >= SPREAD_FROM:
            outcome.claim(
                f"keys per node deviate by 5 % at most ({deviation:.1f} %: {_listed(first)})", True, deviation <= 5
            )
        for title, after in (
            (f"remove {gone}", names[:-1]),
            (f"add {gone} back", names),
        ):
            before = await _held(ring)
            with outcome.step(title) as step:
                moved = await _change(ring, after, reporter)
                step.documents = moved.copied
            now, held = await _counts(ring), await _held(ring)
            least = len(before[gone]) if gone not in after else now[gone]
            gained = sum(len(held[name] - before[name]) for name in held)
            outcome.claim(f"{title}: moved, counted on the nodes (the least possible is expected)", least, gained)
            outcome.claim(f"{title}: documents on all nodes together", count, sum(now.values()))
            await _find(ring, count, outcome, reporter, f"find every document ({title})")
        outcome.claim("each node holds what it held at first", first, await _counts(ring))
    return outcome


async def backup(servers: Losing, count: int, reporter: Reporter) -> Outcome:
    """Keep each key on two nodes, lose one, go on, have it back and have it catch up."""
    outcome = Outcome(f"Backup on the next node: {servers.loss} of one of three, go on, resync")
    settings = servers.settings(timeout_seconds=LOSS_SECONDS)
    names = servers.names
    killed = names[1]
    tenth = max(count // 10, 1)
    deleted = min(tenth, count - tenth)
    await prepare(settings, 2, names)
    async with RingClient(settings, upkeep=False) as ring:
        await _insert(ring, count, outcome, reporter)
        outcome.claim("copies on all nodes together", 2 * count, sum((await _counts(ring)).values()))
        owned = next((one for one in documents(count) if ring.view.holders(one[0])[0] == killed), None)
        servers.kill(killed)
        if owned:
            with outcome.step(f"first answer after {servers.loss} of {killed}", 1):
                first = await ring.get(owned[0])
            outcome.claim("it is the backup's, and right", owned[1], first and first.value)
        await _find(ring, count, outcome, reporter, f"find every document without {killed}")
        reporter.begin("write", tenth + deleted)
        with outcome.step(f"change {tenth:,} and delete {deleted:,} without {killed}", tenth + deleted):
            for some in batches(documents(tenth), BATCH_RECORDS):
                await ring.put_many((key, {**value, "changed": True}) for key, value in some)
                reporter.advance(len(some))
                reporter.tick()
            for some in batches(list(documents(tenth + deleted))[tenth:], BATCH_RECORDS):
                await ring.delete_many(key for key, _ in some)
                reporter.advance(len(some))
                reporter.tick()
        servers.start(killed)
        reporter.begin("resync", 1)
        with outcome.step(f"{killed} is back: compare, deliver hints") as step:
            deadline = time.monotonic() + RESYNC_SECONDS
            while killed in ring.nodes.away():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"waited {RESYNC_SECONDS:g} s for {killed}: {ring.nodes.away()[killed]}")
                await ring.upkeep.tend()
            await ring.upkeep.tend()  # a node whose process ran on serves at once, and is compared all the same
            while await ring.upkeep.deliver():
                reporter.tick()
            step.documents = ring.upkeep.compared[killed].sent if killed in ring.upkeep.compared else 0
        hints = await ring.upkeep.hints()
        outcome.claim("hints left", 0, sum(hints.values()))
        different = 0
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                for arcs in batches(held_by_both(ring.view, one, other), 128):
                    here, there = await digest(ring.nodes[one], arcs), await digest(ring.nodes[other], arcs)
                    different += here != there
        outcome.claim("ranges in which two holders differ, deletions included", 0, different)
        values = {found.key: found.value async for found in ring.iterate()}
        outcome.claim("documents in all, deleted ones gone", count - deleted, len(values))
        outcome.claim("changed documents", tenth, sum("changed" in value for value in values.values()))
    return outcome


async def _insert(ring: RingClient, count: int, outcome: Outcome, reporter: Reporter) -> None:
    reporter.begin("insert", count)
    with outcome.step("insert", count):
        for some in batches(documents(count), BATCH_RECORDS):
            await ring.put_many(some)
            reporter.advance(len(some))
            reporter.tick()


async def _find(ring: RingClient, count: int, outcome: Outcome, reporter: Reporter, name: str) -> None:
    reporter.begin("find", count)
    right = 0
    with outcome.step(name, count):
        for some in batches(documents(count), BATCH_RECORDS):
            wanted = dict(some)
            right += sum(found.value == wanted[str(found.key)] for found in await ring.get_many(wanted))
            reporter.advance(len(some))
            reporter.tick()
    outcome.claim(f"{name}: found with the right value", count, right)


async def _counts(ring: RingClient) -> dict[str, int]:
    """Documents on each node of the settings, counted there."""
    names = tuple(ring.nodes.settings.nodes)
    return {name: await ring.nodes[name].records.count_documents(VALUES) for name in names}


async def _held(ring: RingClient) -> dict[str, set[Any]]:
    """The keys of the documents on each node of the settings, listed there."""
    return {
        name: {one["_id"] async for one in ring.nodes[name].records.find(VALUES, {"_id": 1})}
        for name in ring.nodes.settings.nodes
    }


async def _change(ring: RingClient, names: Iterable[str], reporter: Reporter) -> moves.Moved:
    mover = Mover(ring.nodes, progress_of(reporter))
    await mover.begin(dict.fromkeys(names, 1))
    return await mover.run()


def progress_of(reporter: Reporter) -> Callable[[str, int, int], None]:
    """What a mover tells, as progress for people."""
    phase, told = "", 0

    def report(at: str, done: int, total: int) -> None:
        nonlocal phase, told
        if at != phase:
            reporter.begin(at, total)
            phase, told = at, 0
        reporter.advance(done - told)
        told = done
        reporter.tick()

    return report


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
