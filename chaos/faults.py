"""The kinds of fault on the embedded platform: how each begins, is held, and ends.

Created from a JSON record by `chaos.guard`, which holds them, and by `chaos.register.heal`, which ends what a
dead guard left behind: `end` must therefore work from the record alone, in another process, and twice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psutil
from pymongo.errors import PyMongoError

from cluster.connection import Deadline
from cluster.processes import Process, start, wait_until_listening

from .errors import ChaosError
from .packets import rules
from .packets.flows import Endpoint
from .packets.injector import Injector, NetworkFault
from .packets.queue import PacketQueue, QueueError
from .targets import Server, Targets

RESTART_SECONDS = 60
DEATH_SECONDS = 20


@dataclass
class Fault:
    """One fault.  `parameters` is what the record keeps; `begin` may add to it what `end` needs."""

    targets: Targets
    servers: list[Server]
    duration_s: float
    parameters: dict[str, Any] = field(default_factory=dict)
    begun: float | None = None
    """When it became real (wall clock), if `begin` goes on after that."""
    kind: ClassVar[str]

    def begin(self) -> None:
        """Make the fault real.  Raises ChaosError if it cannot be."""

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Keep it until `deadline` (monotonic seconds) or `stop`."""
        stop.wait(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Undo it, whatever state it is in."""

    def evidence(self) -> dict[str, Any]:
        """What the fault itself saw, for the record."""
        return {}


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
        while alive := [victim.pid for victim in victims if not _is_dead(victim)]:
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


def _is_dead(process: psutil.Process) -> bool:
    """Gone, or a zombie that only its parent can bury."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


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


class Connections(Fault):
    """Open connections and keep them: what a client with a leak does."""

    kind = "connections"
    _open: Sequence[socket.socket] = ()

    def begin(self) -> None:
        """Open as many as asked, or until the server refuses."""
        opened: list[socket.socket] = []
        for server in self.servers:
            for _ in range(int(self.parameters["count"])):
                try:
                    opened.append(socket.create_connection((server.host, server.port), timeout=2))
                except OSError:
                    break
        self._open = opened
        self.parameters["opened"] = len(opened)
        if not opened:
            raise ChaosError(f"no connection to {', '.join(s.name for s in self.servers)} could be opened")

    def end(self) -> None:
        """Close them; a dead guard's are closed by the kernel."""
        for connection in self._open:
            connection.close()


class StepDowns(Fault):
    """A storm: every `interval_s` the primary of each target's set is told to step down."""

    kind = "stepdowns"

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Step down again and again; `done` counts the primaries that obeyed."""
        self.parameters["done"] = 0
        sets = sorted({server.set_name for server in self.servers if server.set_name})
        while not stop.is_set() and time.monotonic() < deadline:
            for name in sets:
                if (primary := self.targets.primary(name)) and self.targets.ask(primary, _step_down, 10):
                    self.parameters["done"] += 1
            stop.wait(max(0.0, min(float(self.parameters["interval_s"]), deadline - time.monotonic())))

    def evidence(self) -> dict[str, Any]:
        """How many step-downs were obeyed."""
        return {"step_downs": self.parameters.get("done", 0)}


def _step_down(client: Any) -> bool:
    client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
    return True


class ChunkMoves(Fault):
    """Move chunks of a collection between shards, one after the other, through the router as the administrator."""

    kind = "chunkmoves"

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Move until the end; what a move says when it fails is kept, and the next one is tried."""
        from pymongo import MongoClient

        self.parameters["moved"], self.parameters["refused"] = 0, []
        turn = 0
        with MongoClient[dict[str, Any]](
            self.targets.state.uri("admin"), serverSelectionTimeoutMS=2000, socketTimeoutMS=60_000
        ) as client:
            while not stop.is_set() and time.monotonic() < deadline:
                try:
                    self._move(client, turn)
                    self.parameters["moved"] += 1
                except PyMongoError as error:
                    self.parameters["refused"] = [*self.parameters["refused"][-4:], str(error)[:200]]
                turn += 1
                stop.wait(float(self.parameters["interval_s"]))

    def _move(self, client: Any, turn: int) -> None:
        namespace = self.parameters["namespace"]
        config = client["config"]
        collection = config["collections"].find_one({"_id": namespace})
        if collection is None:
            raise ChaosError(f"{namespace} is not sharded: nothing to move")
        chunks = list(config["chunks"].find({"uuid": collection["uuid"]}).sort("min", 1))
        shards = sorted(shard["_id"] for shard in config["shards"].find())
        chunk = chunks[turn % len(chunks)]
        destination = shards[(shards.index(chunk["shard"]) + 1) % len(shards)]
        client.admin.command("moveChunk", namespace, bounds=[chunk["min"], chunk["max"]], to=destination)

    def evidence(self) -> dict[str, Any]:
        """How many chunks moved, and the last refusals."""
        return {"moved": self.parameters.get("moved", 0), "refused": self.parameters.get("refused", [])}


class Nothing(Fault):
    """A fault that does nothing: the negative control of the proofs."""

    kind = "nothing"


KINDS: dict[str, type[Fault]] = {
    fault.kind: fault for fault in (Kill, Pause, Network, Connections, StepDowns, ChunkMoves, Nothing)
}


def requirement(kind: str) -> str | None:
    """What this machine lacks for faults of `kind`, in words; None when nothing."""
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
