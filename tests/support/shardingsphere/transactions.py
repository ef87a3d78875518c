"""Transactions over the servers behind ShardingSphere-Proxy, for tests that break one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager

import pytest

from shardmart.shop.adapters.postgres.connection import Connection, Pool
from shardmart.shop.adapters.postgres.unit import PostgresUnit
from shardmart.shop.domain import events
from shardmart.shop.domain.events import Event
from shardmart.shop.domain.order import Order
from shardmart.shop.domain.stock import Stock
from shardmart.shop.ports import StoreError
from tests.support.shop_stores import LANES

from .configuration import server_of
from .kit import ShardingSphereKit
from .proxy import SERVERS, RunningProxy

REGION = "EMEA"


def lying_on(number: int, drawn: Callable[[], str]) -> str:
    """The first name drawn whose rows lie on this server."""
    return next(name for name in iter(drawn, None) if server_of(name, SERVERS) == number)


def order_on(kit: ShardingSphereKit, number: int, region: str = REGION) -> Order:
    """An order whose row lies on this server."""
    return next(order for order in (kit.order(region) for _ in range(1000)) if server_of(order.id, SERVERS) == number)


def stock_on(kit: ShardingSphereKit, number: int) -> Stock:
    """Stock whose row lies on this server."""
    made = Stock(lying_on(number, lambda: kit.unique("p")), "", available=1)
    made.version = 1
    return made


def event_of(key: str, number: int, region: str = REGION) -> Event:
    """An event of an order."""
    return Event(events.ORDER_PLACED, key, region, "order", number, {"revision": number})


@contextmanager
def at_commit(proxy: RunningProxy, number: int, product: str, does: str) -> Iterator[None]:
    """What a server does when it prepares a transaction that writes this stock."""
    with proxy.behind(number) as administrator:
        administrator.execute(
            f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does}; RETURN NULL; END $$".encode()
        )
        administrator.execute(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON stock DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN"
            f" (NEW.id = '{product}') EXECUTE FUNCTION slow()".encode()
        )
    try:
        yield
    finally:
        proxy.have_servers()
        proxy.forget_prepared()  # of a test that failed
        with proxy.behind(number) as administrator:
            administrator.execute("DROP FUNCTION slow CASCADE")


def slow_to_prepare(proxy: RunningProxy, number: int, product: str) -> AbstractContextManager[None]:
    """It takes longer than anybody waits for it here."""
    return at_commit(proxy, number, product, "PERFORM pg_sleep(25)")


def sleeps(proxy: RunningProxy, number: int) -> bool:
    """Whether a server is at such a transaction."""
    with proxy.behind(number) as administrator:
        return bool(administrator.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone())


@asynccontextmanager
async def written_on_two(
    kit: ShardingSphereKit, order: Order, stock: Stock, pool: Pool | None = None
) -> AsyncIterator[Connection]:
    """A transaction that wrote both, and an event, and that nobody has committed."""
    async with (pool or kit.pool).connection() as connection:
        unit = PostgresUnit(connection, LANES, None)
        # Not `unit.begin`: whichever server tells the time would be the first to prepare.
        await connection.execute("BEGIN")
        await unit.put(order, 0)
        await unit.put(stock, 0)
        unit.tell([event_of(order.id, 1)], "")
        await unit.flush(kit.unique("transaction"))
        yield connection
        await connection.close()


async def until(what: str, holds: Callable[[], object], seconds: float = 90) -> None:
    """Wait for something, asked of servers."""
    try:
        async with asyncio.timeout(seconds):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"waited {seconds:.0f} s: {what}")


async def there(kit: ShardingSphereKit, order: Order, stock: Stock) -> list[bool]:
    """What there is of the order, of the stock and of the event, once the store answers."""
    async with asyncio.timeout(120):
        while True:
            try:
                found = [
                    await kit.store.get(Order, REGION, order.id) is not None,
                    await kit.store.get(Stock, "", stock.id) is not None,
                    await kit.log.of_key(REGION, order.id) != [],
                ]
                break
            except StoreError:
                await asyncio.sleep(0.1)  # polling interval
    return found


def is_open(proxy: RunningProxy, number: int) -> bool:
    """Whether a transaction is open on a server, prepared or not."""
    with proxy.behind(number) as administrator:
        found = administrator.execute(
            "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        ).fetchone()
    return bool(found or proxy.prepared())


def prepares(proxy: RunningProxy, number: int) -> bool:
    """Whether a transaction is prepared on another server, and this one is at it."""
    return sleeps(proxy, number) and bool(proxy.prepared())
