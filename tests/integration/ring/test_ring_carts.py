"""Carts: two clients on one cart lose no item, also while a node is away."""

from __future__ import annotations

import asyncio

from shardmart.ring import RingClient
from shardmart.ring.carts import RingCarts
from tests.support.rings import RingServers, assert_equal_copies, back, ring


def test_two_clients_on_one_cart_lose_no_item_while_a_node_is_killed(running: RingServers) -> None:
    async def test() -> None:
        async with (
            ring(running, timeout_seconds=2.0) as client,
            RingClient(running.settings(["n1", "n2", "n3"], timeout_seconds=2.0), upkeep=False) as other,
        ):
            here, there = RingCarts(client), RingCarts(other)

            async def fill() -> None:
                await asyncio.gather(*(one.add("cart", "tea", 1) for one in [here, there] * 10))

            await fill()
            running.kill(client.view.ring.holders("cart")[0])
            await fill()
            assert await here.contents("cart") == await there.contents("cart") == {"tea": 40}

            gone = (await here.lines("cart"))[0]
            await asyncio.gather(here.remove("cart", gone.id), there.add("cart", "milk", 2, line="once"))
            await there.add("cart", "milk", 2, line="once")  # the request is repeated
            running.start(client.view.ring.holders("cart")[0])
            await back(client, client.view.ring.holders("cart")[0])
            await client.upkeep.deliver()
            assert await there.contents("cart") == {"tea": 39, "milk": 2}
            assert_equal_copies(running, client)

            assert len(await here.empty("cart")) == 40
            assert await there.contents("cart") == {}

    asyncio.run(test())
