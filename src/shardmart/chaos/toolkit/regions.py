"""Chaos Toolkit actions and probes for the region servers of the fragments (docs/fragments.md).

`targets` and `peers` are names of regions, or `regions` for all.  The proofs of the cluster's faults (`is_gone`,
`is_stopped`, `packets_dropped` in `toolkit.probes`) hold for these, too.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from chaoslib.exceptions import ActivityFailed  # type: ignore[import-untyped]

from shardmart.errors import ShardmartError
from shardmart.fragments.connection import administrator, scalar
from shardmart.fragments.peers import status
from shardmart.platforms.state import State

from ..faults.regions import RULE
from ..lifecycle import register
from ..lifecycle.running import current_run
from ..targets import regions
from ..targets.selectors import Targets
from .actions import HARMLESS, Evidence, Selector

__all__ = [
    "conflicts_decided",
    "cut_region",
    "every_region_is_told",
    "kill_region",
    "no_region_decides",
    "pause_region",
    "without_rule",
]

KINDS: dict[str, str] = {
    "kill_region": "region-kill",
    "pause_region": "region-pause",
    "cut_region": "region-network",
    "without_rule": "region-rule",
}
"""The kind of fault that each fault action needs, by the action's name."""


def _begin(kind: str, name: str, targets: Selector, duration_s: float, **parameters: Any) -> Evidence:
    try:
        here = Targets(State.find())
        servers = regions.named(here.state, targets)
        return asdict(register.start(here, kind, name, servers, float(duration_s), **parameters))
    except ShardmartError as error:
        raise ActivityFailed(str(error)) from None


def kill_region(targets: Selector, duration_s: float = 15) -> Evidence:
    """SIGKILL to every process of the targets; they are started again after `duration_s`."""
    return _begin("region-kill", "kill", targets, duration_s)


def pause_region(targets: Selector, duration_s: float = 20) -> Evidence:
    """SIGSTOP to every process of the targets: alive, silent, connections open.  SIGCONT after `duration_s`."""
    return _begin("region-pause", "pause", targets, duration_s)


def cut_region(targets: Selector, peers: Selector = "regions", duration_s: float = 20) -> Evidence:
    """Cut every packet between targets and peers; clients go on writing on both sides."""
    try:
        known = [server.name for server in regions.named(State.find(), peers)]
    except ShardmartError as error:
        raise ActivityFailed(str(error)) from None
    return _begin("region-network", "partition", targets, duration_s, **HARMLESS | {"loss": 1.0, "peers": known})


def without_rule(targets: Selector = "regions", duration_s: float = 300) -> Evidence:
    """Negative control: no node decides which of two writes stays, and the timer of the repair is stopped."""
    return _begin("region-rule", "without-rule", targets, duration_s)


def every_region_is_told(wait_s: float = 60) -> bool:
    """Whether every region server answers and is told by every other one, within `wait_s`."""
    end = time.monotonic() + float(wait_s)
    while True:
        facts = status.status(regions.configuration(State.find()), compare=False, settle_seconds=0)
        if not facts["problems"] and all(peer["state"] == "streaming" for peer in facts["peers"]):
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.2)


def conflicts_decided() -> int:
    """How many times since the experiment began a node decided between two writes of which neither knew the other."""
    since = current_run().started
    configuration = regions.configuration(State.find())
    query = "SELECT count(*) FROM Customer_Region_Conflicts WHERE seen_at >= to_timestamp(%s)"
    total = 0
    for node in configuration.nodes:
        with administrator(configuration, node) as connection:
            total += int(scalar(connection, query, since))
    return total


def no_region_decides() -> bool:
    """Whether the rule is off on every region server."""
    configuration = regions.configuration(State.find())
    query = "SELECT tgenabled = 'D' FROM pg_trigger WHERE tgname = %s"
    for node in configuration.nodes:
        with administrator(configuration, node) as connection:
            if not scalar(connection, query, RULE):
                return False
    return True
