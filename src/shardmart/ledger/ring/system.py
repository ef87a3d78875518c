"""A ring as a system of the ledger: the ring's asynchronous client behind the threads of a run.

The client tends the ring as the shop's would: nodes that return, hints.  `--uri-file` is the file of the ring's
settings, else the state folder says where it is; a write concern that is a number is on how many nodes a write has to
be before it counts as acknowledged.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeVar

from pymongo.errors import PyMongoError

from shardmart.cluster.errors import DeadlineError
from shardmart.cluster.protocol.connection import Deadline, describe
from shardmart.errors import BadUseError
from shardmart.platforms.state import State
from shardmart.ring import (
    ConflictError,
    Grouped,
    KeyTypeError,
    RingClient,
    RingError,
    Settings,
    StoreError,
    UnavailableError,
    ValueTooLargeError,
)
from shardmart.ring import settings as settings_file

from ..journal import Outcome
from ..system import Document, Examination, PrepareError, Target
from . import copies

GROUP = "ledger"
WAIT_SECONDS = 120.0
"""A node that was killed starts, is compared with all others, and gets its hints."""
FINAL_READ_SECONDS = 600.0
LOST_SECONDS = 30.0
"""A node that starts with an empty folder refuses and hangs up for a while before it can be told from one that is away.
"""
CERTAIN = (ConflictError, KeyTypeError, StoreError, UnavailableError, ValueTooLargeError)
"""Errors by which the ring's client says that nothing was written."""
Answer = TypeVar("Answer")


class RingSystem:
    """See `System`.  `do` runs an operation of the ring's client; `group` names the groups that a run's keys are in."""

    on_shards: ClassVar = False

    def __init__(self, settings: Settings, seconds: float) -> None:
        """Opens the client; raises StoreError, SettingsError.  `seconds` bounds each operation."""
        self._settings = settings
        self._seconds = seconds
        self._lost: dict[str, str] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ring", daemon=True)
        self._thread.start()
        self._ring = RingClient(settings)
        try:
            self._run(self._ring.__aenter__(), FINAL_READ_SECONDS)
        except BaseException:
            self._end()
            raise

    @classmethod
    def connect(cls, target: Target) -> Self:
        """See `System`."""
        if target.uri:
            raise BadUseError("a ring has no connection string: give the file of its settings with --uri-file")
        file = target.uri_file or settings_file.find(State.find(target.state).folder / "rings")
        settings = settings_file.read(file)
        if target.write_concern.isdigit():
            settings = replace(settings, required_copies=int(target.write_concern))
        return cls(settings, target.operation_seconds or FINAL_READ_SECONDS)

    @staticmethod
    def group(run: str, cart: int) -> str:
        """The group of one cart of a run."""
        return f"{GROUP}:{run}:{cart}"

    def do(self, operation: Callable[[RingClient], Awaitable[Answer]]) -> Answer:
        """Run an operation and wait for its answer: RingError, or TimeoutError after the seconds of an operation."""
        return self._run(operation(self._ring), self._seconds)

    def _run(self, operation: Awaitable[Answer], seconds: float) -> Answer:
        async def bounded() -> Answer:
            async with asyncio.timeout(seconds):
                return await operation

        return asyncio.run_coroutine_threadsafe(bounded(), self._loop).result()

    def close(self) -> None:
        """See `System`."""
        try:
            self._run(self._ring.__aexit__(None, None, None), FINAL_READ_SECONDS)
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def version(self) -> str:
        """See `System`."""
        view = self._ring.view
        return f"ring {self._settings.name} of {len(view.nodes)} nodes, {view.ring.copies} copies, epoch {view.epoch}"

    def prepare(self, collections: Mapping[str, Any]) -> None:
        """See `System`: nothing has to be made, and every node has to be there."""
        del collections
        if away := self._ring.nodes.away():
            told = "; ".join(f"{name}: {reason}" for name, reason in away.items())
            raise PrepareError(f"ring {self._settings.name}: {told}; see `shardmart ring status`")

    def classify(self, error: Exception) -> tuple[Outcome, str] | None:
        """See `System`."""
        if not isinstance(error, RingError | PyMongoError | TimeoutError):
            return None
        outcome: Outcome = "failed" if isinstance(error, CERTAIN) else "unknown"
        return outcome, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def documents(self, run: str, collection: str) -> Iterator[Document]:
        """See `System`: every line that the run left in a cart.  Of nodes that lost their data, without them."""
        del collection
        for key, value in self._run(self._final(f"{GROUP}:{run}:"), FINAL_READ_SECONDS):
            yield {"_id": key.name, "cart": key.group.rsplit(":", 1)[1], **value}

    async def _final(self, prefix: str) -> list[tuple[Grouped, Document]]:
        async def left(without: tuple[str, ...] = ()) -> list[tuple[Grouped, Document]]:
            return [
                (one.key, one.value)
                async for one in self._ring.iterate(without=without)
                if isinstance(one.key, Grouped) and one.key.group.startswith(prefix)
            ]

        try:
            return await left()
        except UnavailableError:
            nodes = self._ring.nodes
            end = asyncio.get_running_loop().time() + LOST_SECONDS
            while True:
                away = nodes.away()
                self._lost = {name: reason for name, reason in away.items() if nodes[name].other_data}
                if away.keys() == self._lost.keys():
                    return await left(tuple(self._lost))
                if asyncio.get_running_loop().time() > end:  # it may come back with what it has
                    raise
                await asyncio.sleep(0.2)
                await nodes.look(away)

    def examine(self, wait_seconds: float | None) -> Examination:
        """See `System`: the copies on all nodes, once no node is away, no hint waits and no nodes change."""
        report = Examination(problems=[f"{name}: {reason}" for name, reason in self._lost.items()])
        deadline = Deadline(WAIT_SECONDS if wait_seconds is None else wait_seconds)
        while problems := self._look(report):
            try:
                deadline.pause("; ".join(problems))
            except DeadlineError as error:
                report.problems.append(str(error).replace("waited", "still so after", 1))
                break
        return report

    def _look(self, report: Examination) -> list[str]:
        """What is not as it has to be, on the nodes that hold their data."""
        self.do(lambda ring: ring.nodes.refresh())
        view, away = self._ring.view, self._ring.nodes.away()
        if problems := [f"{name}: {reason}" for name, reason in away.items() if name not in self._lost]:
            return problems
        if view.move:
            return [f"nodes change: {', '.join(view.move.before)} to {', '.join(view.move.after)}"]
        held: dict[str, copies.Copies] = {}
        hints = 0
        for name in view.nodes:
            if name not in self._lost:
                try:
                    held[name], kept = copies.read(self._settings.nodes[name], self._settings.database, self._seconds)
                except PyMongoError as error:
                    return [f"{name}: {describe(error)}"]
                hints += kept
        if hints:
            return [f"{hints:,} hints wait for their nodes"]
        found = copies.problems(held, view.ring.copies)
        if not found:
            records = len(set().union(*held.values()))
            report.checked.append(
                f"ring {self._settings.name}: {records:,} records on {len(held)} nodes, deletions included, "
                f"{view.ring.copies} equal copies of each; no hint waits"
            )
        return found

    def clean(self, run: str | None) -> dict[str, int]:
        """See `System`."""
        prefix = f"{GROUP}:{run}:" if run else f"{GROUP}:"

        async def delete() -> int:
            left = await self._final(prefix)
            for key, _ in left:
                await self._ring.delete(key)
            return len(left)

        return {"carts": self._run(delete(), FINAL_READ_SECONDS)}
