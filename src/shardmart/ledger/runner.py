"""Run workloads against a cluster and journal every operation.

Called by `ledger.cli` (and through it by the controls of `chaos`).  It judges nothing: an operation that fails is
journaled and the next one follows, whatever the cluster does.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.write_concern import WriteConcern

from . import collections
from .journal import JournalWriter, Run, periodic_sync, token
from .metrics import METRICS_FILE, Recorder, Window
from .outcome import classify
from .workloads import WORKLOADS, Context, NoEffectError, Workload

PAUSE_AFTER_ERROR_SECONDS = 0.05
"""Without it a cluster that refuses at once would fill the journal with refusals."""


@dataclass(frozen=True)
class Options:
    """How to run.  Durations in seconds; `rate` in operations per second over all clients (0 = as fast as it goes)."""

    workloads: tuple[str, ...]
    clients: int
    duration: float
    rate: float = 0.0
    seed: int = 0
    write_concern: str = "majority"
    operation_timeout: float = 10.0
    fsync: str = "100ms"
    database: str = "ledger"
    double_submit: float = 0.0
    """Negative control: the share of effects that are sent a second time behind the journal's back."""

    def parsed_write_concern(self) -> WriteConcern:
        """A number of members, or `majority`."""
        return WriteConcern(int(self.write_concern) if self.write_concern.isdigit() else self.write_concern)

    def sync_interval(self) -> float | None:
        """Seconds between fsyncs, 0.0 for one per operation, None for never.  ValueError if it is none of these."""
        if self.fsync in {"always", "never"}:
            return 0.0 if self.fsync == "always" else None
        if not self.fsync.endswith("ms"):
            raise ValueError(f"fsync is `always`, `never` or a time like `100ms`, not {self.fsync!r}")
        return float(self.fsync[:-2]) / 1000


def connect(uri: str, options: Options) -> MongoClient[dict[str, Any]]:
    """A client whose operations end within the operation timeout, retries of retryable writes included.

    `timeoutMS` (client-side operation timeout) bounds every operation as a whole and retries within it, each retry
    with the same transaction number, so a write happens once.
    """
    return MongoClient(
        uri,
        appname="shardmart-ledger",
        retryWrites=True,
        retryReads=True,
        timeoutMS=int(options.operation_timeout * 1000),
        serverSelectionTimeoutMS=int(options.operation_timeout * 1000),
        maxPoolSize=max(100, options.clients * len(options.workloads) + 10),
    )


class Runner:
    """One run.  `run` blocks for the duration or until `stop`; progress is told once a second."""

    def __init__(self, client: MongoClient[dict[str, Any]], options: Options, folder: Path) -> None:
        self._client = client
        self._options = options
        self._folder = folder
        self._stop = threading.Event()
        self._recorder = Recorder()
        self._failure: BaseException | None = None
        self.run_id = uuid.uuid4().hex[:12]

    def stop(self) -> None:
        """End the run after the operations in flight."""
        self._stop.set()

    def run(self, progress: Callable[[Window, float], None]) -> dict[str, int]:
        """Prepare, run, close the journals; returns the number of operations by outcome.

        Raises JournalError (folder used, disk full), PrepareError, and PyMongoError if the cluster cannot be prepared.
        """
        workloads = self._prepare()
        interval = self._options.sync_interval()
        jobs = [
            (workload, client, JournalWriter(self._folder, workload.name, client, sync_every_operation=interval == 0.0))
            for workload in workloads
            for client in range(self._options.clients)
        ]
        writers = [writer for _, _, writer in jobs]
        started = time.monotonic()
        threads = [
            threading.Thread(target=self._client_loop, args=(*job, index, started), name=f"{job[0].name}-{job[1]}")
            for index, job in enumerate(jobs)
        ]
        with periodic_sync(writers if interval else [], interval or 1.0):
            for thread in threads:
                thread.start()
            try:
                self._watch(started, progress)
            finally:
                self._stop.set()
                for thread in threads:
                    thread.join()
        self._write_window(progress, started)
        for writer in writers:
            writer.close()
        if self._failure:
            raise self._failure
        return {name: self._recorder.total[name] for name in ("ok", "failed", "unknown")}

    def _prepare(self) -> list[Workload]:
        options = self._options
        context = Context(
            client=self._client,
            database=options.database,
            run=self.run_id,
            write_concern=options.parsed_write_concern(),
            timeout_ms=int(options.operation_timeout * 1000),
        )
        workloads = [WORKLOADS[name](context) for name in options.workloads]
        keys = {name: key for workload in workloads for name, key in workload.shard_keys.items()}
        collections.prepare(self._client, options.database, keys)
        for workload in workloads:
            workload.begin()
        Run(
            id=self.run_id,
            workloads=options.workloads,
            database=options.database,
            clients=options.clients,
            seed=options.seed,
            write_concern=options.write_concern,
            started_wall=time.time(),
            started_monotonic_ns=time.monotonic_ns(),
            options=asdict(options) | {"server": self._client.server_info()["version"]},
        ).write(self._folder)
        return workloads

    def _watch(self, started: float, progress: Callable[[Window, float], None]) -> None:
        tick = started + 1.0
        end = started + self._options.duration
        while not self._stop.wait(max(0.0, min(tick, end) - time.monotonic())):
            if time.monotonic() >= end:
                return
            self._write_window(progress, started)
            tick += 1.0

    def _write_window(self, progress: Callable[[Window, float], None], started: float) -> None:
        window = self._recorder.close_window()
        with (self._folder / METRICS_FILE).open("a") as file:
            file.write(json.dumps(asdict(window)) + "\n")
        progress(window, time.monotonic() - started)

    def _client_loop(self, workload: Workload, client: int, writer: JournalWriter, index: int, started: float) -> None:
        dice = random.Random(f"{self._options.seed}/{workload.name}/{client}")  # noqa: S311
        share = self._options.rate / (self._options.clients * len(self._options.workloads))
        number = 0
        try:
            while not self._stop.is_set():
                if share:
                    due = started + (number + index / 100) / share
                    if self._stop.wait(max(0.0, due - time.monotonic())):
                        return
                number += 1
                self._one(workload, client, writer, dice)
        except BaseException as error:  # a dead client thread must end the run, not shrink it
            self._failure = error
            self._stop.set()

    def _one(self, workload: Workload, client: int, writer: JournalWriter, dice: random.Random) -> None:
        next_token = token(client, writer.number + 1)
        function, value = workload.choose(client, next_token, dice)
        start = writer.invoke(function, value)
        write = function in workload.effect_functions or function in {"write", "cas"}
        try:
            result = workload.execute(function, value, next_token)
        except NoEffectError as error:
            end = writer.end("failed", error=str(error))
            outcome = "failed"
        except PyMongoError as error:
            outcome, text = classify(error)
            end = writer.end(outcome, error=text)
        else:
            outcome = "ok"
            end = writer.end("ok", result)
            if self._options.double_submit and dice.random() < self._options.double_submit:
                self._submit_again(workload, function, value, next_token)
        self._recorder.count(outcome, (end - start) / 1e6, write=write)
        if outcome != "ok":
            self._stop.wait(PAUSE_AFTER_ERROR_SECONDS)

    @staticmethod
    def _submit_again(workload: Workload, function: str, value: dict[str, Any], token: int) -> None:
        # As a client would that retries by itself, without the server's transaction number. A second insert of the
        # same order is refused by its _id, so only updates can be doubled.
        if function in workload.effect_functions - {"place", "transfer"}:
            with contextlib.suppress(PyMongoError):
                workload.execute(function, value, token)
