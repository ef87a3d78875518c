"""Where rows lie that came through ShardingSphere-Proxy, and what the catalogue reads of them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import psutil
import psycopg
import pytest

from shardmart.shop.adapters.postgres.catalogue import PostgresCatalogue
from shardmart.shop.adapters.postgres.flavours import DISTRIBUTION, REFERENCE
from shardmart.shop.domain.notification import Notification
from shardmart.shop.domain.order import Order
from shardmart.shop.domain.payment import Payment
from shardmart.shop.domain.stock import Reservation, Stock
from shardmart.shop.ports import Lane, StoredAnswer, Unit
from tests.support.shardingsphere.configuration import server_of
from tests.support.shardingsphere.kit import ShardingSphereKit, sharded_catalogue
from tests.support.shardingsphere.proxy import SERVERS, RunningProxy
from tests.support.shardingsphere.transactions import event_of, lying_on, order_on
from tests.support.shop_stores import REGIONS

EACH = range(SERVERS)
DRAWN = ("commits", "events", "event_places")
"""Tables whose keys are drawn, or are the few lanes: no row strays, but they need not be on every server."""


async def something_of_everything(kit: ShardingSphereKit) -> None:
    """Rows in every table, on each server wherever their key is ours to choose."""
    for region, number in ((region, number) for region in REGIONS for number in EACH):
        order = order_on(kit, number, region)
        user, product, service = (lying_on(number, partial(kit.unique, kind)) for kind in ("u", "p", "service"))
        await kit.add_product(product, 7)
        await kit.add_customer(region, user)
        stock = Stock(product, "", available=3)
        aggregates = (stock, Reservation(order.id, region), Payment(order.id, region), Notification(order.id, region))
        for aggregate in aggregates:
            aggregate.version = 1
        (lane, *_) = await kit.lanes(service, "one").beat()

        async def work(unit: Unit, order: Order = order, parts: Any = aggregates, lane: Lane = lane) -> None:
            await unit.put(order, 0)
            for part in parts:
                await unit.put(part, 0)
            unit.tell([event_of(order.id, 1, order.region)], "")
            await unit.store_answer(order.region, order.id, StoredAnswer("f", 201, "{}", {}))
            await unit.park(lane, event_of(order.id, 2, order.region), "a reason")

        await kit.store.transact(work)


def test_each_row_lies_on_one_server_and_reference_tables_on_all(
    sharded: ShardingSphereKit, sharding_proxy: RunningProxy
) -> None:
    sharded.run(something_of_everything(sharded))
    strays, counts = [], dict[str, list[int]]()
    for table, column in DISTRIBUTION.items():
        rows = [sharding_proxy.lying(table, column, number) for number in EACH]
        counts[table] = [len(values) for values in rows]
        strays += [(table, n, value) for n in EACH for value in rows[n] if server_of(value, SERVERS) != n]
    assert strays == []
    assert [table for table, found in counts.items() if 0 in found and table not in DRAWN] == [], counts
    assert [table for table, found in counts.items() if not any(found)] == []
    for table in REFERENCE:
        assert [sharding_proxy.lying(table, "version", number) for number in EACH] == [[1]] * SERVERS


def test_the_catalogue_is_seeded_over_the_servers_and_read_in_one_order(sharding_proxy: RunningProxy) -> None:
    names = [f"{letter}{number}" for number in range(8) for letter in "aBz"]
    products = [{"id": name, "name": f"Tea {name}", "category": f"C{name[1:]}", "price_cents": 5} for name in names]

    async def body() -> None:
        async with sharded_catalogue(sharding_proxy) as (seeder, pool):
            assert await seeder.add(products) == len(products)
            assert await seeder.add(products) == 0
            catalogue = PostgresCatalogue(pool)
            assert await catalogue.count() == len(names)
            seen: list[str] = []
            while page := await catalogue.page(seen[-1] if seen else None, 5, None, None):
                seen += [row["id"] for row in page]
            assert seen == sorted(names), "pages follow the ids byte by byte"
            found = await catalogue.page(None, 9, "tea", "C3")
            assert [row["id"] for row in found] == ["B3", "a3", "z3"]
            assert await catalogue.product("z7") == products[-1]

    asyncio.run(body())
    rows = [sharding_proxy.lying("products", "id", number, "catalogue") for number in EACH]
    assert [name for number in EACH for name in rows[number] if server_of(name, SERVERS) != number] == []
    assert sorted(name for each in rows for name in each) == sorted(names)
    assert [] not in rows
    for number in EACH:
        assert sorted(sharding_proxy.lying("categories", "name", number, "catalogue")) == [f"C{n}" for n in range(8)]


def test_the_proxy_listens_on_loopback_alone_and_asks_for_a_password(sharding_proxy: RunningProxy) -> None:
    process = sharding_proxy.process
    assert process
    found = [at.laddr for at in psutil.Process(process.pid).net_connections() if at.status == psutil.CONN_LISTEN]
    assert [(at.ip.removeprefix("::ffff:"), at.port) for at in found] == [("127.0.0.1", sharding_proxy.port)]
    words = " ".join(sharding_proxy.command)
    assert [secret for secret in (sharding_proxy.password, sharding_proxy.server_password) if secret in words] == []
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=sharding_proxy.port, user="shop", password="other", dbname="shop")
