"""What every event log promises (`shop.ports.EventLog`): the same claims on each engine, on real servers.

First the log by itself, then what is Kafka's own, then a shop whose relay and consumers are killed.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from shardmart.shop.adapters.kafka.topic import Topic, connection
from shardmart.shop.ports import GapError, Place, StoreError
from tests.support.clusters import EmbeddedCluster
from tests.support.event_logs import PLACES, REGIONS, Engine, new_key, place_of
from tests.support.kafkas import RunningKafka, running_kafka
from tests.support.shop_audit import must_add_up
from tests.support.shop_orders import Buyer
from tests.support.shops import CONSUMERS, STOCK, RunningShop, running_shop, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.long]
FOREIGN = {"mongodb": "0000000000000007:" + "ab" * 16, "kafka": "82" + "0" * 40}
"""A position of the other log."""


@pytest.fixture(scope="module")
def on_kafka(cluster: EmbeddedCluster, kafka: RunningKafka) -> Iterator[Engine]:
    made = Engine("kafka", cluster.uri(), kafka.settings())
    yield made
    made.close()


@pytest.fixture(scope="module", params=["mongodb", "kafka"])
def engine(request: pytest.FixtureRequest, cluster: EmbeddedCluster) -> Iterator[Engine]:
    if request.param == "kafka":
        yield request.getfixturevalue("on_kafka")
        return
    made = Engine("mongodb", cluster.uri())
    yield made
    made.close()


def test_events_of_a_key_come_in_their_order_and_go_on_from_a_position(engine: Engine) -> None:
    async def body() -> None:
        starts = await engine.log.ends(PLACES)
        keys = [new_key(region) for region in REGIONS for _ in range(3)]
        for number in range(1, 5):
            for key in keys:
                await engine.tell(key, number)
        told = await engine.follow(starts, set(keys), 4 * len(keys))
        for key in keys:
            assert [event.number for event, _ in told if event.key == key] == [1, 2, 3, 4]
        for place in PLACES:
            positions = [at for event, at in told if place_of(event) == place]
            assert positions == sorted(set(positions)), "positions of a place compare as text"
        key = keys[0]
        second = next(at for event, at in told if event.key == key and event.number == 2)
        place = next(place_of(event) for event, _ in told if event.key == key)
        # What a relay tells again after it was interrupted stands behind the position, too.
        before = {event.id for event, _ in told if event.key == key and event.number <= 2}
        rest = await engine.follow({place: second}, {key}, 2, but=before)
        assert [event.number for event, _ in rest] == [3, 4]

    engine.run(body())


def test_an_event_comes_back_whole(engine: Engine) -> None:
    async def body() -> None:
        starts = await engine.log.ends(PLACES)
        key = new_key("EMEA")
        told = await engine.tell(key, 1)
        ((event, _),) = await engine.follow(starts, {key}, 1)
        ((kept,), at) = await engine.log.of_key("EMEA", key), event.at
        assert at is not None
        assert event == kept
        assert (event.id, event.data, event.type, event.customer) == (told.id, told.data, told.type, told.customer)

    engine.run(body())


def test_the_end_is_behind_what_was_read(engine: Engine) -> None:
    async def body() -> None:
        starts = await engine.log.ends(PLACES)
        keys = {new_key(region) for region in REGIONS}
        for key in keys:
            await engine.tell(key, 1)
        told = await engine.follow(starts, keys, len(keys))
        ends = await engine.log.ends(PLACES)
        assert all(at <= ends[place_of(event)] for event, at in told)
        later = new_key("APJ")
        await engine.tell(later, 1)
        before = {event.id for event, _ in told}  # which a relay may tell again
        assert [event.key for event, _ in await engine.follow(ends, keys | {later}, 1, but=before)] == [later]

    engine.run(body())


def test_a_position_of_another_log_is_a_gap_that_is_read_from_the_outbox_s_beginning(engine: Engine) -> None:
    async def body() -> None:
        positions: dict[Place, str] = await engine.log.ends(PLACES)
        positions["EMEA", 1] = FOREIGN[engine.name]
        with pytest.raises(GapError) as caught:
            await engine.follow(positions, set(), 1)
        assert caught.value.places == [("EMEA", 1)]
        assert caught.value.from_beginning

    engine.run(body())


async def _until_topic_is_another(engine: Engine, before: str) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                assert engine.topic
                found = await engine.topic.look()
                if found and found.id != before:
                    return
            except StoreError:
                pass
            await asyncio.sleep(0.2)  # polling interval


async def _look_until_refused(topic: Topic) -> None:
    while True:
        await topic.look()
        await asyncio.sleep(0.1)  # polling interval: a broker learns of new partitions a moment later


def test_a_broker_that_comes_back_empty_is_filled_again_from_the_outbox(on_kafka: Engine, kafka: RunningKafka) -> None:
    async def told() -> tuple[list[str], str]:
        starts, keys = await on_kafka.log.ends(PLACES), [new_key(region) for region in REGIONS]
        for number in (1, 2):
            for key in keys:
                await on_kafka.tell(key, number)
        await on_kafka.follow(starts, set(keys), 2 * len(keys))
        assert on_kafka.topic
        found = await on_kafka.topic.look()
        assert found
        return keys, found.id

    async def refilled(keys: list[str], before: str) -> None:
        await _until_topic_is_another(on_kafka, before)
        ends = await on_kafka.log.ends(PLACES)
        beginning = {place: f"{0:016d}:{position.partition(':')[2]}" for place, position in ends.items()}
        found = await on_kafka.follow(beginning, set(keys), 2 * len(keys))
        assert {(event.key, event.number) for event, _ in found} == {(key, n) for key in keys for n in (1, 2)}

    keys, before = on_kafka.run(told())
    kafka.kill()
    kafka.empty()
    kafka.start()
    on_kafka.run(refilled(keys, before), 240)


def test_a_topic_that_has_grown_is_refused(on_kafka: Engine) -> None:
    async def body() -> None:
        administrator = AIOKafkaAdminClient(**connection(on_kafka.kafka, "test"))
        await administrator.start()
        try:
            await administrator.create_partitions({on_kafka.kafka.topic: NewPartitions(len(PLACES) + 1)})
            assert on_kafka.topic
            with pytest.raises(StoreError, match="has 7 partitions and the shop 6 lanes"):
                await _look_until_refused(on_kafka.topic)
        finally:
            await administrator.delete_topics([on_kafka.kafka.topic])
            await administrator.close()

    on_kafka.run(body())


@pytest.mark.full
def test_one_of_three_brokers_is_killed_and_nothing_acknowledged_is_lost(cluster: EmbeddedCluster) -> None:
    with running_kafka(cluster, brokers=3) as three:
        engine = Engine("kafka", cluster.uri(), three.settings())

        async def body() -> None:
            starts, keys = await engine.log.ends(PLACES), [new_key(region) for region in REGIONS for _ in range(2)]
            for number in range(1, 21):
                for key in keys:
                    await engine.tell(key, number)
                if number == 8:
                    await asyncio.to_thread(three.kill, "kafka-2")
            found = await engine.follow(starts, set(keys), 20 * len(keys))
            for key in keys:
                assert [event.number for event, _ in found if event.key == key] == list(range(1, 21))

        try:
            engine.run(body(), 300)
        finally:
            engine.close()


@pytest.fixture(scope="module", params=[pytest.param("mongodb", marks=pytest.mark.full), "kafka"])
def shop(
    request: pytest.FixtureRequest, cluster: EmbeddedCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningShop]:
    kafka: RunningKafka | None = request.getfixturevalue("kafka") if request.param == "kafka" else None
    settings = {service: {"kafka": kafka.settings(service)} for service in CONSUMERS} if kafka else {}
    counts = {"order": 2}
    with running_shop(cluster, tmp_path_factory.mktemp("shop"), counts, settings) as running:
        yield running


@pytest.fixture(scope="module")
def buyer(shop: RunningShop, customers: list[str], products: list[str]) -> Buyer:
    return Buyer(shop, customers, products)


def test_no_order_is_lost_or_doubled_while_relay_and_consumer_are_killed(
    shop: RunningShop, buyer: Buyer, database: Any
) -> None:
    with ThreadPoolExecutor(3) as clients:
        placing = [clients.submit(buyer.place, i) for i in range(16)]
        for turn, service in enumerate(("order", "inventory", "order")):
            wait_until(lambda n=4 * turn: len(buyer.accepted) > n, "orders to be placed")
            victim = shop.instances[service][turn // 2]
            victim.kill(signal.SIGKILL)
            shop.start(victim)
        for each in placing:
            each.result()
    assert must_add_up(shop, database, buyer.accepted, STOCK)["confirmed"] >= 16


def test_a_replay_from_the_beginning_or_a_time_changes_nothing(shop: RunningShop, buyer: Buyer, database: Any) -> None:
    buyer.place(0)
    must_add_up(shop, database, buyer.accepted, STOCK)
    before = database["events"].count_documents({})
    middle = sorted(event["at"] for event in database["events"].find())[before // 2]
    for since in ("beginning", middle.isoformat(timespec="milliseconds").split("+")[0] + "Z"):
        for service in CONSUMERS:
            answer = shop.call(service, "POST", "/replay", body={"from": since})
            assert answer.status_code == 202, answer.text
        for service in CONSUMERS:
            wait_until(lambda s=service: shop.get(s, "/replay")["lanes_left"] == 0, f"the replay of {service}")
    must_add_up(shop, database, buyer.accepted, STOCK)
    assert database["events"].count_documents({}) == before
    sent = [mail["Message-ID"] for mail in shop.mailbox.messages]
    assert len(set(sent)) == len(sent), "nobody is told twice"


@pytest.mark.parametrize("shop", ["kafka"], indirect=True)
def test_orders_go_on_after_the_only_broker_was_killed_and_started_again(
    shop: RunningShop, buyer: Buyer, kafka: RunningKafka, database: Any
) -> None:
    buyer.place(0)
    must_add_up(shop, database, buyer.accepted, STOCK)
    logs = {one.name: one.log for service in CONSUMERS for one in shop.instances[service]}
    before = {name: len(log.read_text()) for name, log in logs.items()}
    kafka.kill()
    buyer.place(1)
    for name, log in logs.items():
        wait_until(
            lambda log=log, since=before[name]: '"reason": "Kafka: ' in log.read_text()[since:],
            f"{name} to notice that the broker is away",
        )
    kafka.start()
    buyer.place(2)
    must_add_up(shop, database, buyer.accepted, STOCK)
