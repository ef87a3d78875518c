"""A store with orders in every state moves to PostgreSQL whole, whenever the move is killed, and is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from shardmart.shop.adapters.mongodb import documents
from shardmart.shop.adapters.mongodb.lanes import MongoLanes
from shardmart.shop.adapters.mongodb.mark import FRESH_SECONDS, MOVED, StoreMark
from shardmart.shop.adapters.mongodb.store import MongoStore
from shardmart.shop.domain import events
from shardmart.shop.domain.events import Aggregate, Event
from shardmart.shop.domain.identifiers import Customer, lane_of
from shardmart.shop.domain.notification import Notification
from shardmart.shop.domain.order import Order
from shardmart.shop.domain.payment import Payment
from shardmart.shop.domain.stock import HELD, RELEASED, TAKEN, Reservation, Stock
from shardmart.shop.ports import Lane, StoredAnswer, StoreError, Unit
from tests.support.clusters import EmbeddedCluster
from tests.support.postgres_stores import PostgresKit, RunningPostgres, running_postgres
from tests.support.shop_stores import LANES, REGIONS, Kit, MongoKit, now
from tests.support.shops import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.long]

CONSUMERS = ("order", "inventory", "payment", "notification")
PLACE = ("EMEA", 0)
GATE = 73_110_042
"""An advisory lock that a trigger of a test waits for: there the move stands still."""


@dataclass
class Written:
    """What was put into the store, by its ids."""

    orders: dict[str, str]
    products: list[str]
    customer: str
    answers: list[str]


class Settled(MongoKit):
    """The cluster's store as an instance has it, which looks at the mark."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        super().__init__(cluster.uri())
        self.mark = StoreMark(self.database, REGIONS)
        self.store = MongoStore(self.client, self.database, LANES, seconds=30, mark=self.mark)

    def lanes(self, service: str, instance: str, lease_seconds: float = 60) -> MongoLanes:
        return MongoLanes(self.database, service, instance, REGIONS, LANES, lease_seconds, mark=self.mark)


@pytest.fixture
def kit(cluster: EmbeddedCluster) -> Iterator[Settled]:
    made = Settled(cluster)
    yield made
    made.close()


@pytest.fixture
def postgresql(tmp_path: Path) -> Iterator[RunningPostgres]:
    with running_postgres(tmp_path) as running:
        yield running


