"""Transactions over servers of which one, or the proxy, is lost before or in the COMMIT: by XA, whole or not at all."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta

import psycopg
import pytest

from shardmart.shop.adapters.postgres.connection import cut
from shardmart.shop.adapters.postgres.store import PostgresStore
from shardmart.shop.adapters.postgres.unit import PostgresUnit
from shardmart.shop.domain.identifiers import lane_of
from shardmart.shop.ports import Unit
from tests.support.cut_proxy import CutProxy, When
from tests.support.shardingsphere.kit import ShardingSphereKit
from tests.support.shardingsphere.proxy import SERVERS, RunningProxy
from tests.support.shardingsphere.transactions import (
    REGION,
    at_commit,
    event_of,
    is_open,
    order_on,
    prepares,
    sleeps,
    slow_to_prepare,
    stock_on,
    there,
    until,
    written_on_two,
)
from tests.support.shop_stores import LANES

LEASE = timedelta(seconds=60)


@pytest.fixture
def kit(sharded: ShardingSphereKit) -> ShardingSphereKit:
    return sharded


@pytest.fixture(autouse=True)
def _nothing_open(sharding_proxy: RunningProxy) -> Iterator[None]:
    yield
    sharding_proxy.end_open()


def test_a_commit_over_two_servers_is_on_both_and_leaves_nothing_prepared(
    kit: ShardingSphereKit, sharding_proxy: RunningProxy
) -> None:
    order, stock = order_on(kit, 0), stock_on(kit, 1)

    async def body() -> None:
        async with written_on_two(kit, order, stock) as connection:
            await connection.execute("COMMIT")
        assert await there(kit, order, stock) == [True, True, True]

    kit.run(body())
    assert order.id in sharding_proxy.lying("orders", "id", 0)
    assert stock.id in sharding_proxy.lying("stock", "id", 1)
    assert sharding_proxy.prepared() == []


def test_a_server_killed_before_commit_leaves_nothing_on_the_others(
    kit: ShardingSphereKit, sharding_proxy: RunningProxy
) -> None:
    order, stock = order_on(kit, 0), stock_on(kit, 1)

    async def body() -> None:
        async with written_on_two(kit, order, stock) as connection:
            await asyncio.to_thread(sharding_proxy.kill, 1)
            commit = asyncio.create_task(connection.execute("COMMIT"))
            await asyncio.sleep(0)
            await asyncio.to_thread(sharding_proxy.have_servers)
            await until("no transaction is open on the other server", lambda: not is_open(sharding_proxy, 0))
            cut(connection)
            with pytest.raises(psycopg.Error):
                await commit
        assert await there(kit, order, stock) == [False, False, False]

    kit.run(body(), 300)


@pytest.mark.full  # Atomikos tries five times to end what the dead server had, ten seconds apart
@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="ShardingSphere 5.1.0 answers COMMIT although Atomikos rolled it back"
)
def test_a_commit_that_is_answered_was_committed(kit: ShardingSphereKit, sharding_proxy: RunningProxy) -> None:
    order, stock = order_on(kit, 0), stock_on(kit, 1)
    patient = kit.pooled(kit.options, 200)
    answers = []

    async def body() -> None:
        async with written_on_two(kit, order, stock, patient) as connection:
            await asyncio.to_thread(sharding_proxy.kill, 1)
            with suppress(psycopg.Error):
                answers.append((await connection.execute("COMMIT")).statusmessage)
        await asyncio.to_thread(sharding_proxy.have_servers)
        found = await there(kit, order, stock)
        await patient.close()
        assert found in ([True] * 3, [False] * 3)
        assert found == [bool(answers)] * 3

    try:
        kit.run(body(), 300)
    finally:
        sharding_proxy.have_servers()


@pytest.mark.full
@pytest.mark.parametrize("lost", ["server", "proxy"])
def test_what_one_server_prepared_is_rolled_back_when_another_or_the_proxy_is_killed_in_the_commit(
    kit: ShardingSphereKit, sharding_proxy: RunningProxy, lost: str
) -> None:
    order, stock = order_on(kit, 0), stock_on(kit, 1)

    async def body() -> None:
        async with written_on_two(kit, order, stock) as connection:
            commit = asyncio.create_task(connection.execute("COMMIT"))
            await until("one server has prepared, the other is at it", lambda: prepares(sharding_proxy, 1), 15)
            if lost == "server":
                await asyncio.to_thread(sharding_proxy.lose, 1)
            else:
                await asyncio.to_thread(sharding_proxy.stop, signal.SIGKILL)
                await asyncio.to_thread(sharding_proxy.start)
            await until("no transaction is prepared any more", lambda: not sharding_proxy.prepared())
            cut(connection)
            with pytest.raises(psycopg.Error):
                await commit
        assert await there(kit, order, stock) == [False, False, False]
        await kit.save(order)

    with slow_to_prepare(sharding_proxy, 1, stock.id):
        kit.run(body(), 400)


def test_a_server_killed_in_the_commit_is_looked_up_and_the_work_is_done_once(
    kit: ShardingSphereKit, sharding_proxy: RunningProxy
) -> None:
    done = 0
    order, stock = order_on(kit, 0), stock_on(kit, 1)
    pool = kit.pooled(kit.options, 8)

    async def work(unit: Unit) -> None:
        nonlocal done
        done += 1
        await unit.put(order, 0)
        await unit.put(stock, 0)
        unit.tell([event_of(order.id, 1)], "")

    async def body() -> None:
        saving = asyncio.create_task(PostgresStore(pool, LANES, seconds=60).transact(work))
        await until("the server is asked to prepare", lambda: sleeps(sharding_proxy, 1), 15)
        await asyncio.to_thread(sharding_proxy.lose, 1)
        with sharding_proxy.behind(1) as administrator:
            administrator.execute("DROP TRIGGER slow ON stock")
        await saving
        await pool.close()
        assert done == 2
        assert await there(kit, order, stock) == [True, True, True]
        assert [event.id for event in await kit.log.of_key(REGION, order.id)] == [f"{order.id}/order/1"]

    with slow_to_prepare(sharding_proxy, 1, stock.id):
        kit.run(body(), 300)


@pytest.mark.full
@pytest.mark.parametrize("state", ["40001", "23514"])
def test_a_server_that_refuses_at_commit_is_told_and_leaves_nothing(
    kit: ShardingSphereKit, sharding_proxy: RunningProxy, state: str
) -> None:
    order, stock = order_on(kit, 0), stock_on(kit, 1)
    refused = f"RAISE EXCEPTION 'on purpose' USING ERRCODE = '{state}'"

    async def body() -> None:
        async with written_on_two(kit, order, stock) as connection:
            # The server's own word is lost: a store answers 503, and does not try again.
            with pytest.raises(psycopg.errors.SystemError, match="Prepare failed"):
                await connection.execute("COMMIT")
        assert await there(kit, order, stock) == [False, False, False]

    with at_commit(sharding_proxy, 1, stock.id, refused):
        kit.run(body())


@pytest.mark.full
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="ShardingSphere 5.1.0 goes on after a failed statement, and commits the rest",
)
def test_after_a_failed_statement_nothing_is_committed(kit: ShardingSphereKit, sharding_proxy: RunningProxy) -> None:
    first, other = order_on(kit, 0).id, order_on(kit, 1).id
    with sharding_proxy.connect() as connection:
        connection.execute("BEGIN")
        connection.execute(f"INSERT INTO commits VALUES ('{first}', true, now())".encode())
        with suppress(psycopg.errors.NotNullViolation):
            connection.execute(f"INSERT INTO orders (id) VALUES ('{other}')".encode())
        with suppress(psycopg.Error):
            connection.execute("COMMIT")
    assert first not in sharding_proxy.lying("commits", "id", 0)


@pytest.mark.full
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="ShardingSphere 5.1.0 gives the next one the session of a client that is gone",
)
def test_what_others_write_after_a_client_is_gone_is_there(
    kit: ShardingSphereKit, sharding_proxy: RunningProxy
) -> None:
    written = []
    for _ in range(8):  # one of several sessions is given to the next one
        with sharding_proxy.connect() as gone:
            gone.execute("BEGIN")
            gone.execute(f"INSERT INTO commits VALUES ('{order_on(kit, 0).id}', true, now())".encode())
            gone.pgconn.finish()  # without a word, as a client that was killed
        with sharding_proxy.connect() as other:
            for _ in range(20):
                name = order_on(kit, 0).id
                other.execute(f"INSERT INTO commits VALUES ('{name}', true, now())".encode())
                written.append(name)
    asyncio.run(until("no transaction is open", lambda: not is_open(sharding_proxy, 0)))
    missing = set(written) - set(sharding_proxy.lying("commits", "id", 0))
    assert missing == set(), f"{len(missing)} of {len(written)} writes that were answered are nowhere"


@asynccontextmanager
async def cut_at_commit(proxy: RunningProxy, kit: ShardingSphereKit, when: When) -> AsyncIterator[PostgresStore]:
    """A store whose next COMMIT is lost, as `CutProxy` says; it must have been at the end."""
    between = CutProxy(proxy.port)
    behind = kit.behind(kit.options, await between.start())
    try:
        await behind.ping()
        between.cut = when
        yield behind
    finally:
        await between.close()
    assert between.left == 0


@pytest.mark.parametrize(("when", "times"), [("after", 1), ("before", 2)])
def test_a_commit_whose_answer_is_lost_is_looked_up_and_its_work_is_done_once(
    kit: ShardingSphereKit, sharding_proxy: RunningProxy, when: When, times: int
) -> None:
    done = 0
    order, stock = order_on(kit, 2), stock_on(kit, 0)

    async def work(unit: Unit) -> None:
        nonlocal done
        done += 1
        await unit.put(order, 0)
        await unit.put(stock, 0)
        unit.tell([event_of(order.id, 1)], "")

    async def body() -> None:
        async with cut_at_commit(sharding_proxy, kit, when) as behind:
            await behind.transact(work)
        assert done == times
        assert await there(kit, order, stock) == [True, True, True]
        assert [event.id for event in await kit.log.of_key(REGION, order.id)] == [f"{order.id}/order/1"]

    kit.run(body())


def one_waits(proxy: RunningProxy) -> bool:
    """Whether a session of one of the servers waits for a lock."""
    for number in range(SERVERS):
        with proxy.behind(number) as administrator:
            if administrator.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone():
                return True
    return False


def test_an_event_that_is_committed_late_keeps_its_place_in_the_log(
    kit: ShardingSphereKit, sharding_proxy: RunningProxy
) -> None:
    async def telling(key: str, number: int) -> None:
        async def work(unit: Unit) -> None:
            unit.tell([event_of(key, number)], "")

        await kit.store.transact(work)

    async def body() -> None:
        key = kit.order().id
        place = (REGION, lane_of(key, LANES))
        start = await kit.log.ends([place])
        async with kit.pool.connection() as connection:
            late = PostgresUnit(connection, LANES, None)
            await late.begin(None, LEASE)
            late.tell([event_of(key, 1)], "")
            await late.flush(kit.unique("transaction"))
            quick = asyncio.create_task(telling(key, 2))
            await until("the second waits for the first", lambda: one_waits(sharding_proxy), 4)
            assert await kit.log.ends([place]) == start, "nothing overtakes what is not committed"
            await connection.execute("COMMIT")
        await quick
        found = []
        async with aclosing(kit.log.follow(start)) as stream:  # type: ignore[type-var]
            async for event, _ in stream:
                if event is not None and event.key == key:
                    found.append(event.number)
                    if len(found) == 2:
                        break
        assert found == [1, 2]

    kit.run(body())
