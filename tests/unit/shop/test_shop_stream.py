"""The live stream: taken up again without a gap, by any instance, for who may see it, until the instance stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shardmart.shop.domain.events import Event
from shardmart.shop.domain.identifiers import Customer
from shardmart.shop.web import stream_api
from shardmart.shop.web.stream_api import Broadcast, live
from shardmart.shop.web.tokens import OPERATOR as OPERATORS
from shardmart.shop.web.tokens import Caller
from tests.support.asgi import AsgiClient
from tests.support.shop_apps import MINE, app_in_memory
from tests.support.shop_in_memory import CUSTOMER, LANES, REGIONS, MemoryShop

ME, OPERATOR = Caller(f"customer:{CUSTOMER}", CUSTOMER), Caller(OPERATORS, None)
BEGAN = datetime.now(UTC) - timedelta(minutes=5)


@pytest.fixture
def shop(tmp_path: Path) -> MemoryShop:
    return MemoryShop(tmp_path)


def event(order: str, number: int, seconds: float, customer: Customer = CUSTOMER) -> Event:
    """An event of an order of a customer, so many seconds after the beginning."""
    key, at = f"{customer}.{order}", BEGAN + timedelta(seconds=seconds)
    return Event("order-placed", key, customer.region, "order", number, {}, str(customer), at=at)


def last_of(one: Event) -> str:
    return stream_api.line(one).splitlines()[0].removeprefix("id: ")


async def heard(
    shop: MemoryShop, caller: Caller, last: Event | None, count: int, broadcast: Broadcast | None = None
) -> list[str]:
    """Ids of the first `count` events that the caller is told."""
    found: list[str] = []
    drained = asyncio.Event()
    lines = live(
        shop.log, REGIONS, broadcast or Broadcast(shop.log, REGIONS, LANES), caller, last and last_of(last), drained
    )
    async with asyncio.timeout(60):
        async for text in lines:
            if text.startswith("id: "):
                found.append(text.splitlines()[0].partition("|")[2])
            if len(found) == count:
                break
    await lines.aclose()  # type: ignore[attr-defined]
    return found


def test_an_instance_that_saw_nothing_tells_what_was_missed_of_every_order_of_the_customer(shop: MemoryShop) -> None:
    seen, other = event("a", 1, 0), event("b", 1, 1, Customer("EMEA", "u2"))
    missed = [event("b", 1, 10), event("a", 2, 20), event("c", 1, 30)]
    shop.memory.events = [seen, other, *missed]
    assert asyncio.run(heard(shop, ME, seen, 3)) == [one.id for one in missed]


def test_an_operator_is_told_what_was_missed_in_every_region_by_time(shop: MemoryShop) -> None:
    seen = event("a", 1, 0)
    missed = [event("x", 1, 10, Customer("LATAM", "u")), event("y", 1, 20, Customer("APJ", "u")), event("a", 2, 30)]
    shop.memory.events = [seen, *reversed(missed)]
    assert asyncio.run(heard(shop, OPERATOR, seen, 3)) == [one.id for one in missed]


def test_more_than_a_page_of_events_is_missed_without_a_gap(shop: MemoryShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_api, "PAGE", 3)
    seen = event("a", 1, 0)
    missed = [event("a", number, 10 + number // 4) for number in range(2, 20)]  # several at one moment
    shop.memory.events = [seen, *missed]
    assert sorted(asyncio.run(heard(shop, ME, seen, 18))) == sorted(one.id for one in missed)


def test_an_event_that_is_told_while_what_was_missed_is_being_read_is_not_lost(shop: MemoryShop) -> None:
    seen, missed, meanwhile = event("a", 1, 0), event("a", 2, 10), event("a", 3, 20)
    shop.memory.events = [seen, missed]
    broadcast = Broadcast(shop.log, REGIONS, LANES)
    read = shop.log.read

    async def slow(*arguments: Any, **options: Any) -> list[Event]:
        found = await read(*arguments, **options)
        broadcast._tell(meanwhile)
        return found

    shop.log.read = slow  # type: ignore[method-assign]
    assert asyncio.run(heard(shop, ME, seen, 2, broadcast)) == [missed.id, meanwhile.id]


def test_what_the_instance_remembers_is_told_from_memory_and_only_what_is_ones_own(shop: MemoryShop) -> None:
    broadcast = Broadcast(shop.log, REGIONS, LANES)
    told = [event("a", 1, 0), event("b", 1, 1, Customer("EMEA", "u2")), event("a", 2, 2)]
    for one in told:
        broadcast._tell(one)
    assert asyncio.run(heard(shop, ME, told[0], 1, broadcast)) == [told[2].id]


def test_a_stream_whose_outbox_is_away_ends_without_an_event_so_that_it_is_asked_for_again(shop: MemoryShop) -> None:
    shop.memory.away = True
    assert asyncio.run(heard(shop, ME, event("a", 1, 0), 1)) == []


def test_an_open_stream_ends_when_the_instance_stops(shop: MemoryShop) -> None:
    async def body() -> None:
        drained, lines = asyncio.Event(), []
        opened = live(shop.log, REGIONS, Broadcast(shop.log, REGIONS, LANES), ME, None, drained)
        lines.append(await anext(opened))
        waiting = asyncio.ensure_future(anext(opened, None))
        await asyncio.sleep(0)
        assert not waiting.done()
        drained.set()
        assert await asyncio.wait_for(waiting, 60) is None
        assert lines == ["retry: 1000\n\n"]

    asyncio.run(body())


def test_one_stream_too_many_is_a_problem_and_not_a_broken_answer(
    shop: MemoryShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_api, "LISTENERS", 0)
    app = app_in_memory("notification", shop, tmp_path)
    app.state.drained = asyncio.Event()
    answer = AsgiClient(app).get("/stream", headers=MINE)
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert answer.headers["retry-after"] == "1"


def test_a_reader_who_does_not_read_loses_the_stream_and_no_other_does(shop: MemoryShop) -> None:
    async def body() -> None:
        broadcast = Broadcast(shop.log, REGIONS, LANES)
        with broadcast.listening() as slow, broadcast.listening() as other:
            for number in range(stream_api.WAITING + 1):
                broadcast._tell(event("a", number, number / 100))
                other.get_nowait()
            assert drain(slow)[-1] is None
            broadcast._tell(event("a", 9_999, 60))
            assert other.get_nowait().number == 9_999

    asyncio.run(body())


def drain(queue: Any) -> list[Any]:
    take: Callable[[], Any] = queue.get_nowait
    return [take() for _ in range(queue.qsize())]
