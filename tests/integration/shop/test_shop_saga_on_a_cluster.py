"""Orders on a real cluster while services are killed, stopped and lied to: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymongo
import pytest
import requests

from shardmart.shop.adapters.mongodb.client import connect
from shardmart.shop.adapters.mongodb.client import database as database_of
from shardmart.shop.adapters.mongodb.lanes import MongoLanes
from shardmart.shop.adapters.mongodb.presence import Presence
from shardmart.shop.adapters.mongodb.store import MongoStore
from shardmart.shop.domain.identifiers import lane_of
from shardmart.shop.ports import FencedError, Lane, StoreError
from tests.support.clusters import EmbeddedCluster
from tests.support.shop_audit import must_add_up
from tests.support.shops import CONSUMERS, STOCK, RunningShop, wait_until

ACCEPTED: list[str] = []
"""Every order that the shop has accepted in this module."""


def place(shop: RunningShop, customer: str, product: str, quantity: int = 1) -> str:
    """Place an order as a careful client: the same key until there is an answer."""
    key, body = (
        f"k{threading.get_ident()}{len(ACCEPTED)}{customer}",
        {"items": [{"product_id": product, "quantity": quantity}]},
    )

    def attempt() -> requests.Response | None:
        try:
            answer = shop.call("order", "POST", "/orders", customer=customer, body=body, key=key)
        except requests.RequestException:
            return None
        return None if answer.status_code in (409, 503) else answer

    answer = wait_until(attempt, "an order to be accepted")
    assert answer.status_code == 201, answer.text
    order: str = answer.json()["id"]
    ACCEPTED.append(order)
    return order


def test_no_order_is_lost_or_doubled_while_an_instance_of_each_service_is_killed(
    shop: RunningShop, database: Any, customers: list[str], products: list[str]
) -> None:
    with ThreadPoolExecutor(3) as clients:
        placing = [clients.submit(place, shop, customers[i % 30], products[i % 20]) for i in range(24)]
        for turn, service in enumerate(CONSUMERS):
            wait_until(lambda n=5 * turn: len(ACCEPTED) > n, "orders to be placed")
            victim = shop.instances[service][turn % 2]
            victim.kill(signal.SIGKILL)
            shop.start(victim)
        for each in placing:
            each.result()
    statuses = must_add_up(shop, database, ACCEPTED, STOCK)
    assert statuses["confirmed"] == 24


def test_an_instance_that_was_stopped_past_its_lease_does_nothing_when_it_goes_on(
    shop: RunningShop, database: Any, customers: list[str], products: list[str]
) -> None:
    stopped = shop.instances["inventory"][0]
    held = {lane["lane"] for lane in shop.client.get(f"{stopped.url}/status", headers=operator(shop)).json()["lanes"]}
    assert held
    stopped.kill(signal.SIGSTOP)
    try:
        for i in range(6):
            place(shop, customers[i], products[i])
        other = shop.instances["inventory"][1]

        def taken() -> bool:
            lanes = shop.client.get(f"{other.url}/status", headers=operator(shop)).json()["lanes"]
            return held <= {lane["lane"] for lane in lanes}

        wait_until(taken, "the other instance to take the lanes")
    finally:
        stopped.kill(signal.SIGCONT)
    must_add_up(shop, database, ACCEPTED, STOCK)


MUCH_LESS_THAN_THE_SERVER_TAKES = 45.0
"""The server ends the transaction of a client that was killed after 60 to 90 s."""


def killed_in_its_transaction(shop: RunningShop, product: str, what: str) -> str:
    """The lane of an instance of inventory that was killed with -9 while its transaction was open."""
    config = shop.instances["inventory"][0].config
    command = [sys.executable, "-m", "tests.support.shop_ghost", str(config), "inventory", f"ghost-{what}", product]
    with subprocess.Popen([*command, what], stdout=subprocess.PIPE, text=True) as ghost:
        assert ghost.stdout
        said = ghost.stdout.readline()
        ghost.kill()
    assert said, "the instance ended before it had its transaction"
    return said.strip().strip("-")


@pytest.mark.parametrize("what", ["lane", "request"])
def test_an_order_waits_for_the_lease_of_a_killed_instance_and_not_for_its_transaction(
    shop: RunningShop, database: Any, customers: list[str], products: list[str], what: str
) -> None:
    """Of a request's transaction it holds the product's stock, of an effect's also the lane."""
    region, _, number = killed_in_its_transaction(shop, products[3], what).partition("/")
    customer = next(c for c in customers if c.startswith(region))
    while lane_of(order := place(shop, customer, products[3]), 2) != int(number or lane_of(order, 2)):
        pass
    assert shop.ended(order, MUCH_LESS_THAN_THE_SERVER_TAKES)["status"] == "confirmed"
    must_add_up(shop, database, ACCEPTED, STOCK)


