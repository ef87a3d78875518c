"""The ledger workload and the watcher of one experiment, beside the cluster: here, or in the toolbox of a release.

Both places leave the same files in the experiment's folder:
`ledger/` (journals, metrics, verdict), `writability.jsonl`, `ledger.log`; and elections in the register of events.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from shardmart.ledger.metrics import METRICS_FILE
from shardmart.ledger.workloads import WORKLOADS
from shardmart.platforms.platform import STOP_LINE, last_line, last_words

from ..errors import ChaosError
from ..lifecycle import records
from ..lifecycle.running import RunningExperiment
from ..targets.selectors import Targets, start_agent
from .heartbeats import FILE
from .watcher import Election, Watcher

logger = logging.getLogger("chaostoolkit")

START_SECONDS = 60
STOP_SECONDS = 120
CHECK_SECONDS = 900
CLOCK_SECONDS = 0.5
IN_TOOLBOX = "/tmp/experiments"  # noqa: S108  a volume of that pod alone


class Observation(Protocol):
    """What the control needs."""

    def start(self) -> None:
        """Start workload and watcher; ChaosError when they cannot be."""

    def ended(self) -> str | None:
        """Why the workload ended by itself; None while it runs."""

    def stop(self) -> None:
        """Stop both; safe to call twice."""

    def check(self) -> dict[str, Any]:
        """The ledger's verdict."""


def observation(
    targets: Targets, experiment: RunningExperiment, workloads: str, arguments: Sequence[str]
) -> Observation:
    """The observation for this cluster: of these workloads (a comma list), with these other arguments of `ledger run`.

    Shards are watched where one of them keeps its data: they say nothing of a ring or of region nodes beside them, and
    need not run for these.
    """
    place = Here if targets.platform.direct else InToolbox
    watch = bool(targets.cluster.shards) and on_shards(workloads)
    return place(targets, experiment, ["--workload", workloads, *arguments], watch=watch)


def journals(targets: Targets, experiment: RunningExperiment) -> str:
    """The folder of the journals of an experiment that runs, as `targets.beside` finds it."""
    return str(experiment.ledger) if targets.platform.direct else f"{_folder(experiment)}/ledger"


def _folder(experiment: RunningExperiment) -> str:
    """An experiment's folder in the toolbox."""
    return f"{IN_TOOLBOX}/{experiment.folder.name}"


def on_shards(workloads: str) -> bool:
    """Whether one of these workloads keeps its data on the cluster's shards; a name that none has counts as one."""
    names = workloads.split(",")
    return any(name not in WORKLOADS or WORKLOADS[name].system.on_shards for name in names)


def note_election(targets: Targets, election: Election) -> None:
    """Into the register of events."""
    details = {"set": election.set_name, "primary": election.primary, "before": election.before}
    records.note(targets.state, "election", election.at, **details)


