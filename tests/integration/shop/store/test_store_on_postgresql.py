"""What is PostgreSQL's alone: commits that are late or whose answer is lost, errors at COMMIT, users, migrations."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta

import psycopg
import pytest

from shardmart.shop.adapters.postgres.log import position_of
from shardmart.shop.adapters.postgres.store import CONNECTIONS, PostgresStore, pool_of
from shardmart.shop.adapters.postgres.tables import RIGHTS, VERSION
from shardmart.shop.adapters.postgres.unit import PostgresUnit
from shardmart.shop.domain import events
from shardmart.shop.domain.events import Event
from shardmart.shop.domain.identifiers import lane_of
from shardmart.shop.domain.order import Order
from shardmart.shop.domain.stock import Stock
from shardmart.shop.ports import GapError, Place, StoreError, Unit
from shardmart.shop.settings import Relational
from tests.support.cut_proxy import CutProxy, When
from tests.support.postgres_stores import PostgresKit, RunningPostgres
from tests.support.shop_stores import LANES

REGION = "EMEA"
LEASE = timedelta(seconds=60)


@pytest.fixture
def kit(postgresql: RunningPostgres) -> Iterator[PostgresKit]:
    made = PostgresKit(postgresql.options())
    yield made
    made.close()


def event_of(key: str, number: int) -> Event:
    return Event(events.ORDER_PLACED, key, REGION, "order", number, {"revision": number})


def place_of(key: str) -> Place:
    return REGION, lane_of(key, LANES)


async def telling(kit: PostgresKit, key: str, number: int) -> None:
    async def work(unit: Unit) -> None:
        unit.tell([event_of(key, number)], "")

    await kit.store.transact(work)


async def numbers(stream: AsyncIterator[tuple[Event | None, str]], key: str, count: int) -> list[int]:
    """The producer's numbers of the next events of a key; none for a stream that has nothing now."""
    found = []
    async for event, _ in stream:
        if event is None and count == 0:
            break
        if event is not None and event.key == key:
            found.append(event.number)
            if len(found) == count:
                break
    return found


async def until_one_waits_for_a_lock(kit: PostgresKit) -> None:
    async with asyncio.timeout(60):
        while True:
            waiting = await kit.pool.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            if waiting:
                return
            await asyncio.sleep(0.01)  # polling interval


def test_an_event_that_is_committed_late_is_read_in_its_place_and_not_passed_over(kit: PostgresKit) -> None:
    async def body() -> None:
        key = kit.order().id
        other = next(k for k in (kit.order().id for _ in range(100)) if place_of(k) != place_of(key))
        start = await kit.log.ends([place_of(key)])
        async with kit.pool.connection() as connection:
            late = PostgresUnit(connection, LANES, None)
            await late.begin(None, LEASE)
            late.tell([event_of(key, 1)], "")
            await late.flush(kit.unique("transaction"))
            quick = asyncio.create_task(telling(kit, key, 2))
            await until_one_waits_for_a_lock(kit)
            await telling(kit, other, 1)
            async with aclosing(kit.log.follow(start)) as stream:  # type: ignore[type-var]
                assert await numbers(stream, key, 0) == [], "nothing overtakes what is not committed"
            assert not quick.done()
            await connection.execute("COMMIT")
        await quick
        async with aclosing(kit.log.follow(start)) as stream:  # type: ignore[type-var]
            assert await numbers(stream, key, 2) == [1, 2]

    kit.run(body())


def test_a_log_with_a_hole_or_a_shorter_one_is_a_gap_and_not_skipped(
    kit: PostgresKit, postgresql: RunningPostgres
) -> None:
    async def body() -> None:
        key = kit.order().id
        place = place_of(key)
        before = (await kit.log.ends([place]))[place]
        for number in (1, 2):
            await telling(kit, key, number)
        with postgresql.sql() as administrator:
            administrator.execute("DELETE FROM events WHERE id = %s", [f"{key}/order/1"])
        for position, whole in ((before, False), (position_of(10**9), True)):
            with pytest.raises(GapError) as caught:
                async with aclosing(kit.log.follow({place: position})) as stream:  # type: ignore[type-var]
                    await numbers(stream, key, 1)
            assert (caught.value.places, caught.value.from_beginning) == ([place], whole)

    kit.run(body())


def test_a_change_of_stock_that_is_committed_late_is_told(kit: PostgresKit) -> None:
    async def body() -> None:
        early, later = Stock(kit.unique("p"), "", available=1), Stock(kit.unique("p"), "", available=2)
        early.version = later.version = 1
        async with kit.pool.connection() as connection:
            late = PostgresUnit(connection, LANES, None)
            await late.begin(None, LEASE)
            await late.put(early, 0)
            await late.flush(kit.unique("transaction"))
            async with aclosing(kit.store.follow_stocks()) as stream:  # type: ignore[type-var]
                assert await anext(stream) is None
                await kit.save(later)
                while (told := await anext(stream)) is None or told.id != later.id:
                    pass
                await connection.execute("COMMIT")
                while (told := await anext(stream)) is None or told.id != early.id:
                    pass
                assert told.available == 1

    kit.run(body())