@pytest.mark.parametrize("successor", ["one", "other"], ids=["the same name", "another name"])
def test_who_was_only_thought_dead_finds_its_lane_taken_and_writes_nothing(
    cluster: EmbeddedCluster, successor: str
) -> None:
    """A process that begins under the same name need not wait for the lease of the one before."""
    service, lease = f"fenced-{successor}", 600.0 if successor == "one" else 1.0

    async def overtake() -> None:
        client = connect(cluster.uri("shop-inventory"), 30, "test")
        database = database_of(client, "ecommerce")
        presence = Presence(database, service, "one", "APJ", lease)
        store = MongoStore(client, database, 1, seconds=30.0, lease_seconds=lease, presence=presence)
        (lane,) = await MongoLanes(database, service, "one", ["APJ"], 1, lease, presence).beat()
        others = MongoLanes(database, service, successor, ["APJ"], 1, 30.0)
        taken: list[Lane] = []

        async def stand_still(unit: Any) -> None:
            stock = {"_id": service, "available": 1, "low": False, "version": 1, "told": 0}
            await database["stock"].insert_one(stock, session=unit._session)
            while not taken:
                taken.extend(await others.beat())
            await database["stock"].find_one({"_id": service}, session=unit._session)

        with pytest.raises(FencedError):
            await store.transact(stand_still, lane)
        assert taken[0].epoch > lane.epoch
        assert await database["stock"].find_one({"_id": service}) is None
        await client.close()

    asyncio.run(asyncio.wait_for(overtake(), 60))


@pytest.mark.full
def test_a_transaction_whose_time_is_over_gives_its_locks_back_at_once(cluster: EmbeddedCluster) -> None:
    """Else whoever wants the same document waits until the server ends the transaction, a minute later."""
    stock = {"_id": "slow", "available": 1, "low": False, "version": 1, "told": 0}

    async def leave_and_write() -> None:
        client = connect(cluster.uri("shop-inventory"), 30, "test")
        orphaned = database_of(client, "ecommerce")
        store = MongoStore(client, orphaned, 2, seconds=2.0)

        async def too_slow(unit: Any) -> None:
            await orphaned["stock"].insert_one(dict(stock), session=unit._session)
            await asyncio.sleep(2.1)
            await orphaned["stock"].find_one({"_id": "slow"}, session=unit._session)

        with pytest.raises(StoreError):
            await store.transact(too_slow)
        with pymongo.timeout(30):
            await orphaned["stock"].insert_one(dict(stock))
        await client.close()

    asyncio.run(leave_and_write())
    with cluster.client() as client:
        client["ecommerce"]["stock"].delete_one({"_id": "slow"})


def operator(shop: RunningShop) -> dict[str, str]:
    return {"Authorization": f"Bearer {shop.token()}"}


def test_a_provider_that_declines_fails_and_repeats_takes_no_cent_twice(
    shop: RunningShop, database: Any, customers: list[str], products: list[str]
) -> None:
    shop.rules(
        {"action": "decline", "share": 0.3},
        {"action": "fail", "share": 0.4, "times": 1},
        {"action": "lose-answer", "share": 0.4, "times": 1},
        {"action": "repeat-webhook", "share": 0.5},
        {"action": "webhook-first", "share": 0.3},
        {"action": "decline-refund", "share": 0.5, "times": 1},
    )
    orders = [place(shop, customers[i], products[i % 20]) for i in range(12)]
    for order in orders[::3]:
        answer = shop.call("order", "POST", f"/orders/{order}/cancel")
        assert answer.status_code == 200, answer.text
    statuses = must_add_up(shop, database, ACCEPTED, STOCK)
    assert statuses["cancelled"] >= 4


