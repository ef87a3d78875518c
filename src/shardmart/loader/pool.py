"""Workers: processes that take batches and hand back tallies, a bounded number at a time.

One worker is a thread of this process, so that the reference demo does not pay for starting
another; more are processes, as making documents is work for a whole core.  Workers ignore Ctrl-C (the parent lets
them finish the batch they have) and end when their parent does, even by SIGKILL.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait as wait_for_sentinel
from typing import Literal, Protocol

from shardmart.errors import UnreachableError

from .batches import Batch, BatchWorker, Job, Tally

Task = Literal["generate", "write", "look and write", "compare"]
BATCHES_AHEAD = 2
"""Batches handed out per worker: one being worked on, one waiting, so that memory does not grow with the load."""

TICK_SECONDS = 0.25


SOCKET_PATH = 107
"""Bytes that the path of a Unix socket may have (unix(7): 108 with the zero byte)."""
SOCKET_NAME = len("/pymp-12345678/listener-12345678")


def start_method() -> Literal["forkserver", "spawn"]:
    """How worker processes start: from a fork server, which needs a socket in the temporary folder; where there is no
    such folder (a read-only root) or its path is too long for one, each on its own, which takes a second longer."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        return "spawn"
    return "forkserver" if len(os.fsencode(folder)) + SOCKET_NAME <= SOCKET_PATH else "spawn"


class Notices(Protocol):
    """A queue of lines for people."""

    def put(self, line: str) -> None:
        """Add a line."""

    def get_nowait(self) -> str:
        """Take a line; queue.Empty when there is none."""


_worker: BatchWorker | None = None
_given_up: UnreachableError | None = None


class _Lane:
    """One worker, what it has in hand, and the batch that is its next: told ahead, so that it can make it meanwhile."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.in_hand = 0
        self.reserved: Batch | None = None

    def submit(self, task: Task, source: Iterator[Batch]) -> tuple[Batch, Future[Tally]] | None:
        """Hand out the next batch; None when there is none. A killed worker is told by the future, always."""
        batch = self.reserved or next(source, None)
        if batch is None:
            return None
        self.reserved = next(source, None)
        self.in_hand += 1
        try:
            return batch, self.executor.submit(_run, task, batch, self.reserved)
        except BrokenProcessPool as error:
            refused: Future[Tally] = Future()
            refused.set_exception(error)
            return batch, refused


class Pool:
    """Runs batches of one job on `workers` workers. A context manager; leaving it ends the workers."""

    def __init__(self, job: Job, workers: int) -> None:
        self._notices: Notices
        self._lanes: list[_Lane] = []
        if workers == 1:
            self._notices = queue.SimpleQueue()
            thread = ThreadPoolExecutor(1, initializer=_start, initargs=(job, self._notices))
            self._lanes.append(_Lane(thread))
            return
        # A fork server imports us once for all workers: they start sooner and share that memory.  Forking this
        # process instead would copy its connections.
        context = multiprocessing.get_context(start_method())
        context.set_forkserver_preload(["shardmart.loader.pool"])
        self._notices = context.Queue()
        for _ in range(workers):
            process = ProcessPoolExecutor(1, context, initializer=_start_process, initargs=(job, self._notices))
            self._lanes.append(_Lane(process))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self._lanes:
            lane.executor.shutdown(wait=True, cancel_futures=True)

    def run(
        self, task: Task, batches: Iterable[Batch], tick: Callable[[Iterator[str]], None], stopped: Callable[[], bool]
    ) -> Iterator[tuple[Batch, Tally]]:
        """Work on `batches`, giving each with its tally as it gets done. Hands out no more once `stopped()`.

        `tick` is called some times a second with the lines workers have for people.  Raises what a batch raised,
        after the others in hand are done; UnreachableError when a worker process dies.
        """
        source = iter(batches)
        pending: dict[Future[Tally], tuple[Batch, _Lane]] = {}
        failure: BaseException | None = None
        for lane in self._lanes:
            lane.reserved = None
        while True:
            if failure is None and not stopped():
                # In turns, so that a load of few batches does not end up with one worker.
                for lane in self._lanes * BATCHES_AHEAD:
                    if lane.in_hand < BATCHES_AHEAD and (handed := lane.submit(task, source)):
                        pending[handed[1]] = (handed[0], lane)
            if not pending:
                break
            done, _ = wait(pending, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
            tick(self._lines())
            for future in done:
                batch, lane = pending.pop(future)
                lane.in_hand -= 1
                try:
                    yield batch, future.result()
                except BrokenProcessPool:
                    failure = failure or UnreachableError("a worker process was killed")
                except Exception as error:
                    failure = failure or error
        if failure:
            raise failure

    def _lines(self) -> Iterator[str]:
        with suppress(queue.Empty):
            while True:
                yield self._notices.get_nowait()


def _start(job: Job, notices: Notices) -> None:
    global _worker, _given_up
    _worker, _given_up = BatchWorker(job, notices.put), None


def _start_process(job: Job, notices: Notices) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _start(job, notices)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_sentinel([parent.sentinel])
    os._exit(1)  # nothing to clean up: a batch that is not acknowledged is found missing by the next run


def _run(task: Task, batch: Batch, following: Batch | None) -> Tally:
    global _given_up
    assert _worker is not None
    if _given_up:
        raise _given_up  # the batch waiting behind one that failed would only wait for the same cluster as long again
    try:
        if task == "generate":
            return _worker.generate(batch)
        if task == "compare":
            return _worker.compare(batch, following)
        return _worker.write(batch, following, look_first=task == "look and write")
    except UnreachableError as error:
        _given_up = error
        raise
