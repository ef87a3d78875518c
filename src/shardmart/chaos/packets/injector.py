"""Hold a network fault for its time: read packets from the queue, delay or drop those it is about, pass the others.

A process of its own (`python -m shardmart.chaos.packets FAULT.json`), on this machine or inside a pod; it reports in
lines of JSON on standard output and ends at its deadline, on SIGTERM and on SIGINT, with every packet released.
It never touches a packet that is not between the fault's targets and peers.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from . import netem, rules
from .flows import OUTSIDE, Endpoint, Header, Owners, parse
from .queue import ACCEPT, DROP, REPEAT, PacketQueue

URGENT = -15
"""Every packet waits for this process: on a busy machine the delay would be the scheduler's instead of the fault's."""


@dataclass(frozen=True)
class NetworkFault:
    """What to do to which packets.  Times in milliseconds, `loss` from 0 to 1 (1 = partition), duration in seconds.

    `endpoints` empty means "this network namespace is the target" (a pod): then `peer_addresses` names the peers
    (empty = every peer).  Otherwise the fault is on loopback, between `targets` and `peers` (endpoint names).
    """

    duration_s: float
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    direction: str = "egress"
    targets: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    peer_addresses: tuple[str, ...] = ()
    interface: str = "eth0"
    queue: int = 4711
    seed: int = 0

    @classmethod
    def from_json(cls, text: str) -> NetworkFault:
        """Read what `to_json` wrote."""
        document: dict[str, Any] = json.loads(text)
        document["endpoints"] = tuple(Endpoint(**endpoint) for endpoint in document.get("endpoints", ()))
        for name in ("targets", "peers", "peer_addresses"):
            document[name] = tuple(document.get(name, ()))
        return cls(**document)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


@dataclass
class Counters:
    """Packets seen, delayed, dropped, and let through at once."""

    seen: int = 0
    delayed: int = 0
    dropped: int = 0
    passed: int = 0


@dataclass
class Injector:
    """The loop of one fault: `install`, `run`, then remove the rules and `drain`."""

    fault: NetworkFault
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self._random = random.Random(self.fault.seed)  # noqa: S311 - jitter, not secrets
        self._mark = rules.new_mark()
        self._held: list[tuple[float, int]] = []
        self._last_due: dict[tuple[str, int, str, int], float] = {}
        self._targets, self._peers = set(self.fault.targets), set(self.fault.peers)
        servers = {endpoint.name for endpoint in self.fault.endpoints}
        # A peer that is everybody need not be told from anybody: only targets are looked for then.
        self._everybody = servers | {OUTSIDE} <= self._peers | self._targets
        self._owners = Owners(list(self.fault.endpoints), self._targets if self._everybody else servers)

    def concerns(self, header: Header) -> tuple[bool, bool]:
        """Whether the flow is between target and peer at all, and whether this direction of it is impaired."""
        if self.fault.endpoints:
            source, destination = self._owners.name(header.source_port), self._owners.name(header.destination_port)
            egress = source in self._targets and (self._everybody or destination in self._peers)
            ingress = destination in self._targets and (self._everybody or source in self._peers)
        else:
            # A rule on INPUT or OUTPUT of the pod: its peers are named by address, its own address is not needed.
            peers = self.fault.peer_addresses
            egress = not peers or header.destination in peers
            ingress = not peers or header.source in peers
        wanted = self.fault.direction
        return egress or ingress, (egress and wanted != "ingress") or (ingress and wanted != "egress")

    def due(self, header: Header, now: float) -> float:
        """When to release a packet; never before an earlier packet of its flow, so that jitter does not reorder."""
        delay = self.fault.delay_ms
        if self.fault.jitter_ms:
            delay += self._random.uniform(-self.fault.jitter_ms, self.fault.jitter_ms)
        flow = (header.source, header.source_port, header.destination, header.destination_port)
        due = max(now + max(delay, 0.0) / 1000, self._last_due.get(flow, 0.0))
        self._last_due[flow] = due
        return due

    def _take(self, queue: PacketQueue) -> None:
        for packet in queue.receive():
            now = time.monotonic()  # after it was received: with an earlier time a late reader would shorten its delay
            self.counters.seen += 1
            header = parse(packet.header)
            if header is None:
                queue.decide(packet.number, ACCEPT)
                continue
            if header.opens and self.fault.endpoints:
                self._owners.opened(header)
            ours, impaired = self.concerns(header)
            if not ours:
                # The kernel remembers the verdict for the whole connection: it will not be asked again.
                self.counters.passed += 1
                queue.decide(packet.number, REPEAT, self._mark)
            elif not impaired:
                self.counters.passed += 1
                queue.decide(packet.number, ACCEPT)
            elif self.fault.loss and self._random.random() < self.fault.loss:
                self.counters.dropped += 1
                queue.decide(packet.number, DROP)
            elif self.fault.delay_ms or self.fault.jitter_ms:
                self.counters.delayed += 1
                heapq.heappush(self._held, (self.due(header, now), packet.number))
            else:
                queue.decide(packet.number, ACCEPT)

    def install(self) -> None:
        """Put the rules in that bring this fault's packets to its queue, which must be bound.  Raises RulesError."""
        fault = self.fault
        if fault.endpoints:
            named = {*fault.targets, *fault.peers}
            ports = sorted(endpoint.port for endpoint in fault.endpoints if endpoint.name in named)
            hooks: list[tuple[str, str | None]] = [("INPUT", "lo")]
            programs: tuple[str, ...] = (rules.IPV4,)
        else:
            ports, programs = [], rules.programs_of(fault.interface)
            chains = {"egress": ("OUTPUT",), "ingress": ("INPUT",), "both": ("OUTPUT", "INPUT")}[fault.direction]
            hooks = [(chain, fault.interface) for chain in chains]
        with contextlib.suppress(OSError):
            os.nice(URGENT)
        rules.install(fault.queue, self._mark, ports, hooks, fault.duration_s, programs)
        if fault.endpoints:
            # After the rules: what connects meanwhile waits in the queue, and nothing is missed.
            self._owners.scan()

    def run(self, queue: PacketQueue, deadline: float, stopping: Callable[[], bool]) -> None:
        """Serve the queue until `deadline` (monotonic seconds) or until `stopping` says so; release what is held."""
        while not stopping():
            now = time.monotonic()
            while self._held and self._held[0][0] <= now:
                queue.decide(heapq.heappop(self._held)[1], ACCEPT)
            if now >= deadline:
                break
            wake = min(deadline, self._held[0][0]) if self._held else deadline
            ready, _, _ = select.select([queue], [], [], max(0.0, min(wake - time.monotonic(), 0.5)))
            if ready:
                self._take(queue)
        for _, number in sorted(self._held):
            queue.decide(number, ACCEPT)
        self._held.clear()

    def drain(self, queue: PacketQueue) -> None:
        """Accept what reached the queue before its rules were gone; closing the queue would drop it."""
        for packet in queue.receive():
            queue.decide(packet.number, ACCEPT)