@pytest.mark.full
def test_every_instance_of_a_service_killed_at_once_only_makes_orders_wait(
    shop: RunningShop, database: Any, customers: list[str], products: list[str]
) -> None:
    for instance in shop.instances["payment"]:
        instance.kill(signal.SIGKILL)
    order = place(shop, customers[0], products[0])
    wait_until(lambda: shop.get("order", f"/orders/{order}")["status"] == "reserved", "the reservation")
    shop.start(*shop.instances["payment"])
    assert shop.ended(order)["status"] == "confirmed"
    must_add_up(shop, database, ACCEPTED, STOCK)


@pytest.mark.full
def test_a_consumer_whose_position_the_oplog_has_lost_reads_the_outbox(
    shop: RunningShop, database: Any, customers: list[str], products: list[str]
) -> None:
    for instance in shop.instances["payment"]:
        instance.kill(signal.SIGTERM)
    order = place(shop, customers[1], products[1])
    wait_until(lambda: shop.get("order", f"/orders/{order}")["status"] == "reserved", "the reservation")
    for lane in database["lanes"].find({"service": "payment", "kind": "lane"}):
        token = lane["position"]
        long_ago = f"{token[:2]}00000001{token[10:]}"
        key = {"region": lane["region"], "_id": lane["_id"]}
        database["lanes"].update_one(key, {"$set": {"position": long_ago}})
    shop.start(*shop.instances["payment"])
    assert shop.ended(order)["status"] == "confirmed"
    logs = "".join(instance.log.read_text() for instance in shop.instances["payment"])
    assert "the log does not reach back: reading the outbox" in logs
    must_add_up(shop, database, ACCEPTED, STOCK)


@pytest.mark.full
def test_a_replay_from_the_beginning_changes_nothing(shop: RunningShop, database: Any) -> None:
    before = (database["events"].count_documents({}), len(shop.provider("GET", "/ledger?limit=5000")["items"]))
    mails = len(shop.mailbox.messages)
    for service in CONSUMERS:
        answer = shop.call(service, "POST", "/replay", body={"from": "beginning"})
        assert answer.status_code == 202, answer.text
    for service in CONSUMERS:
        wait_until(lambda s=service: shop.get(s, "/replay")["lanes_left"] == 0, f"the replay of {service}")
    must_add_up(shop, database, ACCEPTED, STOCK)
    after = (database["events"].count_documents({}), len(shop.provider("GET", "/ledger?limit=5000")["items"]))
    assert after == before
    assert len({mail["Message-ID"] for mail in shop.mailbox.messages}) <= len(shop.mailbox.messages)
    assert len(shop.mailbox.messages) == mails


@pytest.mark.full
def test_a_poison_event_waits_with_its_reason_and_the_others_go_on(
    shop: RunningShop, database: Any, customers: list[str], products: list[str]
) -> None:
    victim = place(shop, customers[2], products[2])
    shop.ended(victim)
    good = database["events"].find_one({"key": victim, "type": "order-confirmed"})
    poison = good | {"_id": f"{victim}/order/99", "number": 99, "type": "order-changed", "data": {"revision": 2}}
    database["events"].insert_one(poison)
    try:
        parked = wait_until(lambda: shop.get("inventory", "/parked")["items"], "the event to be parked")
        assert [(each["id"], each["reason"]) for each in parked] == [(poison["_id"], "KeyError: 'lines'")]
        assert shop.ended(place(shop, customers[2], products[2]))["status"] == "confirmed"
        key = {"region": poison["region"], "key": poison["key"]}
        database["parked_events"].update_many(key, {"$set": {"event.data": {"revision": 0, "lines": []}}})
        assert shop.call("inventory", "POST", "/parked/again", body={"key": victim}).json() == {"events": 1}
        wait_until(lambda: not shop.get("inventory", "/parked")["items"], "the parking place to be empty")
    finally:
        database["events"].delete_one({"region": poison["region"], "key": victim, "_id": poison["_id"]})
    must_add_up(shop, database, ACCEPTED, STOCK)