def _verdict(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    try:
        verdict: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        message = last_line(done.stderr) or "no output"
        return {"clean": False, "sentence": f"the ledger could not be checked: {message}"}
    return verdict


class Here:
    """On this machine: the ledger as a process, the watcher as threads."""

    def __init__(
        self, targets: Targets, experiment: RunningExperiment, workload: Sequence[str], *, watch: bool
    ) -> None:
        self._experiment = experiment
        self._state = targets.state
        self._command = [
            *(sys.executable, "-m", "shardmart.ledger", "run", "--state", str(targets.state.folder)),
            *("--journal", str(experiment.ledger), "--until-input-ends", *workload),
        ]
        self._beats = (experiment.folder / FILE).open("a", buffering=1)
        self._watcher: Watcher | None = None
        if watch:
            self._watcher = Watcher(
                targets, lambda beat: self._beats.write(beat.line()), lambda election: note_election(targets, election)
            )
        self._ledger: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """See Observation."""
        # Before the ledger: two clients that both make the database for the first time get in each other's way.
        if self._watcher:
            self._watcher.start()
        with (self._experiment.folder / "ledger.log").open("wb") as log:
            self._ledger = subprocess.Popen(  # noqa: S603
                self._command,
                stdin=subprocess.PIPE,  # closed with this process, even by kill -9; the workload ends then
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C stops the experiment; the control stops the workload, in order
            )

    def ended(self) -> str | None:
        """See Observation."""
        if self._ledger is None or self._ledger.poll() is None:
            return None
        said = last_line((self._experiment.folder / "ledger.log").read_bytes())
        return f"exit code {self._ledger.returncode}: {said}"

    def stop(self) -> None:
        """See Observation."""
        if self._ledger and self._ledger.poll() is None:
            self._ledger.send_signal(signal.SIGTERM)
            try:
                self._ledger.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._ledger.kill()
                self._ledger.wait()
        if self._ledger and self._ledger.stdin:
            self._ledger.stdin.close()
        if self._watcher:
            self._watcher.stop()
        self._beats.close()

    def check(self) -> dict[str, Any]:
        """See Observation."""
        command = [
            *(sys.executable, "-m", "shardmart.ledger", "check", str(self._experiment.ledger)),
            *("--state", str(self._state.folder), "--json"),
        ]
        return _verdict(subprocess.run(command, capture_output=True, timeout=CHECK_SECONDS, check=False))  # noqa: S603


class InToolbox:
    """In the toolbox pod, beside the routers: what is measured is the cluster, not the way to it."""

    def __init__(
        self, targets: Targets, experiment: RunningExperiment, workload: Sequence[str], *, watch: bool
    ) -> None:
        self._targets, self._experiment = targets, experiment
        self._platform = targets.platform
        self._folder = _folder(experiment)
        self._orders = {"folder": self._folder, "ledger": list(workload), "watch": watch}
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._over: dict[str, Any] | None = None

    def start(self) -> None:
        """See Observation."""
        self._experiment.ledger.mkdir()
        self._process = start_agent(self._platform, "observe")
        assert self._process.stdin
        self._process.stdin.write(json.dumps(self._orders).encode() + b"\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, name="observation", daemon=True)
        self._reader.start()
        end = time.monotonic() + START_SECONDS
        while not self._ready.wait(0.1):
            if reason := self.ended():
                raise ChaosError(f"the workload cannot begin in the toolbox: {reason}")
            if time.monotonic() > end:
                raise ChaosError(f"waited {START_SECONDS} s for the workload to begin in the toolbox")

    def _read(self) -> None:
        assert self._process
        assert self._process.stdout
        with (
            (self._experiment.folder / FILE).open("a", buffering=1) as beats,
            (self._experiment.ledger / METRICS_FILE).open("a", buffering=1) as metrics,
        ):
            for line in self._process.stdout:
                event = json.loads(line)
                kind = event.pop("event")
                if kind == "beat":
                    beats.write(json.dumps(event) + "\n")
                elif kind == "metrics":
                    metrics.write(json.dumps(event["window"]) + "\n")
                elif kind == "election":
                    note_election(self._targets, Election(**event))
                elif kind == "ready":
                    if abs(time.time() - event["at"]) > CLOCK_SECONDS:
                        logger.warning(
                            "the clocks of the node and of this machine differ by more than %s s", CLOCK_SECONDS
                        )
                    self._ready.set()
                elif kind == "over":
                    self._over = event

    def ended(self) -> str | None:
        """See Observation."""
        if self._over and not self._over["asked"]:
            return f"exit code {self._over['exit_code']}: {self._over['last']}"
        if self._over or self._process is None or self._process.poll() is None:
            return None
        return f"lost the toolbox: {last_words(self._process) or 'its stream ended'}"

    def stop(self) -> None:
        """See Observation."""
        if self._process is None or self._process.stdin is None or self._process.stdin.closed:
            return
        try:
            self._process.stdin.write(STOP_LINE)
            self._process.stdin.close()
        except OSError as error:
            logger.warning("the toolbox's stream was broken: %s", error)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        if self._reader:
            self._reader.join(5)

    def check(self) -> dict[str, Any]:
        """See Observation.  The journals come here afterwards, and leave the toolbox."""
        verdict = _verdict(
            self._platform.run(
                [self._platform.python, "-m", "shardmart.ledger", "check", f"{self._folder}/ledger", "--json"],
                timeout_s=CHECK_SECONDS,
            )
        )
        archive = self._platform.run(["tar", "-C", self._folder, "-cf", "-", "."], timeout_s=CHECK_SECONDS)
        if archive.returncode:
            raise ChaosError(f"the journals could not be fetched: {last_line(archive.stderr)}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as members:
            members.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and newer have it
            members.extractall(self._experiment.folder)  # noqa: S202  from our own pod
        self._platform.run(["rm", "-rf", self._folder], timeout_s=60)
        return verdict
