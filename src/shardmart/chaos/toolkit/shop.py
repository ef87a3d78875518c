"""Chaos Toolkit probes of the shop: whether it serves, tells the truth, ends orders, and how long it did not answer."""

from __future__ import annotations

import random
import time
import uuid
from itertools import pairwise
from typing import Any

from shardmart.cluster.observe import shop as observe
from shardmart.cluster.protocol.connection import POLL_SECONDS
from shardmart.ledger import journal
from shardmart.ledger.metrics import read_windows
from shardmart.ledger.shop import ShopSystem
from shardmart.ledger.shop.http import RequestError
from shardmart.ledger.system import Target
from shardmart.platforms.state import State

from ..errors import ChaosError
from ..lifecycle import records
from ..lifecycle.running import current_run
from ..targets import databases
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

ENDED = ("confirmed", "cancelled")
WORKLOAD = "shop"


def shop_is_ready(wait_s: float = 60) -> bool:
    """Whether every instance of every service is ready, each service is served, and the cache answers, in `wait_s`."""
    shop = Targets(State.find()).cluster.shop
    if shop is None:
        raise ChaosError("this cluster has no shop")
    end = time.monotonic() + float(wait_s)
    while observe.gather(shop)["problems"]:
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    return True


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


def catalogue_tells_the_stock(wait_s: float = 20) -> bool:
    """Whether the catalogue tells of each of the first 20 products what the inventory has, within `wait_s` each.

    Orders change the stock meanwhile, and an answer of the catalogue may be a quarter of a second old: a product is
    asked of both until they say the same.
    """
    system = ShopSystem.connect(Target("ledger", operation_seconds=float(wait_s)))
    try:
        urls, token = system.place.urls, system.place.token(None)

        def ask(url: str) -> Any:
            answer = system.http.until_answered("GET", url, token)
            if answer.status != 200:
                raise ChaosError(f"{url} answers {answer.words}")
            return answer.document

        for product in [one["id"] for one in ask(f"{urls['catalogue']}/api/products?limit=20")]:
            end = time.monotonic() + float(wait_s)
            while ask(f"{urls['catalogue']}/api/products/{product}")["stock"] != str(
                ask(f"{urls['inventory']}/stock/{product}")["available"]
            ):
                if time.monotonic() >= end:
                    return False
                time.sleep(POLL_SECONDS)
    except RequestError as error:
        raise ChaosError(f"the shop does not answer: {error}") from None
    finally:
        system.close()
    return True


def order_ends_s(wait_s: float = 60) -> float:
    """Seconds until an order that is placed now is confirmed or cancelled; -1 when it is not within `wait_s`."""
    system = ShopSystem.connect(Target("ledger", operation_seconds=float(wait_s)))
    try:
        customer = random.choice(system.stores.customers())  # noqa: S311
        product = random.choice(system.stores.products(20))  # noqa: S311
        token, url = system.place.token(customer), f"{system.place.urls['order']}/orders"
        begun = time.monotonic()
        placed = system.http.until_answered(
            "POST", url, token, f"probe-{uuid.uuid4()}", {"items": [{"product_id": product, "quantity": 1}]}
        )
        if placed.status != 201:
            raise ChaosError(f"the order was refused: {placed.words}")
        while time.monotonic() - begun < float(wait_s):
            found = system.http.until_answered("GET", f"{url}/{placed.document['id']}", token)
            if found.status == 200 and found.document["status"] in ENDED:
                return round(time.monotonic() - begun, 2)
            time.sleep(POLL_SECONDS)
    except RequestError as error:
        raise ChaosError(f"the shop does not answer: {error}") from None
    finally:
        system.close()
    return -1.0


def time_without_answers_s() -> float:
    """The longest time between two answers to the workload, of all its clients, since the first fault began."""
    run = current_run()
    begun = run.first_fault()
    if begun is None:
        raise ChaosError("no fault has begun in this experiment")
    journaled = journal.Run.read(run.ledger)
    answers = sorted(
        journaled.wall(operation.end)
        for operation in journal.read_all(run.ledger, WORKLOAD)
        if operation.outcome == "ok" and operation.end is not None
    )
    before = [at for at in answers if at <= begun][-1:]
    points = [*before, *(at for at in answers if at > begun), time.time()]
    return round(max((later - earlier for earlier, later in pairwise(points)), default=-1.0), 2)


def operations_without_answer() -> int:
    """How many operations of the workload failed or were not answered since the experiment began; a refusal is one."""
    return sum(window.failed + window.unknown for window in read_windows(current_run().ledger))


def all_were_restarted(fault: str = "rolling-restart") -> bool:
    """Whether the last rolling restart restarted each of its targets; known once it has ended."""
    found = records.last(State.find(), fault)
    return found.evidence.get("restarted") == found.targets
