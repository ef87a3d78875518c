"""Puts a line into a customer's cart through the order service, and looks where it lies: the program in a pod.

It runs in the order service's pod, with that service's settings, and prints one JSON document.  Network policies let
that pod reach its own store, the ring and itself: so the product is the store's, and the catalogue is not asked.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from pymongo import MongoClient

from shardmart.ring import RingClient
from shardmart.ring import settings as ring_settings
from shardmart.ring.carts import RingCarts
from shardmart.shop import settings
from shardmart.shop.demonstration import somebody
from shardmart.shop.web.tokens import issue


def something(store: settings.MongoDB) -> str:
    """A product that there is."""
    with MongoClient[dict[str, object]](store.uri, serverSelectionTimeoutMS=30_000) as client:
        found = client[store.database].products.find_one({}, {"_id": 1})
    assert found, "the store has no product"
    return str(found["_id"])


async def main() -> None:
    """Put, read through the service, read from the ring."""
    options = settings.load(Path("/etc/shop/settings.json"))
    assert options.ring_settings
    assert options.mongodb
    customer = await asyncio.to_thread(somebody, options)
    product = await asyncio.to_thread(something, options.mongodb)
    headers = {"Authorization": f"Bearer {issue(options.tokens.keys, f'customer:{customer}', 600)}"}
    cart = f"http://127.0.0.1:{urlsplit(str(options.urls.order)).port}/carts/{customer}"
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as session:
        async with session.put(f"{cart}/lines/one", json={"product_id": product, "quantity": 3}) as answer:
            assert answer.status < 300, f"{answer.status} {await answer.text()}"
        async with session.get(cart) as answer:
            items = (await answer.json(content_type=None))["items"]
    async with RingClient(ring_settings.read(Path(options.ring_settings)), upkeep=False) as ring:
        lines = await RingCarts(ring).contents(f"cart:{customer}")
    answered = {one["product_id"]: one["quantity"] for one in items}
    print(json.dumps({"product": product, "answered": answered, "on the ring": lines}))


if __name__ == "__main__":
    asyncio.run(main())
