"""Faults on the processes of this machine: members and routers of the embedded platform, whose network is loopback.

Killing and pausing need no privileges; network faults need root or CAP_NET_ADMIN, a slow disk needs control groups.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from shardmart.cluster.description import Node
from shardmart.cluster.host.processes import Process, has_ended, start, wait_until_listening
from shardmart.cluster.protocol.connection import Deadline
from shardmart.platforms.state import State

from ..errors import ChaosError
from .fault import Fault

RESTART_SECONDS = 60
DEATH_SECONDS = 20


class Kill(Fault):
    """SIGKILL, all targets at once; at the end they are started again with their own command lines."""

    kind = "kill"

    def prepare(self) -> None:
        """Note the command lines."""
        running = processes_of(self.targets.state, self.servers, "to kill")
        self.parameters["commands"] = {name: process.cmdline() for name, process in running.items()}

    def begin(self) -> None:
        """Kill, and wait until they are gone."""
        victims = list(processes_of(self.targets.state, self.servers, "to kill").values())
        self.begun = time.time()
        for victim in victims:
            victim.send_signal(signal.SIGKILL)
        end = time.monotonic() + DEATH_SECONDS
        while alive := [victim.pid for victim in victims if not has_ended(victim)]:
            if time.monotonic() > end:
                raise ChaosError(f"waited {DEATH_SECONDS} s for the processes {alive} to die after SIGKILL")
            time.sleep(0.01)

    def end(self) -> None:
        """Start what does not run."""
        idle = [
            Process(
                name=server.name,
                command=tuple(command),
                host=server.host,
                port=server.port,
                marker=_marker(command),
                pid_file=pid_file(self.targets.state, server),
                log_file=self.targets.state.folder / "logs" / f"{server.name}.log",
            )
            for server in self.servers
            if (command := self.parameters.get("commands", {}).get(server.name)) and not process_of(self.targets.state, server)
        ]
        wait_until_listening(start(idle), Deadline(RESTART_SECONDS))

    def is_gone(self) -> bool:
        """See Fault."""
        return all(process_of(self.targets.state, server) is None for server in self.servers)


def _marker(command: list[str]) -> str:
    """The argument no other server has: its configuration file, or the router's log."""
    for option in ("--config", "-f", "--logpath"):
        if option in command:
            return command[command.index(option) + 1]
    return command[-1]


class Pause(Fault):
    """SIGSTOP: the process neither answers nor dies, its connections stay open.  SIGCONT at the end."""

    kind = "pause"

    def prepare(self) -> None:
        """Note which processes they are."""
        running = processes_of(self.targets.state, self.servers, "to pause")
        self.parameters["processes"] = {name: [p.pid, p.create_time()] for name, p in running.items()}

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


def pid_file(state: State, server: Node) -> Path:
    """Where the pid of a server lies."""
    return state.folder / "run" / f"{server.name}.pid"


def process_of(state: State, server: Node) -> psutil.Process | None:
    """The server's live process; None when it is down."""
    try:
        process = psutil.Process(int(pid_file(state, server).read_text().split()[0]))
        # The pid may have been given to another program: a server's command line names the state folder.
        if str(state.folder) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (OSError, ValueError, IndexError, psutil.Error):
        pass
    return None


def processes_of(state: State, servers: Iterable[Node], words: str) -> dict[str, psutil.Process]:
    """The process of each server, by name; ChaosError that names those that do not run, so nothing `words`."""
    found = {server.name: process_of(state, server) for server in servers}
    if down := [name for name, process in found.items() if process is None]:
        raise ChaosError(f"{', '.join(down)} does not run: nothing {words}")
    return {name: process for name, process in found.items() if process is not None}
