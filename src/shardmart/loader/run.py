"""A load from beginning to end: survey, refuse or empty, write, read back and compare, count.

Nothing is kept between runs but the documents themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from shardmart.declare.data_model import DataModel
from shardmart.errors import BadUseError, RefusedError, UnreachableError

from . import survey as surveys
from .batches import Job, batches
from .connection import connect
from .failures import NOT_LET_IN, is_passing, reason
from .generation.dataset import COLLECTIONS, Document
from .patience import persist
from .pool import Pool, Task
from .progress import Reporter
from .result import CollectionResult, Result

T = TypeVar("T")

SHARD_COUNT_SECONDS = 2.0
"""How often the shards are asked for their counts while documents are written."""

SMALL = 5_000
"""Loads of fewer documents are not worth starting a process for."""

_VERBS: dict[Task, str] = {
    "generate": "generate",
    "write": "write",
    "look and write": "write",
    "compare": "verify",
}


@dataclass(frozen=True)
class Options:
    """How to load. `job.known_products` is found out by the run."""

    job: Job
    workers: int
    batch: int
    drop: bool = False
    merge: bool = False
    verify: bool = True


class Run:
    """One load. `stop`, called from a signal handler, ends it after the batches in hand."""

    def __init__(self, options: Options, model: DataModel, reporter: Reporter) -> None:
        counts = options.job.counts
        total = sum(counts.of(name) for name in COLLECTIONS)
        self._options = options
        self._workers = options.workers if total > SMALL else 1
        self._model = model
        self._reporter = reporter
        self._stop = threading.Event()
        self._counter = ThreadPoolExecutor(1)
        self.result = Result(options.job.seed, "load", verified=options.verify, workers=self._workers)
        """Filled as the run goes on; what it says is also right when the run fails half-way."""
        self.result.collections = {name: CollectionResult(counts.of(name)) for name in COLLECTIONS}

    def stop(self) -> None:
        """Hand out no more batches."""
        self._stop.set()

    def load(self) -> Result:
        """Write what is missing, and verify. Raises ShardmartError."""
        with self._timed(), self._connected() as client:
            before = self._surveyed(client)
            if self._options.drop:
                before = self._emptied(client)
            with Pool(replace(self._options.job, known_products=before.products), self._workers) as pool:
                compared = {
                    name: self._phase(pool, "write" if name in before.empty else "look and write", name, client)
                    for name in COLLECTIONS
                }
                if self._options.verify:
                    for name in COLLECTIONS:
                        self._phase(pool, "compare", name, skip=compared[name])
            self._place(client, before)
        return self.result

    def check(self) -> Result:
        """Compare what is there without writing. Raises ShardmartError."""
        self.result.mode, self.result.verified = "check", True
        with self._timed(), self._connected() as client:
            before = self._surveyed(client)
            with Pool(replace(self._options.job, known_products=before.products), self._workers) as pool:
                for name in COLLECTIONS:
                    self._phase(pool, "compare", name)
            self._place(client, before)
        return self.result

    def generate(self) -> Result:
        """Make all documents without a cluster (`--dry-run`)."""
        self.result.mode, self.result.verified = "dry-run", False
        with self._timed(), Pool(self._options.job, self._workers) as pool:
            for name in COLLECTIONS:
                self._phase(pool, "generate", name)
        return self.result

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.result.seconds = time.monotonic() - started
            self.result.interrupted = self._stop.is_set()
            self._counter.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _connected(self) -> Iterator[MongoClient[Document]]:
        with connect(self._options.job.uri) as client:
            try:
                client.admin.command("ping")  # nobody waits for the retry time to learn that there is no cluster
                yield client
            except PyMongoError as error:
                raise (UnreachableError if _is_about_reaching(error) else RefusedError)(reason(error)) from None

    def _surveyed(self, client: MongoClient[Document]) -> surveys.Survey:
        before = self._persist(lambda: surveys.survey(client, self._model, self._options.job.seed), "survey")
        self.result.other_seeds = before.other_seeds
        if before.other_seeds and not (self._options.merge or self._options.drop) and self.result.mode == "load":
            others = ", ".join(map(str, before.other_seeds))
            raise BadUseError(
                f"the database holds the data set of seed {others}, not of {self._options.job.seed}:"
                f" give --seed {before.other_seeds[0]} to go on with it, --merge to add to it,"
                " or --drop to delete it first"
            )
        return before

    def _emptied(self, client: MongoClient[Document]) -> surveys.Survey:
        self._reporter.begin("delete", self._persist(lambda: surveys.estimated_documents(client, self._model), "count"))

        def delete() -> None:
            for count in surveys.empty(client, self._model):
                self.result.deleted += count
                self._reporter.advance(count)
                self._reporter.tick()
                if self._stop.is_set():
                    return

        self._persist(delete, "delete")
        self.result.other_seeds = ()
        return self._persist(lambda: surveys.survey(client, self._model, self._options.job.seed), "survey")

    def _persist(self, attempt: Callable[[], T], what: str) -> T:
        seconds = self._options.job.retry_seconds
        return persist(lambda _: attempt(), what, seconds=seconds, notice=self._reporter.notice)

    def _phase(
        self,
        pool: Pool,
        task: Task,
        name: str,
        client: MongoClient[Document] | None = None,
        *,
        skip: frozenset[int] = frozenset(),
    ) -> frozenset[int]:
        """Run `task` over the batches of collection `name` but those that start at `skip`.

        Returns where the batches start that were read back and compared on the way.  With `client` the shards' counts
        are shown meanwhile.
        """
        counts, size = self._options.job.counts, self._options.batch
        result = self.result.collections[name]
        next_count = time.monotonic() + SHARD_COUNT_SECONDS
        counting: Future[dict[str, int]] | None = None

        def tick(lines: Iterator[str]) -> None:
            nonlocal next_count, counting
            for line in lines:
                self._reporter.notice(line)
            if counting and counting.done():
                # A decoration, not worth failing for while a primary is away.
                with suppress(PyMongoError):
                    self._reporter.shards(counting.result())
                counting = None
            if client and not counting and time.monotonic() >= next_count:
                next_count = time.monotonic() + SHARD_COUNT_SECONDS
                # Aside: workers must not run out of batches while a busy router counts.
                counting = self._counter.submit(surveys.documents_per_shard, client, self._model, name)
            self._reporter.tick()

        self._reporter.begin(f"{_VERBS[task]} {name}", max(0, result.wanted - len(skip) * size))
        compared: set[int] = set()
        started = time.monotonic()
        try:
            todo = (batch for batch in batches(counts, name, size) if batch.start not in skip)
            for batch, tally in pool.run(task, todo, tick, self._stop.is_set):
                result.tally.add(tally)
                self._reporter.advance(len(batch))
                if tally.compared:
                    compared.add(batch.start)
        finally:
            seconds = time.monotonic() - started
            if task == "compare":
                result.verify_seconds += seconds
            else:
                result.write_seconds += seconds
        return frozenset(compared)

    def _place(self, client: MongoClient[Document], before: surveys.Survey) -> None:
        if not before.sharded or self._stop.is_set():
            return
        for name, result in self.result.collections.items():
            with suppress(UnreachableError):  # all is loaded and verified: worth waiting for, not failing for
                result.placement = self._persist(partial(surveys.placement, client, self._model, name), "placement")


def _is_about_reaching(error: PyMongoError) -> bool:
    return is_passing(error) or getattr(error, "code", None) in NOT_LET_IN
