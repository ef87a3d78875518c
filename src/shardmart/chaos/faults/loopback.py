"""Network faults among the processes of this machine, which all share 127.0.0.1."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

from ..errors import ChaosError
from ..packets import rules
from ..packets.flows import Endpoint
from ..packets.injector import Injector, NetworkFault
from ..packets.queue import ACCEPT, PacketQueue, QueueError
from ..targets.selectors import Targets
from .fault import Fault
from .processes import embedded


class Network(Fault):
    """Delay, jitter, loss or partition of the real packets between targets and peers (see `chaos.packets`)."""

    kind = "network"
    _injector: Injector | None = None
    _queue: PacketQueue | None = None

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        del targets
        if not sys.platform.startswith("linux"):
            return "network faults need Linux (netfilter queues)"
        if os.geteuid() != 0 and not _has_net_admin():
            return "network faults on local processes need root or CAP_NET_ADMIN (kill and pause do not)"
        return None

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every server that is told from the outside."""
        return tuple(
            Endpoint(server.name, server.port, None, str(embedded(self.targets).pid_file(server)))
            for server in self.targets.everybody
        )

    def begin(self) -> None:
        """Take the queue and install the rules.  Needs root or CAP_NET_ADMIN."""
        fault = NetworkFault(
            duration_s=self.duration_s,
            targets=tuple(server.name for server in self.servers),
            endpoints=self.endpoints(),
            **{key: self.parameters[key] for key in ("delay_ms", "jitter_ms", "loss", "direction", "seed")},
            peers=tuple(self.parameters["peers"]),
        )
        self._injector = Injector(fault)
        try:
            self._queue = PacketQueue(fault.queue)
            self._injector.install()
        except (QueueError, rules.RulesError) as error:
            raise ChaosError(str(error)) from None
        self.parameters["via"] = f"NFQUEUE {fault.queue} --queue-bypass on loopback"

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Serve the queue."""
        if self._injector and self._queue:
            self._injector.run(self._queue, deadline, stop.is_set)

    def end(self) -> None:
        """Take the rules out, then release what still waits.  Rules that another living process serves stay."""
        try:
            queue = self._queue or PacketQueue(NetworkFault(self.duration_s).queue)
        except QueueError:  # somebody holds it: that one's fault is not ours to end
            return
        with contextlib.suppress(rules.RulesError):
            rules.remove()
        for packet in queue.receive():
            queue.decide(packet.number, ACCEPT)
        queue.close()
        self._queue = None

    def evidence(self) -> dict[str, Any]:
        """Packets seen, delayed, dropped, passed."""
        return vars(self._injector.counters) if self._injector else {}


def _has_net_admin() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    return bool(int(effective, 16) >> 12 & 1)
