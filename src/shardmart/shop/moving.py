"""Moves the store of a shop from MongoDB to PostgreSQL, whole: `shardmart shop move-store`.

The services may run: they take nothing new while it is moved.  Until PostgreSQL has committed all of it in one
transaction the cluster's store is the truth and nothing in it is changed; from then on PostgreSQL is, and the cluster's
is marked as left.  Killed at any moment, the next run goes on; `undo` takes one back that was not finished.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from shardmart.errors import BadUseError, RefusedError

from . import migrating, settings
from .adapters.mongodb import mark
from .adapters.mongodb.documents import COLLECTIONS
from .adapters.mongodb.leaving import ANY, SERVICES, LeavingStore
from .adapters.postgres.arriving import Arrival, UndecidedError
from .domain.order import Order
from .ports import StoreError
from .seeding import PROGRESS_SECONDS, to_standard_error
from .settings import MongoDB, Relational, Settings

HOLD_SECONDS = 90.0
"""How long instances may take to end what they have in hand.  One that hangs loses its lanes after `lease_seconds`."""
FROM = "mongodb"
Outcome = Literal["moved", "moved before", "would be moved", "taken back", "nothing to take back"]


@dataclass
class Moved:
    """What happened, how much of each there is, and how long that took, in seconds."""

    outcome: Outcome
    documents: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def as_document(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def as_text(self) -> str:
        """One line."""
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.documents.items())
        took = f" in {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.outcome}{took}{': ' if counts else ''}{counts}"


@dataclass(frozen=True)
class Move:
    """What is to be moved, and where to.  `shop` is the folder with the settings of the services that run."""

    target: Settings
    secrets: Path
    administrator: str
    shop: Path
    say: Callable[[str], None] = to_standard_error

    async def check(self) -> Moved:
        """What would be moved, for settings that still may have no `store`.  Changes nothing; StoreError."""
        async with LeavingStore(self._sources()) as leaving:
            if await leaving.state() == mark.MOVED:
                return Moved("moved before")
            return Moved("would be moved", await leaving.counts())

    async def run(self) -> Moved:
        """Move it, or finish what was begun.

        BadUseError for settings that do not name both stores, RefusedError for a PostgreSQL that has something of a
        shop, StoreError when one of them does not answer: then the services go on where they were, or it says that
        they wait for the next run.
        """
        _cluster(self.target)
        _plain(self.target)
        await migrating.migrate(self.target, self.secrets, self.administrator, self.say)
        async with self._arrival() as arrival:
            if origin := await arrival.origin():
                await self._leave()
                return Moved("moved before", origin["documents"])
            await arrival.must_be_empty()
            async with LeavingStore(self._sources()) as leaving:
                await _must_be_here(leaving)
                begun = time.monotonic()
                documents = await self._moved(leaving, arrival)
            await self._leave()
            return Moved("moved", documents, round(time.monotonic() - begun, 1))

    async def undo(self) -> Moved:
        """Take back a move that was begun and not finished.  RefusedError for one that is done; StoreError."""
        async with self._arrival() as arrival, LeavingStore({ANY: _cluster(self.target)}) as leaving:
            if await arrival.origin():
                raise RefusedError("PostgreSQL has the store: what happened since is there, and nothing is taken back")
            await _must_be_here(leaving)
            begun = await leaving.state() is not None
            await leaving.release(whose="any")
            return Moved("taken back" if begun else "nothing to take back")

    async def _moved(self, leaving: LeavingStore, arrival: Arrival) -> dict[str, int]:
        progress = Progress(self.say)
        try:
            longest = max(options.limits.store_seconds for options in self._services().values())
            await leaving.hold(longest, HOLD_SECONDS, progress.say)
            async with arrival.filling():
                documents = await _fill(leaving, arrival, _plain(self.target), progress)
                await arrival.take_over(FROM, documents)
        except UndecidedError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if not await arrival.is_alone():
                raise StoreError(f"{error}; the shop takes nothing new until this command is run again") from error
            await leaving.release()
            self.say("nothing was moved: the services go on where they were")
            raise
        return documents

    async def _leave(self) -> None:
        async with LeavingStore({ANY: _cluster(self.target)}) as leaving:
            await leaving.leave()

    def _sources(self) -> dict[str, MongoDB]:
        """Each service's way into the cluster; BadUseError for one whose settings are not of a shop that can move."""
        found, store = {}, self.target.store
        for service, options in self._services().items():
            file = self._file(service)
            if options.kafka:
                raise BadUseError(f"{file} follows events on Kafka: first bring the shop back to `event_log: mongodb`")
            if options.store or not options.mongodb:
                raise BadUseError(f"{file} does not name the cluster as the store: there is nothing to move from")
            found[service] = cluster = options.mongodb
            if store and (set(store.regions), store.lanes_per_region) != (
                set(cluster.regions),
                cluster.lanes_per_region,
            ):
                raise BadUseError(f"{file} has other regions or `lanes_per_region` than the store that it moves to")
        return found

    def _services(self) -> dict[str, Settings]:
        return {service: settings.load(self._file(service)) for service in SERVICES}

    def _file(self, service: str) -> Path:
        return self.shop / f"{service}-1.json"

    @asynccontextmanager
    async def _arrival(self) -> AsyncIterator[Arrival]:
        options = _plain(self.target)
        file = self.secrets / "shop-postgres.password"
        try:
            password = file.read_text().strip()
        except OSError as error:
            raise BadUseError(f"cannot read the administrator's password, {file}: {error.strerror}") from None
        arrival = Arrival(options, self.administrator, password)
        try:
            await arrival.prepare({})
            yield arrival
        finally:
            await arrival.close()