class Mover:
    """`shardmart shop move-store`, as a process of its own."""

    def __init__(self, cluster: EmbeddedCluster, server: RunningPostgres, folder: Path) -> None:
        server.migrate(cluster)  # also puts the passwords where the command reads them
        self._folder, self._secrets = folder, cluster.folder / "secrets"
        tokens = {"tokens": {"keys": ["k" * 32]}, "limits": {"store_seconds": 1.0}}
        for service in CONSUMERS:
            self._write(f"{service}-1", {"mongodb": {"uri": cluster.uri(f"shop-{service}")}, **tokens})
        store = server.settings_of("order")["store"]
        self._write("store", {"mongodb": {"uri": cluster.uri("shop-order")}, "store": store, **tokens})
        self._command = [sys.executable, "-m", "shardmart.shop", "move-store", "--json"]
        self._command += ["--config", str(folder / "store.json"), "--shop", str(folder)]
        self._command += ["--secrets", str(self._secrets), "--administrator", server.server.superuser]

    def _write(self, name: str, document: dict[str, Any]) -> None:
        file = self._folder / f"{name}.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(document))

    def run(self, *more: str, code: int = 0) -> dict[str, Any]:
        done = subprocess.run([*self._command, *more], capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == code, done.stderr
        self.said = done.stderr
        return json.loads(done.stdout) if done.stdout else {}

    @contextmanager
    def killed_in_the_end(self) -> Iterator[None]:
        """A move that runs beside the block and is killed at its end."""
        with subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as self._running:
            try:
                yield
                assert self.runs()
            finally:
                self._running.send_signal(signal.SIGKILL)

    def runs(self) -> bool:
        """Whether it is under way still."""
        assert self._running.poll() is None, self._running.communicate()
        return True


@contextmanager
def gate(server: RunningPostgres, table: str) -> Iterator[psycopg.Connection[Any]]:
    """A move waits before its first row in `table`, until the advisory lock of the connection given is freed."""
    with server.sql() as connection:
        connection.execute(f"SELECT pg_advisory_lock({GATE})")
        connection.execute(
            "CREATE OR REPLACE FUNCTION wait_at_the_gate() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NEW; END $$"
        )
        connection.execute(
            f"CREATE OR REPLACE TRIGGER gate BEFORE INSERT ON {table} EXECUTE FUNCTION wait_at_the_gate()"
        )
        yield connection
        connection.execute(f"SELECT pg_advisory_unlock({GATE})")
        connection.execute("SET lock_timeout = '60s'")  # whom a test has killed may hold the table for a second
        connection.execute(f"DROP TRIGGER gate ON {table}")


def waits_at_the_gate(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchone()
    return bool(row and row[0])


async def fill(kit: MongoKit) -> Written:
    """Orders in every state a store can have, as the domain makes them, with events, answers and parked events."""
    products = [kit.unique("p") for _ in range(2)]
    for product in products:
        await kit.add_product(product, 40)
    user = kit.unique("u")
    await kit.add_customer("EMEA", user)
    customer, orders, answers = f"EMEA.{user}", dict[str, str](), list[str]()

    async def write(order: Order, told: list[Event], *more: Aggregate) -> None:
        key = kit.unique("key")

        async def work(unit: Unit) -> None:
            for each in (order, *more):
                await unit.put(each, 0)
            unit.tell(told, "ab" * 16)
            await unit.store_answer("EMEA", key, StoredAnswer("f" * 64, 201, '{"id": "é"}', {"Location": order.id}))

        await kit.store.transact(work)
        answers.append(key)

    for state in ("pending", "reserved", "confirmed", "cancelled", "refunding", "foreign"):
        order = kit.order(user=user, trace="cd" * 16)
        # Twelve events of one moment and one producer: of their ids the tenth is before the second.
        told = [order.tell(events.ORDER_CHANGED, "order", {"n": n, "lines": []}, customer) for n in range(12)]
        reservation = Reservation(order.id, "EMEA", customer=customer, revision=1, pieces={products[0]: 2})
        reservation.lane = lane_of(order.id, LANES)
        payment = Payment(order.id, "EMEA", customer=customer, amount_cents=600, lane=reservation.lane, trace="ef" * 16)
        notification = Notification(told[0].id, "EMEA", lane=reservation.lane)
        notification.queue(replace(told[0], customer=customer), ["mail", "webhook"], now())
        reservation.state, reservation.until = HELD, now() + timedelta(hours=1)
        payment.state, payment.due_at = "requested", now() - timedelta(seconds=5)
        if state == "confirmed":
            notification.tried({"mail", "webhook"}, None, now())
            reservation.state, payment.state, payment.charge, payment.due_at = TAKEN, "captured", "ch-1", None
        elif state in ("cancelled", "refunding"):
            notification.tried({"mail"}, "webhook: ConnectError", now())
            notification.due_at = now() + timedelta(hours=1)
            reservation.state, payment.state, payment.charge = RELEASED, "refunded", "ch-2"
            payment.refund, payment.attempts, payment.due_at = "re-1", 3, None
        if state == "refunding":
            payment.state, payment.refund, payment.due_at = "refunding", None, now() + timedelta(hours=1)
        order.status = {"refunding": "cancelled", "foreign": "shipped"}.get(state, state)
        order.history.append({"status": order.status, "at": now(), "reason": "a test says so"})
        order.inbox, order.reason = [f"{order.id}/inventory/1"], "why: ß😀"
        for each in (reservation, payment):
            each.inbox, each.version, each.told = [told[0].id], 1, 2
        await write(order, told, reservation, payment, notification)
        orders[state] = order.id
    foreign = orders["foreign"].rpartition(".")[2]
    unset = dict.fromkeys(("version", "told", "inbox", "history", "trace", "revision", "reason", "address"), "")
    await kit.database["orders"].update_one({"region": "EMEA", "_id": documents.stored_id(foreign)}, {"$unset": unset})

    stock = Stock(products[0], "", version=4, told=1, inbox=["x/order/1"], available=7, low=True)
    await kit.save(stock)
    lane = Lane("payment", "EMEA", lane_of(orders["reserved"], LANES))
    for number in (1, 2):
        event = Event(events.PAYMENT_REQUESTED, orders["reserved"], "EMEA", "order", number, {"amount_cents": 600})
        event = replace(event, customer=customer, at=now(), trace="12" * 16)
        await kit.store.transact(lambda unit, e=event: unit.park(lane, e, f"it is the {e.number}."))  # type: ignore[misc]
    await kit.store.send_again("payment", REGIONS, orders["reserved"])
    return Written(orders, products, customer, answers)


async def everything(kit: Kit, written: Written) -> dict[str, Any]:
    """All that the ports tell of the store; times of events without the microsecond that tells two of them apart."""
    store, ids = kit.store, list(written.orders.values())
    found: dict[str, Any] = {"stocks": await store.stocks(written.products), "statuses": await store.count_by_status()}
    for kind in (Order, Reservation, Payment):
        found[kind.__name__] = await store.get_many(kind, "EMEA", ids)
    first = [f"{id_}/order/2" for id_ in ids]
    found["notifications"] = await store.get_many(Notification, "EMEA", first)
    found["products"] = await store.products(written.products)
    person = await store.customer("EMEA", Customer.parse(written.customer).user)
    assert person
    found["customer"] = {name: person[name] for name in ("name", "email")}
    found["pages"] = [order.id for order in await store.orders_of("EMEA", written.customer, None, 100)]
    found["low"] = sorted([stock.id async for stock in store.all_stocks(low_only=True)])
    found["answers"] = [await store.stored_answer("EMEA", key) for key in written.answers]
    for number in range(LANES):
        lane = Lane("payment", "EMEA", number)
        found[f"parked/{number}"] = [
            replace(one, event=replace(one.event, at=in_ms(one.event))) for one in await store.parked(lane)
        ]
        for kind in (Reservation, Payment, Notification):
            found[f"due/{kind.__name__}/{number}"] = sorted(one.id for one in await store.due(kind, lane, 1000))
    found["events"] = {
        id_: [replace(e, at=in_ms(e)) for e in by_number(await kit.log.of_key("EMEA", id_))] for id_ in ids
    }
    return found


def in_ms(event: Event) -> Any:
    assert event.at
    return event.at.replace(microsecond=event.at.microsecond // 1000 * 1000)


def by_number(found: Sequence[Event]) -> list[Event]:
    return sorted(found, key=lambda event: event.number)


async def must_refuse(kit: Settled, written: Written, what: str) -> None:
    """The store takes no order any more, and says why."""

    async def nothing(unit: Unit) -> None:
        del unit

    with pytest.raises(StoreError, match=what):
        await kit.store.transact(nothing)
    with pytest.raises(StoreError, match=what):
        await kit.store.send_again("payment", REGIONS, written.orders["reserved"])
    with pytest.raises(StoreError, match=what):
        await kit.lanes("payment", "payment-2").ask_replay(now())


def is_marked(kit: Settled) -> bool:
    return kit.run(StoreMark(kit.database, REGIONS).state()) is not None


def test_a_move_that_fails_is_taken_back_and_a_store_with_orders_is_not_filled(
    kit: Settled, cluster: EmbeddedCluster, postgresql: RunningPostgres, tmp_path: Path
) -> None:
    async def nothing(unit: Unit) -> None:
        del unit

    order = kit.order(reason="text with \0 in it")
    kit.run(kit.save(order))
    mover = Mover(cluster, postgresql, tmp_path)
    mover.run(code=3)
    assert "nothing was moved: the services go on where they were" in mover.said
    assert "one of orders " in mover.said
    assert order.id.rpartition(".")[0] not in mover.said.partition("PostgreSQL can hold")[2], (
        "no customer's row is shown"
    )
    assert not is_marked(kit)
    kit.run(kit.store.transact(nothing))
    # Another instance of another test holds its half until its lease is over.
    lanes = kit.lanes("payment", "payment-1", lease_seconds=1)
    wait_until(lambda: len(kit.run(lanes.beat())) == len(REGIONS) * LANES, "every lane to be taken again", 60)
    with postgresql.sql() as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)
        connection.execute("INSERT INTO event_places VALUES ('EMEA/0', 1, now())")
    mover.run(code=4)
    assert "the store on PostgreSQL has event places of its own" in mover.said
    kit.run(kit.database["orders"].delete_one(documents.key_of(Order, order.region, order.id)))


def test_a_store_moves_whole_whenever_it_is_killed_and_nobody_writes_where_it_was(
    kit: Settled, cluster: EmbeddedCluster, postgresql: RunningPostgres, tmp_path: Path
) -> None:
    written = kit.run(fill(kit))
    replayed = now() - timedelta(hours=1)
    holders = {service: kit.lanes(service, f"{service}-1") for service in CONSUMERS}
    kit.run(holders["inventory"].ask_replay(replayed))
    held = {service: kit.run(lanes.beat()) for service, lanes in holders.items()}
    at = next(lane for lane in held["order"] if lane.place == PLACE)

    async def nothing(unit: Unit) -> None:
        del unit

    kit.run(kit.store.transact(nothing, at, "8264"))
    before = kit.run(everything(kit, written))
    (positioned,) = [lane for lane in kit.run(holders["order"].beat()) if lane.place == PLACE]
    mover = Mover(cluster, postgresql, tmp_path)
    planned = mover.run("--check")
    assert (planned["outcome"], planned["documents"]["payments"]) == ("would be moved", len(written.orders))
    assert not is_marked(kit)

    # Killed while instances hold lanes: nothing new is taken, what is in hand ends, reading goes on.
    with mover.killed_in_the_end():
        wait_until(lambda: mover.runs() and is_marked(kit), "the store to be held")
    kit.run(must_refuse(kit, written, "is being moved to PostgreSQL"))
    kit.run(kit.store.transact(nothing, at, "8265"))
    assert kit.run(everything(kit, written)) == before
    assert mover.run("--undo")["outcome"] == "taken back"
    wait_until(lambda: kit.run(kit.mark.state()) is None, "the instance to see it", 10 * FRESH_SECONDS)
    kit.run(kit.store.transact(nothing))
    assert mover.run("--undo")["outcome"] == "nothing to take back"

    # Killed in the middle of the copy: nothing is in PostgreSQL.
    with gate(postgresql, "idempotency_keys") as opened:
        with mover.killed_in_the_end():
            wait_until(lambda: mover.runs() and is_marked(kit), "the store to be held")
            wait_until(lambda: kit.run(kit.mark.state()), "the instance to see it")
            for service, lanes in holders.items():
                assert kit.run(lanes.beat()) == [], f"{service} is to end what it has in hand"
                kit.run(lanes.beat())
            wait_until(lambda: mover.runs() and waits_at_the_gate(opened), "the events to be copied")
        assert opened.execute("SELECT count(*) FROM events").fetchone() == (0,)
    with pytest.raises(Exception, match="later epoch"):
        kit.run(kit.store.transact(nothing, at, "8266"))

    # Killed after the switch, before the cluster's store was marked as left.
    with postgresql.sql() as connection:
        connection.execute(
            "CREATE TABLE store_origin (one boolean PRIMARY KEY DEFAULT true CHECK (one), moved_from text NOT NULL,"
            " moved_at timestamptz NOT NULL DEFAULT clock_timestamp(), documents jsonb NOT NULL)"
        )
    with gate(postgresql, "store_origin") as opened:
        with mover.killed_in_the_end():
            wait_until(lambda: mover.runs() and waits_at_the_gate(opened), "everything to be copied")
            cluster.kill("mongos1", signal.SIGSTOP)
            opened.execute(f"SELECT pg_advisory_unlock({GATE})")
            wait_until(lambda: opened.execute("SELECT count(*) FROM store_origin").fetchone() == (1,), "the switch")
        cluster.kill("mongos1", signal.SIGCONT)
        opened.execute(f"SELECT pg_advisory_lock({GATE})")
    kit.run(must_refuse(kit, written, "is being moved to PostgreSQL"))
    refused = mover.run("--undo", code=4)
    assert refused == {}
    assert "PostgreSQL has the store" in mover.said

    moved = mover.run()
    assert moved["outcome"] == "moved before"
    assert moved["documents"]["events"] == 12 * len(written.orders)
    assert kit.run(StoreMark(kit.database, REGIONS).state()) == MOVED
    wait_until(lambda: kit.run(kit.mark.state()) == MOVED, "the instance to see it", 10 * FRESH_SECONDS)
    kit.run(must_refuse(kit, written, "was moved from this cluster"))
    with pytest.raises(StoreError, match="was moved from this cluster"):
        kit.run(kit.store.get(Order, "EMEA", written.orders["pending"]))
    with pytest.raises(StoreError, match="was moved from this cluster"):
        kit.run(kit.store.ping())

    there = PostgresKit(postgresql.options())
    try:
        after = there.run(everything(there, written))
        for part, content in before.items():
            assert after[part] == content, part
        lanes = there.lanes("order", "order-1")
        (taken,) = [lane for lane in there.run(lanes.beat()) if lane.place == PLACE]
        assert (taken.position, taken.position_at) == (None, positioned_at(kit))
        assert taken.epoch > positioned.epoch
        assert {lane.replay_from for lane in there.run(there.lanes("inventory", "i").beat())} == {replayed}
        numbers = [e.number for e in there.run(read_all(there)) if e.key == written.orders["pending"]]
        assert numbers == list(range(2, 14))
    finally:
        there.close()
    assert mover.run("--check")["outcome"] == "moved before"
    done = subprocess.run(
        [sys.executable, "-m", "shardmart.shop", "run", "order", "--config", str(tmp_path / "order-1.json")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "start services with the settings that have `store`" in done.stderr


def positioned_at(kit: Settled) -> Any:
    async def body() -> Any:
        found = await kit.database["lanes"].find_one({"region": "EMEA", "_id": f"order/{PLACE[0]}/{PLACE[1]}"})
        assert found
        return found["position_at"]

    return kit.run(body())


async def read_all(kit: Kit) -> list[Event]:
    """Everything a consumer without a position reads, and then what it follows: every event once, in its order."""
    found: list[Event] = []
    positions = {("EMEA", number): "pg:" + "0" * 18 for number in range(LANES)}
    async for event, _ in kit.log.follow(positions):
        if event is None:
            return found
        found.append(event)
    raise AssertionError