@asynccontextmanager
async def cut_at_commit(postgresql: RunningPostgres, when: When, times: int = 1) -> AsyncIterator[PostgresStore]:
    """A store whose next `times` COMMITs are lost, as `CutProxy` says; all of them must have been at the end."""
    proxy = CutProxy(postgresql.server.port)
    proxy.left = times
    behind = PostgresKit.behind(postgresql.options(), await proxy.start())
    try:
        await behind.ping()
        proxy.cut = when
        yield behind
    finally:
        await proxy.close()
    assert proxy.left == 0


@pytest.mark.parametrize(("when", "times"), [("after", 1), ("before", 2)])
def test_a_commit_whose_answer_is_lost_is_looked_up_and_its_work_is_done_once(
    kit: PostgresKit, postgresql: RunningPostgres, when: When, times: int
) -> None:
    done = 0
    order = kit.order()

    async def work(unit: Unit) -> None:
        nonlocal done
        done += 1
        await unit.put(order, 0)
        unit.tell([event_of(order.id, 1)], "")

    async def body() -> None:
        async with cut_at_commit(postgresql, when) as behind:
            await behind.transact(work)
        assert done == times
        assert await kit.store.get(Order, REGION, order.id) == order
        assert [event.id for event in await kit.log.of_key(REGION, order.id)] == [f"{order.id}/order/1"]

    kit.run(body())


def test_answers_that_are_lost_all_at_once_are_all_looked_up(kit: PostgresKit, postgresql: RunningPostgres) -> None:
    orders = [kit.order() for _ in range(2 * CONNECTIONS)]

    async def body() -> None:
        async with cut_at_commit(postgresql, "after", len(orders)) as behind:
            await asyncio.gather(*(behind.transact(lambda unit, o=order: unit.put(o, 0)) for order in orders))  # type: ignore[misc]
        for order in orders:
            assert await kit.store.get(Order, REGION, order.id) == order

    kit.run(body())


@pytest.fixture
def failing(postgresql: RunningPostgres, request: pytest.FixtureRequest) -> Iterator[None]:
    """The next COMMIT of a transaction that makes an order fails with the SQLSTATE, once."""
    with postgresql.sql() as administrator:
        administrator.execute("CREATE SEQUENCE fails")
        administrator.execute("GRANT USAGE ON SEQUENCE fails TO PUBLIC")
        administrator.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('fails') = 1 THEN"
            f" RAISE EXCEPTION 'on purpose' USING ERRCODE = '{request.param}'; END IF; RETURN NULL; END $$"
        )
        administrator.execute(
            "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON orders DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION fail()"
        )
        yield
        administrator.execute("DROP TRIGGER fail ON orders")
        administrator.execute("DROP FUNCTION fail")
        administrator.execute("DROP SEQUENCE fails")


@pytest.mark.parametrize("failing", ["40001", "40P01", "40003", "57P01"], indirect=True)
@pytest.mark.usefixtures("failing")
def test_an_error_at_commit_that_says_again_is_tried_again(kit: PostgresKit) -> None:
    done = 0
    order = kit.order()

    async def work(unit: Unit) -> None:
        nonlocal done
        done += 1
        await unit.put(order, 0)

    async def body() -> None:
        await kit.store.transact(work)
        assert done == 2
        assert await kit.store.get(Order, REGION, order.id) == order

    kit.run(body())


def test_a_server_that_takes_no_writes_any_more_is_left_for_one_that_does(kit: PostgresKit) -> None:
    async def body() -> None:
        async with kit.pool.connection() as connection:  # as if it had been the primary's
            await connection.execute("SET default_transaction_read_only = on")
        order = kit.order()
        await kit.save(order)
        assert await kit.store.get(Order, REGION, order.id) == order

    kit.run(body())


