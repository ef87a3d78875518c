"""What a move decides before it touches a store: what each document becomes, in which order, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from psycopg.types.json import Jsonb

from shardmart.errors import BadUseError
from shardmart.shop.adapters.mongodb import documents, leaving
from shardmart.shop.adapters.postgres import arriving, rows, unit
from shardmart.shop.domain.events import ORDER_PLACED, Aggregate, Event
from shardmart.shop.domain.notification import Notification
from shardmart.shop.domain.order import Line, Order
from shardmart.shop.domain.payment import Payment
from shardmart.shop.domain.stock import Reservation, Stock
from shardmart.shop.moving import Move, Moved, must_be_whole
from shardmart.shop.ports import StoredAnswer, StoreError
from shardmart.shop.settings import Settings

AT = datetime(2026, 11, 29, 12, 0, 0, 123000, tzinfo=UTC)
ORDER = "EMEA.u.3"
WRITTEN: tuple[Aggregate, ...] = (
    Order(
        ORDER, "EMEA", 4, 3, ["x/inventory/1"], "EMEA.u", [Line("tea", 2, 300)], 600, "confirmed", AT,
        {"street": "ß 1"}, 2, "why", [{"status": "confirmed", "at": AT, "reason": "paid"}], "ab" * 16,
    ),
    Stock("0" * 24, "", 7, 1, ["x/order/1"], 0, low=True),
    Reservation(ORDER, "EMEA", 2, 1, ["x/order/1"], "EMEA.u", "held", 2, {"a.b": 1, "$c": 2}, AT, 1),
    Payment(ORDER, "EMEA", 3, 2, [], "EMEA.u", "refunding", 600, "ch", None, 5, AT, 1, "cd" * 16),
    Notification(
        f"{ORDER}/order/3", "EMEA", 1, 0, [], ORDER_PLACED, ORDER, "EMEA.u", {"n": [1]}, "queued", {"mail": True},
        2, AT, AT, 1, "ef" * 16, "webhook: ConnectError",
    ),
)  # fmt: skip


def moved(kind: type[Aggregate], document: dict[str, Any]) -> Aggregate:
    """What PostgreSQL gives back of a document."""
    values = rows.values_of(documents.aggregate_of(kind, document))
    return rows.aggregate_of(
        kind, {name: json.loads(json.dumps(v.obj)) if isinstance(v, Jsonb) else v for name, v in values.items()}
    )


@pytest.mark.parametrize("aggregate", WRITTEN, ids=lambda one: type(one).__name__)
def test_each_kind_of_document_becomes_a_row_that_says_the_same(aggregate: Aggregate) -> None:
    kind = type(aggregate)
    key = documents.key_of(kind, aggregate.region, aggregate.id)
    assert moved(kind, key | documents.fields_of(aggregate)) == aggregate


def test_an_order_that_others_wrote_becomes_what_the_shop_sees_of_it() -> None:
    user, product = ObjectId(), ObjectId()
    document = {"_id": 7, "region": "APJ", "user_id": user, "total_cents": 5, "status": "shipped", "created_at": AT}
    items = [{"product_id": product, "quantity": 1, "unit_price_cents": 5, "name": "Tea"}]
    seen = moved(Order, document | {"items": items, "note": "others' fields stay behind"})
    customer = f"APJ.{user}"
    assert seen == Order(
        f"{customer}.7", "APJ", documents.FOREIGN_VERSION, customer=customer, lines=[Line(str(product), 1, 5)],
        total_cents=5, status="shipped", created_at=AT,
    )  # fmt: skip


def test_answers_parked_events_and_lanes_keep_their_times_and_a_lane_loses_its_position_alone() -> None:
    answer = leaving.answer_of(
        {"_id": "k", "region": "APJ", "at": AT, "fingerprint": "f", "status": 409, "body": "{}", "headers": {"A": "b"}}
    )
    assert answer.answer == StoredAnswer("f", 409, "{}", {"A": "b"})
    (*columns, headers, at) = unit.values_of_answer(answer)
    assert (columns, at) == (["APJ", "k", "f", 409, "{}"], AT)
    assert isinstance(headers, Jsonb)
    assert headers.obj == {"A": "b"}

    event = Event(ORDER_PLACED, ORDER, "EMEA", "order", 1, {"a": 1}, "EMEA.u", "ab" * 16, AT)
    parked = leaving.parked_of(
        {"service": "payment", "lane": 1, "place": 3, "reason": "why", "again": True, "at": AT}
        | {"event": documents.document_of(event, 2, AT)}
    )
    (*columns, kept) = unit.values_of_parked(parked)
    assert columns == [ORDER, "payment", event.id, "EMEA", 1, 3, "why", AT, True]
    assert isinstance(kept, Jsonb)
    assert rows.event_of(json.loads(json.dumps(kept.obj))) == event

    document = {"service": "order", "region": "EMEA", "lane": 1, "epoch": 9, "position": "8264", "position_at": AT}
    lane = leaving.lane_of(document | {"replay_from": AT})
    assert (lane.epoch, lane.position, lane.position_at, lane.replay_from) == (9, None, AT, AT)
    never = leaving.lane_of(document | {"position": None})
    assert never.position_at is None, "what has no position is read from the beginning"


def test_events_of_one_moment_are_numbered_as_they_were_told_across_pages() -> None:
    def event(number: int, at: datetime) -> Event:
        return Event(ORDER_PLACED, ORDER, "EMEA", "order", number, at=at)

    told = [event(1, AT - timedelta(seconds=1)), *(event(n, AT) for n in range(2, 13)), event(13, AT + timedelta(1))]
    by_id = sorted(told, key=lambda one: (one.at, one.id))
    assert by_id != told

    async def pages(size: int) -> AsyncIterator[list[Event]]:
        for start in range(0, len(by_id), size):
            yield by_id[start : start + size]

    async def body(size: int) -> list[int]:
        return [one.number async for page in arriving.in_order(pages(size)) for one in page]

    for size in (1, 3, 5, 100):
        assert asyncio.run(body(size)) == list(range(1, 14)), size


def test_what_was_written_meanwhile_makes_the_copy_worth_nothing_and_what_has_its_lifetime_may_go() -> None:
    must_be_whole({"events": 5, "stock": 2}, {"events": 4, "stock": 2, "parked_events": 0})
    with pytest.raises(StoreError, match="the cluster has 6 events and 5 were copied"):
        must_be_whole({"events": 5}, {"events": 6})
    with pytest.raises(StoreError, match="1 parked events and 0 were copied"):
        must_be_whole({}, {"parked_events": 1})


TOKENS: dict[str, Any] = {"tokens": {"keys": ["k" * 32]}}
CLUSTER = {"mongodb": {"uri": "mongodb://127.0.0.1:1/"}}
STORE = {"store": {"user": "shop_order", "password": "p" * 16}}


@pytest.mark.parametrize(
    ("target", "service", "line"),
    [
        (CLUSTER, {}, "these settings have no `store`"),
        (STORE, {}, "these settings have no `mongodb`"),
        (STORE | CLUSTER, STORE, "payment-1.json does not name the cluster as the store"),
        (
            STORE | CLUSTER,
            {"kafka": {"brokers": ["127.0.0.1:1"], "user": "u", "password": "p" * 16}},
            "payment-1.json follows events on Kafka: first bring the shop back to `event_log: mongodb`",
        ),
        (
            STORE | CLUSTER,
            {"mongodb": {"uri": "mongodb://127.0.0.1:1/", "lanes_per_region": 3}},
            "payment-1.json has other regions or `lanes_per_region` than the store",
        ),
        (
            CLUSTER | {"store": STORE["store"] | {"flavour": "citus"}},
            {},
            "a store is moved to plain PostgreSQL, and `store.flavour` is citus",
        ),
    ],
)
def test_what_cannot_be_moved_is_refused_before_a_server_is_asked(
    tmp_path: Path, target: dict[str, Any], service: dict[str, Any], line: str
) -> None:
    for name in leaving.SERVICES:
        file = tmp_path / f"{name}-1.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(TOKENS | CLUSTER | (service if name == "payment" else {})))
    move = Move(Settings.model_validate(TOKENS | target), tmp_path, "postgres", tmp_path, say=print)
    with pytest.raises(BadUseError) as refused:
        asyncio.run(move.check() if service else move.run())
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_outcome_is_one_line() -> None:
    done = Moved("moved", {"orders": 2, "parked_events": 1}, 7.25)
    assert done.as_text() == "moved in 7.2 s: 2 orders, 1 parked events"
    assert Moved("nothing to take back").as_text() == "nothing to take back"
