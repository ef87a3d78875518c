"""Faults of the embedded platform: members and routers are processes of this machine, their network is loopback.

`chaos.platforms` offers them.  Killing and pausing need no privileges; network faults need root or CAP_NET_ADMIN.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from shardmart.cluster.host.processes import Process, has_ended, start, wait_until_listening
from shardmart.cluster.protocol.connection import Deadline

from .disk import SlowDisk, device_of
from .errors import ChaosError
from .faults import Fault
from .packets import rules
from .packets.flows import Endpoint
from .packets.injector import Injector, NetworkFault
from .packets.queue import PacketQueue, QueueError

RESTART_SECONDS = 60
DEATH_SECONDS = 20


class Kill(Fault):
    """SIGKILL, all targets at once; at the end they are started again with their own command lines."""

    kind = "kill"

    def begin(self) -> None:
        """Remember the command lines, then kill."""
        commands = self.parameters.setdefault("commands", {})
        victims: list[psutil.Process] = []
        for server in self.servers:
            process = self.targets.process(server)
            if process is None:
                raise ChaosError(f"{server.name} does not run: nothing to kill")
            commands[server.name] = process.cmdline()
            victims.append(process)
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
                pid_file=self.targets.pid_file(server),
                log_file=self.targets.state.folder / "logs" / f"{server.name}.log",
            )
            for server in self.servers
            if (command := self.parameters.get("commands", {}).get(server.name)) and not self.targets.process(server)
        ]
        wait_until_listening(start(idle), Deadline(RESTART_SECONDS))


def _marker(command: list[str]) -> str:
    """The argument no other server has: its configuration file, or the router's log."""
    for option in ("--config", "-f", "--logpath"):
        if option in command:
            return command[command.index(option) + 1]
    return command[-1]


class Pause(Fault):
    """SIGSTOP: the process neither answers nor dies, its connections stay open.  SIGCONT at the end."""

    kind = "pause"

    def begin(self) -> None:
        """Stop the processes."""
        stopped = self.parameters.setdefault("processes", {})
        for server in self.servers:
            process = self.targets.process(server)
            if process is None:
                raise ChaosError(f"{server.name} does not run: nothing to pause")
            stopped[server.name] = [process.pid, process.create_time()]
            process.suspend()

    def end(self) -> None:
        """Let the same processes go on; a pid that was given to another program is left alone."""
        for pid, created in self.parameters.get("processes", {}).values():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if abs(process.create_time() - created) < 1:
                    process.resume()


class Network(Fault):
    """Delay, jitter, loss or partition of the real packets between targets and peers (see `chaos.packets`)."""

    kind = "network"
    _injector: Injector | None = None
    _queue: PacketQueue | None = None

    def begin(self) -> None:
        """Take the queue and install the rules.  Needs root or CAP_NET_ADMIN."""
        endpoints = tuple(
            Endpoint(server.name, server.port, None, str(self.targets.pid_file(server)))
            for server in self.targets.servers
        )
        fault = NetworkFault(
            duration_s=self.duration_s,
            targets=tuple(server.name for server in self.servers),
            endpoints=endpoints,
            **{key: self.parameters[key] for key in ("delay_ms", "jitter_ms", "loss", "direction", "seed")},
            peers=tuple(self.parameters["peers"]),
        )
        self._injector = Injector(fault)
        try:
            self._queue = PacketQueue(fault.queue)
            self._injector.install()
        except (QueueError, rules.RulesError) as error:
            if self._queue:
                self._queue.close()
            raise ChaosError(str(error)) from None
        self.parameters["via"] = f"NFQUEUE {fault.queue} --queue-bypass on loopback"

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Serve the queue."""
        if self._injector and self._queue:
            self._injector.run(self._queue, deadline, stop.is_set)

    def end(self) -> None:
        """Take the rules out, then release what still waits."""
        with contextlib.suppress(rules.RulesError):
            rules.remove()
        if self._injector and self._queue:
            self._injector.drain(self._queue)
            self._queue.close()
            self._queue = None

    def evidence(self) -> dict[str, Any]:
        """Packets seen, delayed, dropped, passed."""
        return vars(self._injector.counters) if self._injector else {}


class SlowWrites(Fault):
    """Durable writes of the targets wait: the kernel lets them write a few times a second (see `chaos.disk`)."""

    kind = "slowdisk"

    def _disk(self) -> SlowDisk:
        return SlowDisk(self.parameters["id"])

    def begin(self) -> None:
        """Limit the processes, and measure what a write in their place takes, before and after."""
        processes = {server.name: self.targets.process(server) for server in self.servers}
        if down := [name for name, process in processes.items() if process is None]:
            raise ChaosError(f"{', '.join(down)} does not run: nothing to slow")
        disk, folder = self._disk(), self.targets.state.folder / "data"
        pids = [process.pid for process in processes.values() if process]
        self.parameters["device"] = device_of(folder)
        self.parameters["homes"] = {pid: disk.home(pid) for pid in pids}
        disk.slow(pids, self.parameters["device"], int(self.parameters["iops"]))
        self.begun = time.time()
        self.parameters["write_ms"] = disk.write_ms(folder)
        self.parameters["via"] = f"at most {self.parameters['iops']} writes a second to {self.parameters['device']}"

    def end(self) -> None:
        """Lift the limit."""
        homes = {int(pid): home for pid, home in self.parameters.get("homes", {}).items()}
        self._disk().release(homes, self.parameters.get("device", "0:0"))

    def evidence(self) -> dict[str, Any]:
        """What a durable write took while it lasted, milliseconds."""
        return {"write_ms": self.parameters.get("write_ms")}


KINDS: dict[str, type[Fault]] = {fault.kind: fault for fault in (Kill, Pause, Network, SlowWrites)}


def requirement(kind: str) -> str | None:
    """What this machine lacks for faults of `kind`, in words; None when nothing."""
    if kind == "drain":
        return "drain-node: processes of one machine have no node to drain"
    if kind == "slowdisk":
        return SlowDisk("any").requirement()
    if kind != "network":
        return None
    if not sys.platform.startswith("linux"):
        return "network faults need Linux (netfilter queues)"
    if os.geteuid() != 0 and not _has_net_admin():
        return "network faults on local processes need root or CAP_NET_ADMIN (kill and pause do not)"
    return None


def _has_net_admin() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective, 16) >> 12 & 1)
