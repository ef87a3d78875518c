"""Chaos Toolkit actions: the same names on every platform.

Each fault action returns as soon as the fault is real, with its record; the fault goes on by itself for `duration_s`
and ends by itself.  Selectors are those of `targets.selectors`, and `fault:NAME`, what the last fault of this name hit.
An argument may be a mapping from the platform's name to the value for it.  A failed action raises, and
`toolkit.controls` turns that into a failed experiment.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from chaoslib.exceptions import ActivityFailed  # type: ignore[import-untyped]

from shardmart.errors import ShardmartError
from shardmart.platforms import shop_nodes
from shardmart.platforms.state import State

from ..lifecycle import heal as healing
from ..lifecycle import records, register, running
from ..lifecycle.engine import FAULTS, Engine, Plan
from ..targets import databases
from ..targets.selectors import OUTSIDE, Targets

__all__ = [
    "await_end",
    "cut_store",
    "do_nothing",
    "drain_node",
    "empty_folder",
    "fill_connections",
    "heal",
    "kill",
    "kill_store",
    "latency",
    "move_chunks",
    "packet_loss",
    "partition",
    "pause",
    "pause_store",
    "random_faults",
    "rolling_restart",
    "slow_disk",
    "slow_provider",
    "step_down_storm",
    "wait",
]

Selector = str | list[str]
Seconds = float | Mapping[str, float]
Evidence = dict[str, Any]


KINDS: dict[str, str] = {}
"""The kind of fault that each fault action needs, by the action's name."""

HARMLESS: dict[str, Any] = {"delay_ms": 0.0, "jitter_ms": 0.0, "loss": 0.0, "direction": "both", "seed": 0}
"""The parameters of a network fault that does nothing yet."""

Action = TypeVar("Action", bound=Callable[..., Evidence])


def _needs(kind: str) -> Callable[[Action], Action]:
    def note(action: Action) -> Action:
        KINDS[action.__name__] = kind
        return action

    return note


def _here(targets: Targets, value: Any) -> Any:
    """The value of an argument on this platform."""
    return value[targets.platform.name] if isinstance(value, Mapping) else value


def _begin(kind: str, name: str, selector: Selector, duration_s: Seconds, **parameters: Any) -> Evidence:
    try:
        targets = Targets(State.find())
        servers = targets.resolve(records.named(targets.state, selector))
        given = {key: _here(targets, value) for key, value in parameters.items()}
        return asdict(register.start(targets, kind, name, servers, float(_here(targets, duration_s)), **given))
    except ShardmartError as error:
        raise ActivityFailed(str(error)) from None


def _network(name: str, selector: Selector, peers: Selector, duration_s: Seconds, **parameters: Any) -> Evidence:
    try:
        targets = Targets(State.find())
        names = [word.strip() for word in (peers.split(",") if isinstance(peers, str) else peers)]
        known = [server.name for server in targets.resolve([n for n in names if n != OUTSIDE])] if names else []
        if "all" in names:
            known = [server.name for server in targets.everybody]
    except ShardmartError as error:
        raise ActivityFailed(str(error)) from None
    if "all" in names or OUTSIDE in names:
        known.append(OUTSIDE)
    return _begin("network", name, selector, duration_s, **HARMLESS | parameters | {"peers": known})


@_needs("network")
def latency(
    targets: Selector = "routers",
    delay_ms: float = 100,
    jitter_ms: float = 0,
    direction: str = "egress",
    peers: Selector = "all",
    duration_s: Seconds = 30,
    seed: int = 0,
) -> Evidence:
    """Delay every packet between targets and peers by `delay_ms` ± up to `jitter_ms` (uniform, in order).

    `direction` is seen from the targets: egress adds the delay once to a round trip, both adds it twice.
    """
    if direction not in {"egress", "ingress", "both"}:
        raise ActivityFailed(f"direction is egress, ingress or both, not {direction!r}")
    if not 0 <= float(jitter_ms) <= float(delay_ms) <= 10_000:
        raise ActivityFailed("0 <= jitter_ms <= delay_ms <= 10000 must hold")
    return _network(
        "latency", targets, peers, duration_s,
        delay_ms=float(delay_ms), jitter_ms=float(jitter_ms), direction=direction, seed=int(seed),
    )  # fmt: skip


