"""Puts a line into a customer's cart through the order service, and looks where it lies: the program in a pod.

It runs in the order service's pod, with that service's settings, and prints one JSON document.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp

from shardmart.ring import RingClient
from shardmart.ring import settings as ring_settings
from shardmart.ring.carts import RingCarts
from shardmart.shop import settings
from shardmart.shop.demonstration import somebody
from shardmart.shop.web.tokens import issue


async def main() -> None:
    """Put, read through the service, read from the ring."""
    options = settings.load(Path("/etc/shop/settings.json"))
    assert options.ring_settings
    customer = await asyncio.to_thread(somebody, options)
    headers = {"Authorization": f"Bearer {issue(options.tokens.keys, f'customer:{customer}', 600)}"}
    cart = f"{options.urls.order}/carts/{customer}"
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as session:
        async with session.get(f"{options.urls.catalogue}/api/products?limit=1") as answer:
            listed = await answer.json(content_type=None)
        product = (listed if isinstance(listed, list) else listed["items"])[0]["id"]
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
