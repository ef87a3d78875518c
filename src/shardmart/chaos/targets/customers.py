"""A shop as its customers, its operator and the owner of its payment provider meet it: questions, and one order.

For whoever can reach the services; `beside.call` has it done by one who can.  Each takes the state folder first.
"""

from __future__ import annotations

import random
import time
import uuid
from typing import Any

from shardmart.cluster.observe import shop as observe
from shardmart.cluster.protocol.connection import POLL_SECONDS
from shardmart.ledger.shop import ShopSystem
from shardmart.ledger.shop.http import HttpClient, RequestError
from shardmart.ledger.system import Target
from shardmart.platforms.state import State

from ..errors import ChaosError

ENDED = ("confirmed", "cancelled")
PRODUCTS = 20
ANSWER_SECONDS = 10
PROVIDER = "provider"
PROVIDER_SECRET = "shop-provider"  # noqa: S105  the name of its file


def serves(state: State, wait_s: float) -> bool:
    """Whether every instance that has an address is ready, each service is served, and the cache answers, in time."""
    shop = state.description().shop
    if shop is None:
        raise ChaosError("this cluster has no shop")
    end, authority = time.monotonic() + wait_s, state.cache_authority
    while observe.gather(shop, authority)["problems"]:
        if time.monotonic() >= end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def tells_the_stock(state: State, wait_s: float, without_cache: bool = False) -> bool:
    """Whether the catalogue tells of each of the first products what the inventory has, within `wait_s` each.

    Orders change the stock meanwhile, and an answer of the catalogue may be a quarter of a second old: a product is
    asked of both until they say the same.  `without_cache`: while the cache is away a merged catalogue, which has its
    stock from there alone, may say that it does not know (null); one that asks the store may not.
    """
    system, shop = _system(state, wait_s), state.description().shop
    unknown = [None] if without_cache and shop and shop.backends.catalogue == "postgres" else []
    try:
        urls, token = system.place.urls, system.place.token(None)

        def ask(url: str) -> Any:
            answer = system.http.until_answered("GET", url, token)
            if answer.status != 200:
                raise ChaosError(f"{url} answers {answer.words}")
            return answer.document

        for product in [one["id"] for one in ask(f"{urls['catalogue']}/api/products?limit={PRODUCTS}")]:
            end = time.monotonic() + wait_s
            while ask(f"{urls['catalogue']}/api/products/{product}")["stock"] not in (
                str(ask(f"{urls['inventory']}/stock/{product}")["available"]),
                *unknown,
            ):
                if time.monotonic() >= end:
                    return False
                time.sleep(POLL_SECONDS)
    except RequestError as error:
        raise ChaosError(f"the shop does not answer: {error}") from None
    finally:
        system.close()
    return True


def order_ends_s(state: State, wait_s: float) -> float:
    """Seconds until an order that is placed now is confirmed or cancelled; -1 when it is not within `wait_s`."""
    system = _system(state, wait_s)
    try:
        customer = random.choice(system.stores.customers())  # noqa: S311
        product = random.choice(system.stores.products(PRODUCTS))  # noqa: S311
        token, url = system.place.token(customer), f"{system.place.urls['order']}/orders"
        begun = time.monotonic()
        placed = system.http.until_answered(
            "POST", url, token, f"probe-{uuid.uuid4()}", {"items": [{"product_id": product, "quantity": 1}]}
        )
        if placed.status != 201:
            raise ChaosError(f"the order was refused: {placed.words}")
        while time.monotonic() - begun < wait_s:
            found = system.http.until_answered("GET", f"{url}/{placed.document['id']}", token)
            if found.status == 200 and found.document["status"] in ENDED:
                return round(time.monotonic() - begun, 2)
            time.sleep(POLL_SECONDS)
    except RequestError as error:
        raise ChaosError(f"the shop does not answer: {error}") from None
    finally:
        system.close()
    return -1.0


def set_provider_rules(state: State, rules: list[dict[str, Any]]) -> None:
    """Tell the simulated payment provider which mistakes to make, as its `PUT /rules` takes them.  ChaosError."""
    shop = state.description().shop
    provider = shop.service(PROVIDER) if shop else None
    if provider is None:
        raise ChaosError("this cluster has no payment provider")
    try:
        answer = HttpClient(ANSWER_SECONDS).once(
            "PUT", f"{provider.url}/rules", state.password(PROVIDER_SECRET), body={"rules": rules}
        )
    except RequestError as error:
        raise ChaosError(f"the payment provider does not take its rules: {error}") from None
    if answer.status >= 300:
        raise ChaosError(f"the payment provider does not take its rules: {answer.words}")


def _system(state: State, seconds: float) -> ShopSystem:
    return ShopSystem.connect(Target("ledger", state=state.folder, operation_seconds=seconds))
