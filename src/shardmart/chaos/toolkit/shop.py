"""Chaos Toolkit probes of the shop: whether it serves, tells the truth, ends orders, and how long it did not answer."""

from __future__ import annotations

import time

from shardmart.cluster.protocol.connection import POLL_SECONDS
from shardmart.ledger.metrics import read_windows
from shardmart.platforms.state import State

from ..errors import ChaosError
from ..lifecycle import records
from ..lifecycle.running import current_run
from ..observation import answers, workload
from ..targets import beside, customers, databases
from ..targets.selectors import Targets

__all__ = [
    "all_were_restarted",
    "catalogue_tells_the_stock",
    "operations_without_answer",
    "order_ends_s",
    "shop_is_ready",
    "store_has_another_leader",
    "store_is_whole",
    "time_without_answers_s",
]

WORKLOAD = "shop"
READ_SECONDS = 60


def shop_is_ready(wait_s: float = 60) -> bool:
    """Whether every instance of every service is ready, each service is served, and the cache answers, in `wait_s`."""
    targets = Targets(State.find())
    end = time.monotonic() + float(wait_s)
    while targets.platform.shop_is_short_of():
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    left = max(0.0, end - time.monotonic())
    return beside.call(targets, customers.serves, seconds=left, wait_s=left)


def store_has_another_leader(fault: str = "kill-store", wait_s: float = 60) -> bool:
    """Whether, within `wait_s`, a node of the store leads that the last fault of this name did not hit."""
    targets, hit = Targets(State.find()), records.last(State.find(), fault).targets
    end = time.monotonic() + float(wait_s)
    while (left := end - time.monotonic()) > 0:
        if databases.leader(targets.cluster, left).name not in hit:
            return True
        time.sleep(POLL_SECONDS)
    return False


def store_is_whole(wait_s: float = 120) -> bool:
    """Whether one node of the store leads and all others follow, within `wait_s`."""
    cluster, end = Targets(State.find()).cluster, time.monotonic() + float(wait_s)
    while not databases.whole(cluster):
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def catalogue_tells_the_stock(wait_s: float = 20, without_cache: bool = False) -> bool:
    """Whether the catalogue tells of each of the first 20 products what the inventory has, within `wait_s` each.

    `without_cache`: while the cache is away, a merged catalogue may say that it does not know.
    """
    seconds = float(wait_s)
    return beside.call(
        Targets(State.find()),
        customers.tells_the_stock,
        seconds=customers.PRODUCTS * seconds,
        wait_s=seconds,
        without_cache=without_cache,
    )


def order_ends_s(wait_s: float = 60) -> float:
    """Seconds until an order that is placed now is confirmed or cancelled; -1 when it is not within `wait_s`."""
    seconds = float(wait_s)
    return beside.call(Targets(State.find()), customers.order_ends_s, seconds=2 * seconds, wait_s=seconds)


def time_without_answers_s() -> float:
    """The longest time between two answers to the workload, of all its clients, since the first fault began."""
    run, targets = current_run(), Targets(State.find())
    begun = run.first_fault()
    if begun is None:
        raise ChaosError("no fault has begun in this experiment")
    ledger = workload.journals(targets, run)
    return beside.call(
        targets, answers.longest_silence, seconds=READ_SECONDS, ledger=ledger, workload=WORKLOAD, since=begun
    )


def operations_without_answer() -> int:
    """How many operations of the workload failed or were not answered since the experiment began; a refusal is one."""
    return sum(window.failed + window.unknown for window in read_windows(current_run().ledger))


def all_were_restarted(fault: str = "rolling-restart") -> bool:
    """Whether the last rolling restart restarted each of its targets; known once it has ended."""
    found = records.last(State.find(), fault)
    return found.evidence.get("restarted") == found.targets