def hold(fault: NetworkFault) -> Counters:
    """Inject `fault` for its duration or until SIGTERM.  Raises RulesError or QueueError before it begins."""
    injector = Injector(fault)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if refused := _hold_with_netem(fault, stop):
        via = f"NFQUEUE {fault.queue} --queue-bypass ({refused})"
    else:
        return Counters()
    queue = PacketQueue(fault.queue)
    try:
        injector.install()
        report("started", via=via)
        injector.run(queue, time.monotonic() + fault.duration_s, stop.is_set)
    finally:
        rules.remove()
        injector.drain(queue)
        queue.close()
    report("ended", stopped=stop.is_set(), **asdict(injector.counters))
    return injector.counters


def _hold_with_netem(fault: NetworkFault, stop: threading.Event) -> str | None:
    """Hold the fault with netem; None when that was done, else why it could not be."""
    everybody = not fault.peer_addresses
    if fault.endpoints or not netem.fits(
        delay_ms=fault.delay_ms, jitter_ms=fault.jitter_ms, loss=fault.loss, direction=fault.direction,
        everybody=everybody,
    ):  # fmt: skip
        return "netem does not do this one in order"
    try:
        netem.install(fault.interface, fault.delay_ms)
    except netem.NetemError as error:
        return f"no netem: {error}"
    try:
        report("started", via="netem")
        stop.wait(fault.duration_s)
    finally:
        delayed = netem.remove(fault.interface)
    report("ended", stopped=stop.is_set(), seen=delayed, delayed=delayed, dropped=0, passed=0)
    return None


def clear(interface: str = "eth0") -> None:
    """Undo what an injector left that was killed: its rules, and netem."""
    rules.remove()
    netem.remove(interface)


def report(event: str, **details: object) -> None:
    """One line of JSON on standard output, with the wall-clock time in seconds."""
    print(json.dumps({"event": event, "at": time.time(), **details}), flush=True)
