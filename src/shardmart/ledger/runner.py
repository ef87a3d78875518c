"""Run workloads against their systems and journal every operation.

It judges nothing: an operation that fails is journaled and the next one follows, whatever the system does.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shardmart.errors import BadUseError

from .journal import JournalError, JournalWriter, Outcome, Run, periodic_sync, token
from .metrics import METRICS_FILE, Recorder, Window
from .system import NoEffectError, PrepareError, System
from .workloads import Workload
from .workloads.workload import Client, Generator

PAUSE_AFTER_ERROR_SECONDS = 0.05
"""Without it a system that refuses at once would fill the journal with refusals."""


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
    journal_mb: float | None = None
    """The run ends, as a failure, when its journals are larger than this, mebibytes; None for no limit."""

    def sync_interval(self) -> float | None:
        """Seconds between fsyncs, 0.0 for one per operation, None for never.  BadUseError if it is none of these."""
        if self.fsync in {"always", "never"}:
            return 0.0 if self.fsync == "always" else None
        found = re.fullmatch(r"(\d+(?:\.\d+)?)ms", self.fsync)
        if not found or not float(found[1]):
            raise BadUseError(f"fsync is `always`, `never` or a time like `100ms`, not {self.fsync!r}")
        return float(found[1]) / 1000


@dataclass(frozen=True)
class _Work:
    """A workload in this run."""

    workload: Workload
    system: System
    generator: Generator
    client: Client[Any]


class Runner:
    """One run.  `run` blocks for the duration or until `stop`; progress is told once a second."""

    def __init__(
        self,
        workloads: Sequence[Workload],
        systems: Mapping[type[System], System],
        options: Options,
        folder: Path,
    ) -> None:
        """`systems` are those of `workloads`, connected to; `options.workloads` are their names."""
        self._workloads = workloads
        self._systems = systems
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

        Raises JournalError (folder used, disk full), and PrepareError or what else a system raises that is not ready.
        """
        works = self._prepare()
        interval = self._options.sync_interval()
        jobs = [
            (
                work,
                client,
                JournalWriter(self._folder, work.workload.name, client, sync_every_operation=interval == 0.0),
            )
            for work in works
            for client in range(self._options.clients)
        ]
        writers = [writer for _, _, writer in jobs]
        started = time.monotonic()
        threads = [
            threading.Thread(
                target=self._client_loop, args=(*job, index, started), name=f"{job[0].workload.name}-{job[1]}"
            )
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

    def _prepare(self) -> list[_Work]:
        options = self._options
        versions = []
        for kind, system in self._systems.items():
            mine = [workload for workload in self._workloads if workload.system is kind]
            system.prepare({name: layout for workload in mine for name, layout in workload.collections.items()})
            versions.append(system.version())
        works = [
            _Work(workload, system, workload.generator(), workload.client(system, self.run_id))
            for workload in self._workloads
            for system in (self._systems[workload.system],)
        ]
        for work in works:
            self._begin(work)
        Run(
            id=self.run_id,
            workloads=options.workloads,
            database=options.database,
            clients=options.clients,
            seed=options.seed,
            write_concern=options.write_concern,
            started_wall=time.time(),
            started_monotonic_ns=time.monotonic_ns(),
            options=asdict(options) | {"server": ", ".join(versions)},
        ).write(self._folder)
        return works

    @staticmethod
    def _begin(work: _Work) -> None:
        try:
            work.client.begin()
        except Exception as error:
            if (told := work.system.classify(error)) is None:
                raise
            raise PrepareError(f"{work.workload.name} cannot begin: {told[1]}") from None

    def _watch(self, started: float, progress: Callable[[Window, float], None]) -> None:
        tick = started + 1.0
        end = started + self._options.duration
        while not self._stop.wait(max(0.0, min(tick, end) - time.monotonic())):
            if time.monotonic() >= end:
                return
            self._write_window(progress, started)
            tick += 1.0
            self._refuse_large_journals()

    def _refuse_large_journals(self) -> None:
        """End the run before its journals take more of the disk than they may: what was acknowledged can be checked."""
        limit = self._options.journal_mb
        if limit is None:
            return
        size = sum(file.stat().st_size for file in self._folder.iterdir() if file.is_file()) / (1 << 20)
        if size > limit:
            self._failure = JournalError(f"the journals have {size:.1f} MiB and may have {limit:g}: the run has ended")
            self._stop.set()

    def _write_window(self, progress: Callable[[Window, float], None], started: float) -> None:
        window = self._recorder.close_window()
        with (self._folder / METRICS_FILE).open("a") as file:
            file.write(json.dumps(asdict(window)) + "\n")
        progress(window, time.monotonic() - started)

    def _client_loop(self, work: _Work, client: int, writer: JournalWriter, index: int, started: float) -> None:
        dice = random.Random(f"{self._options.seed}/{work.workload.name}/{client}")  # noqa: S311
        share = self._options.rate / (self._options.clients * len(self._workloads))
        number = 0
        try:
            while not self._stop.is_set():
                if share:
                    due = started + (number + index / 100) / share
                    if self._stop.wait(max(0.0, due - time.monotonic())):
                        return
                number += 1
                self._one(work, client, writer, dice)
        except BaseException as error:  # a dead client thread must end the run, not shrink it
            self._failure = error
            self._stop.set()

    def _one(self, work: _Work, client: int, writer: JournalWriter, dice: random.Random) -> None:
        next_token = token(client, writer.number + 1)
        function, value = work.generator.next(client, next_token, dice)
        start = writer.invoke(function, value)
        outcome: Outcome
        try:
            result = work.client.invoke(function, value, next_token)
        except NoEffectError as error:
            outcome = "failed"
            end = writer.end(outcome, error=str(error))
        except Exception as error:
            if (told := work.system.classify(error)) is None:
                raise
            outcome = told[0]
            end = writer.end(outcome, error=told[1])
        else:
            outcome = "ok"
            end = writer.end(outcome, result)
            work.generator.acknowledged(function, value, result)
            # What was answered 0 is no effect: sent again it may become one, which is a phantom and not doubled.
            if result == 1 and self._options.double_submit and dice.random() < self._options.double_submit:
                self._submit_again(work, function, value, next_token)
        self._recorder.count(outcome, (end - start) / 1e6, write=function in work.workload.writes)
        if outcome != "ok":
            self._stop.wait(PAUSE_AFTER_ERROR_SECONDS)

    @staticmethod
    def _submit_again(work: _Work, function: str, value: dict[str, Any], token: int) -> None:
        """As a client would that retries by itself, without anything by which the system could know it again."""
        if function in work.workload.resubmittable:
            try:
                work.client.invoke(function, value, token)
            except Exception as error:
                if work.system.classify(error) is None:
                    raise