@_needs("network")
def packet_loss(
    targets: Selector = "routers", loss: float = 0.05, peers: Selector = "all", duration_s: Seconds = 30, seed: int = 0
) -> Evidence:
    """Drop the share `loss` (0 to 1) of packets between targets and peers, in both directions."""
    if not 0 < float(loss) <= 1:
        raise ActivityFailed("loss is a share: more than 0, at most 1")
    return _network("packet-loss", targets, peers, duration_s, loss=float(loss), seed=int(seed))


@_needs("network")
def partition(targets: Selector, peers: Selector = "all", duration_s: Seconds = 30) -> Evidence:
    """Cut every packet between targets and peers: one member from the rest, a shard from the routers, half a set."""
    return _network("partition", targets, peers, duration_s, loss=1.0)


@_needs("kill")
def kill(targets: Selector, duration_s: Seconds = 15, how: str | Mapping[str, str] = "sigkill") -> Evidence:
    """SIGKILL, all targets at once; they come back after `duration_s`.

    Kubernetes brings pods back at once, and until `duration_s` is over every new process is killed too; with `how`
    "delete" they are deleted without grace instead (terminate_pods of chaostoolkit-kubernetes).
    """
    for each in how.values() if isinstance(how, Mapping) else [how]:
        if each not in {"sigkill", "delete"}:
            raise ActivityFailed(f"how is sigkill or delete, not {each!r}")
    return _begin("kill", "kill", targets, duration_s, how=how)


@_needs("store-kill")
def kill_store(duration_s: Seconds = 15) -> Evidence:
    """SIGKILL to every process of the PostgreSQL that has the shop's store; it is started again after `duration_s`.

    Of several under Patroni it is the one that leads, and its Patroni with it.
    """
    return _begin("store-kill", "kill-store", databases.LEADER, duration_s)


@_needs("store-pause")
def pause_store(duration_s: Seconds = 40) -> Evidence:
    """SIGSTOP to the same processes, SIGCONT after `duration_s`: a leader that does not know that it is one no more."""
    return _begin("store-pause", "pause-store", databases.LEADER, duration_s)


@_needs("store-network")
def cut_store(duration_s: Seconds = 30) -> Evidence:
    """Cut every packet of the PostgreSQL that has the shop's store: connections stay open, and nothing comes.

    Of several under Patroni it is the one that leads, with its Patroni and its member of etcd.
    """
    try:
        targets = Targets(State.find())
        # Between pods addresses are cut: everybody's, which takes their names.
        others = targets.servers if targets.cluster.kubernetes else shop_nodes.store_nodes(targets.cluster)
        everybody = [OUTSIDE, *(server.name for server in others)]
    except ShardmartError as error:
        raise ActivityFailed(str(error)) from None
    return _begin(
        "store-network", "cut-store", databases.LEADER, duration_s, **HARMLESS | {"loss": 1.0, "peers": everybody}
    )


@_needs("emptyfolder")
def empty_folder(targets: Selector, duration_s: Seconds = 5) -> Evidence:
    """SIGKILL, and take the data folder away; after `duration_s` the target starts with an empty one (processes)."""
    return _begin("emptyfolder", "empty-folder", targets, duration_s)


@_needs("pause")
def pause(targets: Selector, duration_s: Seconds = 20) -> Evidence:
    """SIGSTOP: alive, silent, connections open.  SIGCONT after `duration_s`."""
    return _begin("pause", "pause", targets, duration_s)


@_needs("drain")
def drain_node(targets: Selector, duration_s: Seconds = 60) -> Evidence:
    """Drain the node of the first target that is not beside the toolbox; after `duration_s` it is used again (pods)."""
    return _begin("drain", "drain-node", targets, duration_s)


@_needs("connections")
def fill_connections(targets: Selector = "routers", count: int = 500, duration_s: Seconds = 30) -> Evidence:
    """Open `count` connections to each target and keep them."""
    return _begin("connections", "fill-connections", targets, duration_s, count=int(count))


