"""Orders from the shop until it is told to stop, then follows every order to its end: the program of a pod.

`python buyer.py` with a service's settings at SETTINGS.  Prints the number of orders placed after each, and at the end
a JSON document: `failed` (what went wrong, one text each), `again` (503 with Retry-After, said again with the same
key), `states` (how many orders ended in which state).  It imports nothing of the tests: it runs in the shop's image.
"""

from __future__ import annotations

import asyncio
import collections
import json
import time
import uuid
from pathlib import Path

import aiohttp

from shardmart.shop import settings
from shardmart.shop.demonstration import ENDED, somebody
from shardmart.shop.web.tokens import issue

SETTINGS, STOP = Path("/etc/shop/settings.json"), Path("/tmp/stop")
BUYERS = 2
PAUSE_SECONDS = 0.2
END_SECONDS = 240
IDLE_SECONDS = 1
"""Idle connections are closed here sooner than a leaving instance closes them."""


class Buyers:
    """Some customers at once, over one pool of connections."""

    def __init__(self, session: aiohttp.ClientSession, urls: settings.Urls) -> None:
        self._session, self._urls = session, urls
        self.placed: list[str] = []
        self.failed: list[str] = []
        self.again = 0

    async def buy(self) -> None:
        """One order after the other."""
        while not await asyncio.to_thread(STOP.exists):
            try:
                await self._order(await self._product())
            except (aiohttp.ClientError, TimeoutError, OSError, AssertionError) as error:
                self.failed.append(repr(error))
            await asyncio.sleep(PAUSE_SECONDS)

    async def _product(self) -> str:
        async with self._session.get(f"{self._urls.catalogue}/api/products?limit=20") as answer:
            document = await answer.json(content_type=None)
            assert answer.status == 200, f"catalogue: {answer.status} {document}"
        listed = document if isinstance(document, list) else document["items"]
        return str(max(listed, key=lambda one: int(one["stock"] or 0))["id"])

    async def _order(self, product: str) -> None:
        body = {"items": [{"product_id": product, "quantity": 1}]}
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        while True:
            async with self._session.post(f"{self._urls.order}/orders", json=body, headers=headers) as answer:
                document = await answer.json(content_type=None)
            if answer.status != 503 or "Retry-After" not in answer.headers:
                break
            self.again += 1  # a busy store
            await asyncio.sleep(float(answer.headers["Retry-After"]))
        assert answer.status == 201, f"order: {answer.status} {document}"
        self.placed.append(document["id"])
        print(len(self.placed), flush=True)

    async def follow(self) -> collections.Counter[str]:
        """How many orders are in which state once all have ended, or nobody waits any longer."""
        states: dict[str, str] = {}
        deadline = time.monotonic() + END_SECONDS
        while (left := [one for one in self.placed if states.get(one) not in ENDED]) and time.monotonic() < deadline:
            for order in left:
                async with self._session.get(f"{self._urls.order}/orders/{order}") as answer:
                    states[order] = (await answer.json(content_type=None)).get("status", f"answered {answer.status}")
            await asyncio.sleep(PAUSE_SECONDS)
        return collections.Counter(states.values())


async def main() -> None:
    """Buy, follow, tell."""
    options = settings.load(SETTINGS)
    token = issue(options.tokens.keys, f"customer:{await asyncio.to_thread(somebody, options)}", 3600)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(keepalive_timeout=IDLE_SECONDS),
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=60),
    ) as session:
        buyers = Buyers(session, options.urls)
        await asyncio.gather(*(buyers.buy() for _ in range(BUYERS)))
        states = await buyers.follow()
    print(json.dumps({"failed": buyers.failed, "again": buyers.again, "states": states}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
