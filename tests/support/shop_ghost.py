"""An instance that stands still in the middle of a transaction, to be killed there.

    python -m tests.support.shop_ghost CONFIG SERVICE NAME PRODUCT lane|request

It is the services' own adapters with a handler that never returns.  What it holds then: one piece of PRODUCT's stock
less, and with `lane` the lane whose name it prints; nothing of it is ever committed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from shardmart.shop.adapters.mongodb import client as mongodb
from shardmart.shop.adapters.mongodb.lanes import MongoLanes
from shardmart.shop.adapters.mongodb.presence import Presence
from shardmart.shop.adapters.mongodb.store import MongoStore
from shardmart.shop.adapters.mongodb.unit import MongoUnit
from shardmart.shop.ports import Lane, Unit
from shardmart.shop.settings import load


async def haunt(config: Path, service: str, name: str, product: str, *, with_lane: bool) -> None:
    """Never ends by itself."""
    settings = load(config)
    options, lease = settings.mongodb, settings.lease_seconds
    assert options
    database = mongodb.database(mongodb.connect(options.uri, 30, name), options.database)
    presence = Presence(database, service, name, options.regions[0], lease)
    store = MongoStore(database.client, database, options.lanes_per_region, seconds=600, presence=presence)
    number = options.lanes_per_region
    lanes = MongoLanes(database, service, name, options.regions, number, lease, presence)
    held: list[Lane] = []
    while with_lane and not held:
        held = await lanes.beat()

    async def stand_still(unit: Unit) -> None:
        stock = (await unit.get_stocks([product]))[product]
        seen, stock.version, stock.available = stock.version, stock.version + 1, stock.available - 1
        await unit.put(stock, seen)
        assert isinstance(unit, MongoUnit)
        await unit.flush()
        print(held[0].name if held else "-", flush=True)
        await asyncio.Event().wait()

    await store.transact(stand_still, held[0] if held else None)


if __name__ == "__main__":
    asyncio.run(haunt(Path(sys.argv[1]), *sys.argv[2:5], with_lane=sys.argv[5] == "lane"))