HOLDER = """
import asyncio, json, sys
from datetime import timedelta
from shardmart.shop.adapters.postgres.store import CONNECTIONS, pool_of
from shardmart.shop.adapters.postgres.unit import PostgresUnit
from shardmart.shop.domain.stock import Stock
from shardmart.shop.ports import Lane
from shardmart.shop.settings import Relational

async def body(options, lane, product):
    async with pool_of(Relational(**options), "holder", 3).connection() as connection:
        unit = PostgresUnit(connection, 2, Lane(**lane))
        await unit.begin("0000001", timedelta(seconds=60))
        stock = Stock(product, "", available=1)
        stock.version = 1
        await unit.put(stock, 0)
        await unit.flush("held")
        print("holds", flush=True)
        await asyncio.sleep(600)

asyncio.run(body(*json.loads(sys.stdin.read())))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_locks_of_an_instance_that_was_killed_or_hangs_end(
    kit: PostgresKit, postgresql: RunningPostgres, number: signal.Signals
) -> None:
    service, product = kit.unique("service"), kit.unique("p")

    async def body() -> None:
        (lane, *_) = await kit.lanes(service, "one").beat()
        given = {"service": service, "region": lane.region, "number": lane.number, "epoch": lane.epoch}
        pipe = asyncio.subprocess.PIPE
        holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, stdin=pipe, stdout=pipe)
        try:
            assert holder.stdin
            assert holder.stdout
            holder.stdin.write(json.dumps([postgresql.options().model_dump(), given, product]).encode())
            holder.stdin.write_eof()
            assert (await holder.stdout.readline()).strip() == b"holds"
            holder.send_signal(number)
            stock = Stock(product, "", available=7)
            stock.version = 1
            await kit.save(stock)  # waits for the lock, no longer than a request may: 30 s
            await kit.store.transact(lambda unit: unit.get_stocks([product]), lane, "0000002")
        finally:
            with suppress(ProcessLookupError):
                holder.kill()
            await holder.wait()
        left = await kit.store.get(Stock, "", product)
        assert left is not None
        assert left.available == 7

    kit.run(body())


def test_a_server_that_hangs_is_left_in_time(postgresql: RunningPostgres) -> None:
    kit = PostgresKit(postgresql.options(), 2)
    order = kit.order()
    kit.run(kit.store.ping())
    server = postgresql.server.running()
    assert server
    family = [server, *server.children(recursive=True)]
    try:
        for process in family:
            process.suspend()
        with pytest.raises(StoreError):
            kit.run(kit.save(order), 60)
    finally:
        for process in family:
            process.resume()

    async def body() -> None:
        async with asyncio.timeout(60):
            while True:  # what it had read before it hung it does first
                try:
                    found = await kit.store.get(Order, REGION, order.id)
                    break
                except StoreError:
                    await asyncio.sleep(0.1)  # polling interval
        assert found in (None, order)

    kit.run(body())
    kit.close()


def test_a_users_rights_are_those_of_its_service(postgresql: RunningPostgres) -> None:
    with postgresql.sql() as administrator:
        rows = administrator.execute(
            "SELECT grantee, table_name, string_agg(privilege_type, ',') FROM information_schema.table_privileges"
            " WHERE table_schema = 'public' AND grantee LIKE 'shop\\_%' AND grantee <> 'shop_contract' GROUP BY 1, 2"
        ).fetchall()
    found: dict[str, dict[str, set[str]]] = {}
    for user, table, words in rows:
        found.setdefault(user, {})[table] = set(words.split(","))
    wanted = {
        user: {table: set(words.split(", ")) for table, words in rights.items() if "(" not in words}
        for user, rights in RIGHTS.items()
    }
    assert found == wanted
    for user, statement in (
        ("shop_payment", "SELECT * FROM orders"),
        ("shop_order", "UPDATE products SET price_cents = 1"),
        ("shop_order", "DELETE FROM events"),
        ("shop_ledger", "SELECT email FROM customers"),
        ("shop_ledger", "UPDATE orders SET status = 'confirmed'"),
    ):
        options = postgresql.options(user)
        with (
            psycopg.connect(
                host=options.host, port=options.port, user=user, password=options.password, dbname="shop"
            ) as connection,
            pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)),
        ):
            connection.execute(statement.encode())


def test_tables_are_made_once_and_what_was_interrupted_is_finished(postgresql: RunningPostgres) -> None:
    assert postgresql.prepare() == []
    with postgresql.sql() as administrator:
        administrator.execute("DROP TABLE commits")
        administrator.execute("DELETE FROM schema_versions")
    assert postgresql.prepare() == [f"make the tables of version {VERSION}"]
    assert postgresql.prepare() == []


def test_tables_of_a_later_version_are_left_alone(kit: PostgresKit, postgresql: RunningPostgres) -> None:
    with postgresql.sql() as administrator:
        administrator.execute(b"INSERT INTO schema_versions VALUES (%d)" % (VERSION + 1))
        try:
            with pytest.raises(StoreError, match=f"version {VERSION + 1}"):
                postgresql.prepare()
            with pytest.raises(StoreError, match=f"needs {VERSION}"):
                kit.run(kit.store.ping())
        finally:
            administrator.execute(b"DELETE FROM schema_versions WHERE version = %d" % (VERSION + 1))


def test_the_driver_takes_the_host_that_takes_writes(postgresql: RunningPostgres) -> None:
    options = postgresql.options(host="127.0.0.2,127.0.0.1")

    async def body(options: Relational) -> None:
        pool = pool_of(options, "contract", 30)
        assert await pool.rows("SELECT 1 AS one") == [{"one": 1}]
        await pool.close()

    asyncio.run(body(options))
