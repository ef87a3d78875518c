"""Faults on the processes of this machine: members and routers of the embedded platform, whose network is loopback.

Killing and pausing need no privileges; network faults need root or CAP_NET_ADMIN, a slow disk needs control groups.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence

import psutil

from shardmart.cluster.description import Node
from shardmart.cluster.host.processes import has_ended, send_signal
from shardmart.platforms.embedded import EmbeddedPlatform

from ..errors import ChaosError
from ..targets.selectors import Targets
from .fault import Fault

RESTART_SECONDS = 60
DEATH_SECONDS = 20


def await_death(victims: Sequence[psutil.Process]) -> None:
    """Until all that were killed are gone; ChaosError that names those that are not after DEATH_SECONDS."""
    end = time.monotonic() + DEATH_SECONDS
    while alive := [victim.pid for victim in victims if not has_ended(victim)]:
        if time.monotonic() > end:
            raise ChaosError(f"waited {DEATH_SECONDS} s for the processes {alive} to die after SIGKILL")
        time.sleep(0.01)


class Kill(Fault):
    """SIGKILL, all targets at once; at the end they are started again with their own command lines."""

    kind = "kill"

    def prepare(self) -> None:
        """See that every target runs; how to start it again is the platform's knowledge."""
        running(self, "to kill")

    def begin(self) -> None:
        """Kill, and wait until they are gone."""
        victims = list(running(self, "to kill").values())
        self.begun = time.time()
        for victim in victims:
            send_signal(victim, signal.SIGKILL)
        await_death(victims)

    def end(self) -> None:
        """Start what does not run."""
        self.targets.platform.start([server.name for server in self.servers], wait_s=RESTART_SECONDS)

    def is_gone(self) -> bool:
        """See Fault."""
        return not any(process_of(self.targets, server) for server in self.servers)


class EmptyFolder(Kill):
    """SIGKILL, and the data folder of each target is taken away; at the end it is started with an empty one.

    The data stays beside it as NAME.removed, for a person to put back; nothing here does.
    """

    kind = "emptyfolder"

    def begin(self) -> None:
        """Kill, then take the folders away."""
        super().begin()
        for server in self.servers:
            folder = embedded(self.targets).process(server).data_folder
            if folder is None:
                raise ChaosError(f"{server.name} has no data folder")
            kept = folder.with_name(f"{folder.name}.removed")
            if kept.exists():
                raise ChaosError(f"{kept} is there from an earlier time: put it back or remove it")
            folder.rename(kept)


class Pause(Fault):
    """SIGSTOP: the process neither answers nor dies, its connections stay open.  SIGCONT at the end."""

    kind = "pause"

    def prepare(self) -> None:
        """Note which processes they are."""
        found = running(self, "to pause")
        self.parameters["processes"] = {name: [p.pid, p.create_time()] for name, p in found.items()}

    def begin(self) -> None:
        """Stop the processes."""
        for process in self._processes():
            process.suspend()

    def end(self) -> None:
        """Let the same processes go on; a pid that was given to another program is left alone."""
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                process.resume()

    def is_stopped(self) -> bool:
        """See Fault."""
        found = self._processes()
        return len(found) == len(self.servers) and all(p.status() == psutil.STATUS_STOPPED for p in found)

    def _processes(self) -> list[psutil.Process]:
        """Those of the record that are still there."""
        found = []
        for pid, created in self.parameters.get("processes", {}).values():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if abs(process.create_time() - created) < 1:
                    found.append(process)
        return found


def embedded(targets: Targets) -> EmbeddedPlatform:
    """The platform whose servers are processes; ChaosError for another one."""
    if not isinstance(targets.platform, EmbeddedPlatform):
        raise ChaosError(f"the servers of {targets.cluster.name} are no processes of this machine")
    return targets.platform


def process_of(targets: Targets, server: Node) -> psutil.Process | None:
    """The server's live process; None when it is down."""
    return embedded(targets).process(server).running()


def running(fault: Fault, words: str) -> dict[str, psutil.Process]:
    """The process of each target, by name; ChaosError that names those that do not run, so nothing `words`."""
    found = {server.name: process_of(fault.targets, server) for server in fault.servers}
    if down := [name for name, process in found.items() if process is None]:
        raise ChaosError(f"{', '.join(down)} does not run: nothing {words}")
    return {name: process for name, process in found.items() if process is not None}