class Progress:
    """Says what goes on, every two seconds."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._next = say, time.monotonic() + PROGRESS_SECONDS
        self.counts: dict[str, int] = {}

    def say(self, line: str) -> None:
        """Say it, if nothing was said for that long."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            self._say(line)

    def add(self, name: str, count: int) -> None:
        """So many more were copied."""
        self.counts[name] = self.counts.get(name, 0) + count
        self.say(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.counts.items()) + " copied")


async def _must_be_here(leaving: LeavingStore) -> None:
    if await leaving.state() == mark.MOVED:
        raise RefusedError(
            "the cluster's store was moved to PostgreSQL, and not to this one: name the server and database that has it"
        )


async def _fill(leaving: LeavingStore, arrival: Arrival, places: Relational, progress: Progress) -> dict[str, int]:
    """Copy everything; how much of each.  StoreError when somebody wrote meanwhile: then none of it counts."""
    own_orders = 0
    for kind, name in COLLECTIONS.items():
        async for batch in leaving.aggregates(kind):
            await arrival.put(batch)
            progress.add(name, len(batch))
            own_orders += len([one for one in batch if isinstance(one, Order) and one.told])
    for region in places.regions:
        for lane in range(places.lanes_per_region):
            async for count in arrival.put_events(region, lane, leaving.events(region, lane)):
                progress.add("events", count)
    async for answers in leaving.answers():
        await arrival.put_answers(answers)
        progress.add("idempotency_keys", len(answers))
    async for parked in leaving.parked():
        await arrival.put_parked(parked)
        progress.add("parked_events", len(parked))
    await arrival.put_lanes(await leaving.lanes())
    there = await leaving.counts()
    # Orders that others write to the collection go on coming; what has its lifetime may go meanwhile.
    must_be_whole({**progress.counts, "orders": own_orders}, {**there, "orders": await leaving.own_orders()})
    return dict.fromkeys(there, 0) | progress.counts


def must_be_whole(copied: Mapping[str, int], there: Mapping[str, int]) -> None:
    """StoreError when there is more of something than was copied."""
    for name, count in there.items():
        if count > copied.get(name, 0):
            raise StoreError(
                f"the cluster has {count} {name.replace('_', ' ')} and {copied.get(name, 0)} were copied: an instance "
                "that no move can hold writes there, one of an earlier version of this shop"
            )


def _cluster(options: Settings) -> MongoDB:
    if options.mongodb is None:
        raise BadUseError("these settings have no `mongodb`, the store that is to be moved")
    return options.mongodb


def _plain(options: Settings) -> Relational:
    store = options.store
    if store is None:
        raise BadUseError("these settings have no `store`, where the shop's store is to be moved to")
    if store.flavour != "plain":
        raise BadUseError(f"a store is moved to plain PostgreSQL, and `store.flavour` is {store.flavour}")
    return store
