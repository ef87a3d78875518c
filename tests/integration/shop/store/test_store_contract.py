"""What every store, its lanes and its event log promise (`shop.ports`): the same claims of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from shardmart.shop.domain import events
from shardmart.shop.domain.events import Event
from shardmart.shop.domain.identifiers import lane_of
from shardmart.shop.domain.notification import Notification
from shardmart.shop.domain.order import Line, Order
from shardmart.shop.domain.payment import REQUESTED, Payment
from shardmart.shop.domain.stock import HELD, Reservation, Stock
from shardmart.shop.ports import ConflictError, FencedError, KeyInUseError, Lane, StoredAnswer, Unit
from tests.support.clusters import EmbeddedCluster
from tests.support.postgres_stores import URLS, PostgresKit, given
from tests.support.shop_stores import LANES, REGIONS, Kit, MemoryKit, MongoKit, now

REGION = "EMEA"


STORES = (
    "memory",
    pytest.param("mongodb", marks=pytest.mark.full),
    "postgres",
    "shardingsphere",
    "cockroach",
    "citus",
)


@pytest.fixture(scope="module", params=STORES)
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    made: MemoryKit | MongoKit | PostgresKit
    if request.param == "shardingsphere":
        yield request.getfixturevalue("sharded")
        return
    if request.param == "memory":
        made = MemoryKit()
    elif request.param == "mongodb":
        cluster: EmbeddedCluster = request.getfixturevalue("cluster")
        made = MongoKit(cluster.uri())
    elif request.param == "postgres":
        made = PostgresKit(request.getfixturevalue("postgresql").options())
    else:
        options = given(request.param)
        if options is None:
            pytest.skip(f"the store contract was NOT run against {request.param}: {URLS[request.param]} is not set")
        made = PostgresKit.of_administrator(options)
    yield made
    made.close()


def event_of(kit: Kit, key: str, number: int = 1, **parts: object) -> Event:
    made = Event(events.ORDER_PLACED, key, REGION, "order", number, {"revision": 1, "lines": [], "total_cents": 5})
    return replace(made, customer=key.rpartition(".")[0], trace="ab" * 16, **parts)  # type: ignore[arg-type]


def test_every_aggregate_comes_back_as_it_was_put(kit: Kit) -> None:
    async def body() -> None:
        order = kit.order()
        order.inbox.append("an event")
        key, product = order.id, kit.unique("p")
        reservation = Reservation(key, REGION, customer=order.customer, state=HELD, revision=1, pieces={product: 2})
        reservation.until, reservation.version = now(), 1
        payment = Payment(key, REGION, customer=order.customer, state=REQUESTED, amount_cents=600, due_at=now())
        payment.version = 1
        notification = Notification(f"{key}/order/3", REGION, customer=order.customer, type=events.ORDER_CONFIRMED)
        notification.queue(event_of(kit, key), ["mail"], now())
        stock = Stock(product, "", available=3, low=True)
        stock.version = 1
        for aggregate in (order, reservation, payment, notification, stock):
            await kit.save(aggregate)
            found = await kit.store.get(type(aggregate), aggregate.region, aggregate.id)
            assert found == aggregate
        assert await kit.store.get(Payment, REGION, f"{key}x") is None
        assert await kit.store.get_many(Payment, REGION, [key, "EMEA.u.none"]) == {key: payment}

    kit.run(body())


@pytest.mark.parametrize(
    "text", ["$where", "a$b", "{}", "ß😀", "9007199254740993", "9" * 30, "0" * 24, "007", "x" * 90]
)
def test_texts_are_texts_whatever_they_look_like(kit: Kit, text: str) -> None:
    async def body() -> None:
        product, user = f"{text}", text
        await kit.add_product(product, 7, 250)
        await kit.add_customer(REGION, user)
        assert await kit.store.products([product]) == {product: {"id": product, "name": "Tea", "price_cents": 250}}
        assert (await kit.store.stocks([product]))[product].available == 7
        assert (await kit.store.customer(REGION, user) or {})["email"] == "ann@shop.example"
        order = kit.order(user=user)
        order.lines, order.reason = [Line(product, 1, 250)], text
        await kit.save(order)
        assert await kit.store.get(Order, REGION, order.id) == order
        assert [found.id for found in await kit.store.orders_of(REGION, order.customer, None, 5)] == [order.id]

    kit.run(body())


def test_a_transaction_that_fails_leaves_nothing(kit: Kit) -> None:
    order = kit.order()

    async def work(unit: Unit) -> None:
        await unit.put(order, 0)
        unit.tell([event_of(kit, order.id)], "")
        await unit.store_answer(REGION, order.id, StoredAnswer("f", 201, "{}", {}))
        raise LookupError

    async def body() -> None:
        with pytest.raises(LookupError):
            await kit.store.transact(work)
        assert await kit.store.get(Order, REGION, order.id) is None
        assert await kit.store.stored_answer(REGION, order.id) is None
        assert await kit.log.of_key(REGION, order.id) == []

    kit.run(body())


def test_what_was_changed_meanwhile_is_read_again_and_no_change_is_lost(kit: Kit) -> None:
    async def body() -> None:
        stock = Stock(kit.unique("p"), "", available=100)
        stock.version = 1
        await kit.save(stock)

        async def take(unit: Unit) -> None:
            found = (await unit.get_stocks([stock.id]))[stock.id]
            seen = found.version
            found.take(1, 0, REGION)
            await unit.put(found, seen)

        async def buyer() -> None:
            for _ in range(5):
                while True:
                    try:
                        await kit.store.transact(take)
                        break
                    except ConflictError:  # too many wanted it: a service answers 503, and it is asked again
                        await asyncio.sleep(0)

        await asyncio.gather(*(buyer() for _ in range(4)))
        left = await kit.store.get(Stock, "", stock.id)
        assert left is not None
        assert (left.available, left.version) == (80, 21)

    kit.run(body())


def test_a_version_that_is_not_there_and_an_aggregate_that_is_conflict(kit: Kit) -> None:
    async def body() -> None:
        order = kit.order()
        await kit.save(order)
        other = replace(order, status="confirmed")
        for seen in (0, 7):
            with pytest.raises(ConflictError):
                await kit.save(other, seen)
        found = await kit.store.get(Order, REGION, order.id)
        assert found is not None
        assert found.status == "pending"

    kit.run(body())


def test_an_event_is_told_once(kit: Kit) -> None:
    async def body() -> None:
        key = kit.order().id

        async def tell(unit: Unit) -> None:
            unit.tell([event_of(kit, key)], "")

        await kit.store.transact(tell)
        with pytest.raises(ConflictError):
            await kit.store.transact(tell)
        assert [event.id for event in await kit.log.of_key(REGION, key)] == [f"{key}/order/1"]

    kit.run(body())


def test_an_answer_is_stored_once_under_its_key(kit: Kit) -> None:
    async def body() -> None:
        key, other = kit.unique("key"), StoredAnswer("other", 201, "{}", {})
        answer = StoredAnswer("finger", 201, '{"id": "ß"}', {"Location": "/orders/x", "ETag": '"1"'})

        def storing(given: StoredAnswer) -> object:
            return kit.store.transact(lambda unit: unit.store_answer(REGION, key, given))

        await storing(answer)  # type: ignore[misc]
        with pytest.raises(KeyInUseError):
            await storing(other)  # type: ignore[misc]
        assert await kit.store.stored_answer(REGION, key) == answer
        assert await kit.store.stored_answer("APJ", key) is None, "a key names its caller, who has one region"
        assert await kit.store.stored_answer(REGION, kit.unique("key")) is None

    kit.run(body())


def test_the_first_stock_is_the_products_own_and_unknown_products_are_left_out(kit: Kit) -> None:
    async def body() -> None:
        new, known, none = kit.unique("p"), kit.unique("p"), kit.unique("p")
        await kit.add_product(new, 12)
        await kit.add_product(known, 12)
        stock = Stock(known, "", available=3, low=True)
        stock.version = 4
        await kit.save(stock)
        found = await kit.store.stocks([new, known, none])
        assert {id_: (s.available, s.version) for id_, s in found.items()} == {new: (12, 0), known: (3, 4)}
        assert found == await kit.store.transact(lambda unit: unit.get_stocks([new, known, none]))
        assert known in [s.id async for s in kit.store.all_stocks(low_only=True)]
        assert len([s async for s in kit.store.all_stocks(limit=1)]) == 1

    kit.run(body())


def test_orders_of_a_customer_come_in_pages_newest_first_also_those_of_one_moment(kit: Kit) -> None:
    async def body() -> None:
        user, at = kit.unique("u"), now()
        times = [at, at, at, at - timedelta(seconds=1), at + timedelta(seconds=1)]
        orders = [kit.order(user=user, created_at=time) for time in times]
        for order in [*orders, kit.order()]:
            await kit.save(order)
        wanted = sorted(orders, key=lambda o: (o.created_at, o.id.rpartition(".")[2]), reverse=True)
        seen: list[Order] = []
        while page := await kit.store.orders_of(REGION, orders[0].customer, before(seen), 2):
            seen += page
        assert seen == wanted

    kit.run(body())


def before(seen: list[Order]) -> tuple[object, str] | None:
    return (seen[-1].created_at, seen[-1].id.rpartition(".")[2]) if seen else None


def test_orders_are_counted_by_status(kit: Kit) -> None:
    async def body() -> None:
        earlier = (await kit.store.count_by_status()).get("pending", 0)
        await kit.save(kit.order())
        await kit.save(kit.order("APJ"))
        assert (await kit.store.count_by_status())["pending"] == earlier + 2

    kit.run(body())


def test_only_what_waits_and_whose_time_has_come_is_due(kit: Kit) -> None:
    async def body() -> None:
        lane = Lane("inventory", REGION, 7_000)
        past, later = now() - timedelta(minutes=1), now() + timedelta(hours=1)

        def reservation(state: str, until: object, number: int = 7_000, region: str = REGION) -> Reservation:
            made = Reservation(kit.order(region).id, region, state=state, until=until, lane=number)  # type: ignore[arg-type]
            made.version = 1
            return made

        def payment(state: str, due_at: object) -> Payment:
            made = Payment(kit.order().id, REGION, state=state, due_at=due_at, lane=7_000)  # type: ignore[arg-type]
            made.version = 1
            return made

        held = reservation(HELD, past)
        others = [reservation("taken", past), reservation(HELD, later), reservation(HELD, None)]
        others += [reservation(HELD, past, 7_001), reservation(HELD, past, region="APJ")]
        asked = payment(REQUESTED, past)
        also = [payment("captured", past), payment(REQUESTED, later), payment("captured", None)]
        for each in (held, *others, asked, *also):
            await kit.save(each)
        assert await kit.store.due(Reservation, lane, 10) == [held]
        assert await kit.store.due(Payment, lane, 10) == [asked]

    kit.run(body())


def test_parked_events_keep_their_place_and_are_asked_for_again_by_key(kit: Kit) -> None:
    async def body() -> None:
        service, keys = kit.unique("service"), [kit.order().id for _ in range(2)]
        lane = Lane(service, REGION, 1)
        for key in sorted(keys):
            for number in (1, 2):
                await kit.store.transact(
                    lambda unit, k=key, n=number: unit.park(lane, event_of(kit, k, n, at=now()), f"reason {n}")  # type: ignore[misc]
                )
        again = event_of(kit, keys[0], 1, at=now())
        await kit.store.transact(lambda unit: unit.park(lane, again, "a replay came by"))
        parked = await kit.store.parked(lane)
        assert [(p.event.key, p.event.number, p.reason, p.again) for p in parked] == [
            (key, number, f"reason {number}", False) for key in sorted(keys) for number in (1, 2)
        ]
        assert await kit.store.send_again(service, REGIONS, keys[0]) == 2
        assert {p.event.key for p in await kit.store.parked(lane) if p.again} == {keys[0]}
        await kit.store.transact(lambda unit: unit.unpark(lane, parked[0].event))
        assert [p.event.id for p in await kit.store.parked(lane)] == [p.event.id for p in parked[1:]]
        assert await kit.store.parked(replace(lane, number=0)) == []

    kit.run(body())


def test_lanes_are_shared_and_every_change_of_hands_raises_the_epoch(kit: Kit) -> None:
    async def body() -> None:
        service = kit.unique("service")
        one, two = kit.lanes(service, "one"), kit.lanes(service, "two")
        all_ = await one.beat()
        assert {(lane.region, lane.number) for lane in all_} == {(r, n) for r in REGIONS for n in range(LANES)}
        assert await two.beat() == [], "who holds a lane keeps it until he learns of the other"
        kept, taken = await one.beat(), await two.beat()
        names = {lane.name for lane in all_}
        assert (len(kept), len(taken), {lane.name for lane in [*kept, *taken]}) == (3, 3, names)
        before = {lane.name: lane.epoch for lane in all_}
        assert all(lane.epoch > before[lane.name] for lane in taken)
        assert all(lane.epoch == before[lane.name] for lane in kept)
        await two.give_back(taken)
        await two.leave()
        assert {lane.name for lane in await one.beat()} == names

    kit.run(body())


def test_a_lane_that_was_taken_is_fenced_and_its_position_goes_with_the_effect(kit: Kit) -> None:
    async def body() -> None:
        service = kit.unique("service")
        one, two = kit.lanes(service, "one"), kit.lanes(service, "two")
        mine = (await one.beat())[0]
        assert (mine.position, mine.position_at) == (None, None)
        first, late = kit.order(mine.region), kit.order(mine.region)
        await kit.store.transact(lambda unit: unit.put(first, 0), mine, "0000001")
        await one.give_back([mine])
        await one.leave()
        theirs = {lane.name: lane for lane in await two.beat()}[mine.name]
        assert (theirs.position, theirs.epoch > mine.epoch) == ("0000001", True)
        assert theirs.position_at is not None
        with pytest.raises(FencedError):
            await kit.store.transact(lambda unit: unit.put(late, 0), mine, "0000002")
        assert await kit.store.get(Order, late.region, late.id) is None
        assert {lane.name: lane for lane in await two.beat()}[mine.name].position == "0000001"

    kit.run(body())


def test_a_replay_is_asked_of_every_lane_and_each_says_when_it_is_done(kit: Kit) -> None:
    async def body() -> None:
        service, since = kit.unique("service"), now()
        lanes = kit.lanes(service, "one")
        await lanes.beat()
        assert await lanes.replaying() == 0
        assert await lanes.ask_replay(since) == len(REGIONS) * LANES
        held = await lanes.beat()
        assert {lane.replay_from for lane in held} == {since}
        for left, lane in zip(reversed(range(len(held))), held, strict=True):
            await lanes.replayed(lane)
            assert await lanes.replaying() == left

    kit.run(body())


def test_the_log_tells_every_event_in_order_and_goes_on_from_a_position(kit: Kit) -> None:
    async def body() -> None:
        key = kit.order().id
        place = (REGION, lane_of(key, LANES))
        start = (await kit.log.ends([place]))[place]

        async def told(position: str, count: int) -> list[tuple[int, str]]:
            found = []
            async for event, at in kit.log.follow({place: position}):
                if event is not None and event.key == key:
                    found.append((event.number, at))
                    if len(found) == count:
                        break
            return found

        for number in range(1, 5):
            await kit.store.transact(lambda unit, n=number: _tell(unit, event_of(kit, key, n)))  # type: ignore[misc]
        all_ = await told(start, 4)
        assert [number for number, _ in all_] == [1, 2, 3, 4]
        assert [at for _, at in all_] == sorted(at for _, at in all_), "positions compare as text"
        assert await told(all_[1][1], 2) == all_[2:]

    kit.run(body())


async def _tell(unit: Unit, event: Event) -> None:
    unit.tell([event], "")


def test_the_outbox_is_read_by_time_and_by_key_without_a_gap_or_a_repetition(kit: Kit) -> None:
    async def body() -> None:
        keys = [kit.order().id for _ in range(2)]
        since = now() - timedelta(seconds=5)
        for number in range(1, 4):
            for key in keys:
                await kit.store.transact(lambda unit, k=key, n=number: _tell(unit, event_of(kit, k, n)))  # type: ignore[misc]
        of_key = await kit.log.of_key(REGION, keys[0])
        assert [(event.number, event.trace, event.customer) for event in of_key] == [
            (number, "ab" * 16, keys[0].rpartition(".")[0]) for number in (1, 2, 3)
        ]
        lane, seen = lane_of(keys[0], LANES), list[Event]()
        while page := await kit.log.read(REGION, lane, since, 2, seen[-1].id if seen else ""):
            seen += page
            assert seen[-1].at is not None
            since = seen[-1].at
        mine = [event.id for event in seen if event.key in keys and lane_of(event.key, LANES) == lane]
        assert len(set(mine)) == len(mine)
        assert {event.id for event in of_key} <= set(mine)
        assert all(lane_of(event.key, LANES) == lane for event in seen)

    kit.run(body())
