"""The engine: faults at random, for ever or for a while, seeded, logged, within limits, and healed on exit.

`shardmart chaos engine` runs it; on kind the chart may run it as a Deployment, off by default.  Its first fault is the
reference demo: 100 ms on the routers every 2 to 5 minutes for a random time.  It never begins a fault while another is
active, never touches two members of one set within `calm_s`, and waits until every set has a primary again.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardmart.cluster.description import Node, Role
from shardmart.errors import ShardmartError

from ..errors import ChaosError
from ..targets.selectors import OUTSIDE, Targets
from . import heal, records, register

Say = Callable[[str], None]

FAULTS = ("latency", "packet-loss", "partition", "kill", "pause", "step-down", "move-chunks", "kill-router")
CALM_SECONDS = 90


@dataclass(frozen=True)
class Plan:
    """What the engine may do.  Times in seconds."""

    faults: tuple[str, ...] = ("latency",)
    pause_s: tuple[float, float] = (120, 300)
    length_s: tuple[float, float] = (15, 90)
    delay_ms: float = 100
    seed: int = 0
    duration_s: float | None = None
    calm_s: float = CALM_SECONDS
    maximum_faults: int | None = None


@dataclass(frozen=True)
class Choice:
    """One fault the engine decided on."""

    fault: str
    kind: str
    servers: tuple[Node, ...]
    length_s: float
    parameters: dict[str, Any] = field(default_factory=dict)

    def words(self) -> str:
        """In one line."""
        return f"{self.fault} on {', '.join(s.name for s in self.servers)} for {self.length_s:.0f} s"


@dataclass
class Engine:
    """Chooses and starts faults until told to stop; the seed decides."""

    targets: Targets
    plan: Plan
    say: Say
    begun: int = 0
    skipped: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.plan.seed)  # noqa: S311
        self._touched: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Run until `stop`, the plan's duration or its number of faults; heal whatever happens."""
        end = time.monotonic() + self.plan.duration_s if self.plan.duration_s else None
        try:
            while not stop.is_set() and (self.plan.maximum_faults is None or self.begun < self.plan.maximum_faults):
                pause = self._dice.uniform(*self.plan.pause_s)
                self.say(f"next fault in {pause:.0f} s")
                remaining = pause if end is None else min(pause, end - time.monotonic())
                if stop.wait(max(0.0, remaining)) or (end is not None and time.monotonic() >= end):
                    return
                self._once(stop)
        finally:
            ended = heal.heal(self.targets.state)
            self.say(f"stopped after {self.begun} faults; healed {len(ended)} that were active")

    def _once(self, stop: threading.Event) -> None:
        choice = self.choose()
        if choice is None:
            self.skipped += 1
            self.say("no fault: nothing may be touched now (another fault is active, or a set was touched lately)")
            return
        try:
            self._wait_until_whole(stop)
            record = register.start(
                self.targets, choice.kind, choice.fault, list(choice.servers), choice.length_s, **choice.parameters
            )
        except ShardmartError as error:
            self.skipped += 1
            self.say(f"no fault: {error}")
            return
        self.begun += 1
        for server in choice.servers:
            self._touched[server.group] = time.monotonic() + choice.length_s
        self.say(f"{record.id}: {choice.words()}")
        if not stop.wait(choice.length_s):
            heal.wait_until_ended(self.targets.state, 120)

    def _wait_until_whole(self, stop: threading.Event, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not stop.is_set():
            if all(self.targets.hello(server) for server in self.targets.servers) and all(
                self.targets.primary(name) for name in self.targets.set_names
            ):
                return
            if time.monotonic() > end:
                raise ChaosError(f"waited {seconds:g} s for every server and a primary of every set")
            time.sleep(0.5)

    def choose(self) -> Choice | None:
        """The next fault; None if the limits forbid every target now."""
        if records.active(self.targets.state):
            return None
        fault = self._dice.choice(self.plan.faults)
        length = self._dice.uniform(*self.plan.length_s)
        now = time.monotonic()
        routers = [server for server in self.targets.servers if server.role is Role.ROUTER]
        calm = [name for name in self.targets.set_names if now - self._touched.get(name, -1e9) > self.plan.calm_s]
        if fault == "latency":
            return self._network(fault, routers, length, delay_ms=self.plan.delay_ms, direction="egress")
        if fault == "packet-loss":
            return self._network(fault, routers, length, loss=0.02)
        if fault == "kill-router":
            return Choice(fault, "kill", (self._dice.choice(routers),), length)
        if fault == "move-chunks":
            return Choice(
                fault, "chunkmoves", tuple(routers[:1]), length, {"namespace": "ledger.orders", "interval_s": 0.5}
            )
        if not calm:
            return None
        member = self._dice.choice(self.targets.members(self._dice.choice(calm)))
        if fault == "partition":
            # From the other servers, not from the outside: so that the engine's own questions still get through.
            return self._network(fault, [member], length, loss=1.0, outside=False)
        kinds: dict[str, tuple[str, dict[str, Any]]] = {
            "kill": ("kill", {}),
            "pause": ("pause", {}),
            "step-down": ("stepdowns", {"interval_s": max(5.0, length / 2)}),
        }
        kind, parameters = kinds[fault]
        return Choice(fault, kind, (member,), length, parameters)

    def _network(
        self, fault: str, servers: Sequence[Node], length: float, *, outside: bool = True, **parameters: Any
    ) -> Choice:
        peers = [server.name for server in self.targets.everybody] + ([OUTSIDE] if outside else [])
        defaults = {"delay_ms": 0.0, "jitter_ms": 0.0, "loss": 0.0, "direction": "both", "seed": self.plan.seed}
        return Choice(fault, "network", tuple(servers), length, defaults | parameters | {"peers": peers})