@_needs("slowdisk")
def slow_disk(targets: Selector, iops: int = 10, duration_s: Seconds = 30) -> Evidence:
    """Let the targets' processes write to their disk at most `iops` times a second (processes, root)."""
    if int(iops) < 1:
        raise ActivityFailed("iops is 1 or more: a disk that never writes is a pause")
    return _begin("slowdisk", "slow-disk", targets, duration_s, iops=int(iops))


@_needs("stepdowns")
def step_down_storm(targets: Selector, interval_s: float = 5, duration_s: Seconds = 30) -> Evidence:
    """Tell the primary of each target's set to step down, every `interval_s`."""
    return _begin("stepdowns", "step-down-storm", targets, duration_s, interval_s=float(interval_s))


@_needs("chunkmoves")
def move_chunks(namespace: str = "ledger.orders", interval_s: float = 0.5, duration_s: Seconds = 30) -> Evidence:
    """Move chunks of `namespace` from shard to shard, one after the other."""
    return _begin("chunkmoves", "move-chunks", "routers", duration_s, namespace=namespace, interval_s=float(interval_s))


@_needs("provider")
def slow_provider(
    delay_s: float = 1.5, lost_answers: float = 0.3, declined: float = 0.0, duration_s: Seconds = 20
) -> Evidence:
    """The payment provider answers after `delay_s`, and for a share of orders loses its first answer or declines.

    An answer that is lost is of a charge that was made.
    """
    if not (0 <= float(delay_s) <= 120 and 0 <= float(lost_answers) <= 1 and 0 <= float(declined) <= 1):
        raise ActivityFailed("delay_s is 0 to 120, lost_answers and declined are shares from 0 to 1")
    rules: list[dict[str, Any]] = [
        {"action": "delay", "seconds": float(delay_s)},
        {"action": "lose-answer", "share": float(lost_answers), "times": 1},
        {"action": "decline", "share": float(declined)},
    ]
    return _begin("provider", "slow-provider", "service:provider", duration_s, rules=rules)


@_needs("rolling")
def rolling_restart(targets: Selector, duration_s: Seconds = 240) -> Evidence:
    """Restart one target after the other, each when the one before serves again; within `duration_s`.

    Of pods, one Deployment after the other: its pods are replaced one by one.
    """
    return _begin("rolling", "rolling-restart", targets, duration_s)


@_needs("nothing")
def do_nothing(targets: Selector = "routers", duration_s: Seconds = 5) -> Evidence:
    """A fault that does nothing: its proof must say so."""
    return _begin("nothing", "nothing", targets, duration_s)


def random_faults(
    duration_s: float = 1800,
    faults: str = "all",
    every_s: tuple[float, float] = (15, 40),
    length_s: tuple[float, float] = (8, 25),
    calm_s: float = 45,
    seed: int = 0,
) -> dict[str, int]:
    """Let the engine inject faults at random for `duration_s`; returns how many began and how many were skipped."""
    names = FAULTS if faults == "all" else tuple(name.strip() for name in faults.split(","))
    plan = Plan(
        faults=names,
        pause_s=(float(every_s[0]), float(every_s[1])),
        length_s=(float(length_s[0]), float(length_s[1])),
        seed=int(seed),
        duration_s=float(duration_s),
        calm_s=float(calm_s),
    )
    try:
        engine = Engine(Targets(State.find()), plan, logging.getLogger("chaostoolkit").info)
        engine.run(threading.Event())
    except ShardmartError as error:
        raise ActivityFailed(str(error)) from None
    return {"faults": engine.begun, "skipped": engine.skipped}


def wait(seconds: float) -> str:
    """Let the fault work for a while."""
    time.sleep(float(seconds))
    return f"{seconds:g} s"


def await_end(timeout_s: float = 180) -> str:
    """Wait until every fault has ended by itself."""
    state = State.find()
    try:
        healing.wait_until_ended(state, float(timeout_s))
    except ShardmartError as error:
        raise ActivityFailed(str(error)) from None
    return "no fault is active"


def heal() -> list[str]:
    """End every fault now, unless they are another experiment's.  The rollback of every experiment."""
    try:
        running.refuse_second(State.find())
        return healing.heal(State.find())
    except ShardmartError as error:
        raise ActivityFailed(re.sub(r"\s+", " ", str(error))) from None
