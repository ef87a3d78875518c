"""Claims of the catalogue's circuits, and of an answer that is merged from sources that may be away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from shardmart.shop.adapters.postgres.catalogue import escaped
from shardmart.shop.adapters.postgres.schema import FLAVOURS, TABLES
from shardmart.shop.ports import AwayError, StoreError
from shardmart.shop.services.catalogue import Catalogue, Wanted
from shardmart.shop.services.circuit import (
    CLOSED,
    FAILURES,
    HALF_OPEN,
    LONGEST_PAUSE_SECONDS,
    OPEN,
    Circuit,
)

NEVER = 3600.0
"""A limit that no test reaches."""


class Seen:
    """What a watcher is told."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.missed: list[str] = []

    def asked(self, source: str, seconds: float) -> None:
        pass

    def became(self, source: str, state: str) -> None:
        self.states.append(state)

    def missing(self, source: str) -> None:
        self.missed.append(source)


class Asked:
    """A circuit with a clock of its own, and how often its source was asked."""

    def __init__(self, seconds: float = NEVER) -> None:
        self.now, self.times, self.seen = 0.0, 0, Seen()
        self.circuit = Circuit("stock", seconds, self.seen, clock=lambda: self.now)

    async def fail(self) -> None:
        self.times += 1
        raise StoreError("no")

    async def answer(self) -> str:
        self.times += 1
        return "15"

    async def away(self, question: Callable[[], Awaitable[Any]]) -> None:
        with pytest.raises(StoreError):
            await self.circuit.ask(question)

    async def open(self) -> None:
        for _ in range(FAILURES):
            await self.away(self.fail)
        assert self.circuit.state == OPEN


def test_one_failure_opens_nothing_and_two_in_a_row_do() -> None:
    async def scenario() -> None:
        asked = Asked()
        await asked.away(asked.fail)
        assert await asked.circuit.ask(asked.answer) == "15"
        await asked.away(asked.fail)
        assert asked.circuit.state == CLOSED
        await asked.away(asked.fail)
        assert asked.circuit.state == OPEN

    asyncio.run(scenario())


def test_an_open_circuit_asks_nothing_until_its_pause_is_over_and_then_one_probe() -> None:
    async def scenario() -> None:
        asked = Asked()
        await asked.open()
        await asked.away(asked.answer)
        assert asked.times == FAILURES, "not asked"
        asked.now = 1.0
        go = asyncio.Event()

        async def probe() -> str:
            await go.wait()
            return await asked.answer()

        first = asyncio.create_task(asked.circuit.ask(probe))
        await asyncio.sleep(0)
        assert asked.circuit.state == HALF_OPEN
        await asked.away(asked.answer)
        assert asked.times == FAILURES, "one probe at a time"
        go.set()
        assert await first == "15"
        assert asked.circuit.state == CLOSED
        assert asked.seen.states == [CLOSED, OPEN, HALF_OPEN, CLOSED]

    asyncio.run(scenario())


def test_each_probe_that_fails_doubles_the_pause_up_to_the_longest() -> None:
    async def scenario() -> list[float]:
        asked = Asked()
        await asked.open()
        pauses, since = [], asked.now
        while len(pauses) < 5:
            before = asked.times
            await asked.away(asked.fail)
            if asked.times > before:
                pauses.append(asked.now - since)
                since = asked.now
            asked.now += 0.5
        return pauses

    assert asyncio.run(scenario()) == [1.0, 2.0, 4.0, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]


def test_a_source_that_hangs_is_given_up_at_the_limit_and_not_cancelled() -> None:
    async def scenario() -> None:
        asked, go, ended = Asked(seconds=0.01), asyncio.Event(), asyncio.Event()

        async def hang() -> None:
            await go.wait()
            ended.set()

        with pytest.raises(AwayError, match="no answer within"):
            await asked.circuit.ask(hang)
        go.set()
        await asyncio.wait_for(ended.wait(), 60)

    asyncio.run(scenario())


def test_a_caller_who_goes_away_during_a_probe_leaves_room_for_the_next() -> None:
    async def scenario() -> None:
        asked = Asked()
        await asked.open()
        asked.now = 1.0
        probe = asyncio.create_task(asked.circuit.ask(asyncio.Event().wait))
        await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        asked.now = 3.0
        assert await asked.circuit.ask(asked.answer) == "15"

    asyncio.run(scenario())


class Source:
    """A source with two products; `away` makes every question fail."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.questions: list[str] = []

    def _asked(self, question: str) -> None:
        self.questions.append(question)
        if self.away:
            raise StoreError("away")

    async def page(self, after: str | None, limit: int, text: str | None, category: str | None) -> list[dict[str, Any]]:
        self._asked("page")
        return [{"id": id_, "name": f"Product {id_}", "price_cents": 120_000} for id_ in "ab"]

    async def product(self, id_: str) -> dict[str, Any] | None:
        self._asked("product")
        return {"id": id_, "name": f"Product {id_}", "price_cents": 1999} if id_ in "ab" else None

    async def metadata(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        self._asked("metadata")
        return dict.fromkeys(ids, META)

    async def metadata_page(self, after: str | None, limit: int) -> dict[str, dict[str, Any]]:
        self._asked("metadata_page")
        return dict.fromkeys("ab", META)

    async def stocks(self, products: Sequence[str]) -> dict[str, int]:
        self._asked("stocks")
        return dict.fromkeys(products, 15)

    async def ping(self) -> None:
        self._asked("ping")


META = {"description": "good", "tags": ["x"], "specifications": {"maker": "y"}}


def answered(wanted: Wanted, *away: str) -> tuple[Any, tuple[str, ...], dict[str, Source]]:
    sources = {name: Source(away=name in away) for name in ("products", "metadata", "stock")}
    catalogue = Catalogue(sources["products"], sources["metadata"], sources["stock"], 0)
    page = asyncio.run(catalogue.page(wanted))
    return json.loads(page.body), page.missing, sources


def test_a_page_is_one_question_to_each_source() -> None:
    document, missing, sources = answered(Wanted())
    assert document[0] == {"id": "a", "name": "Product a", "price": "1200", "metadata": META, "stock": "15"}
    assert missing == ()
    assert {name: source.questions for name, source in sources.items()} == {
        "products": ["page"], "metadata": ["metadata_page"], "stock": ["stocks"],
    }  # fmt: skip


def test_a_filtered_page_asks_metadata_for_the_products_it_found() -> None:
    _, _, sources = answered(Wanted(text="Product"))
    assert sources["metadata"].questions == ["metadata"]


def test_products_and_metadata_are_asked_side_by_side() -> None:
    class Meeting(Source):
        """Neither answers before both were asked."""

        def __init__(self, both: asyncio.Barrier) -> None:
            super().__init__()
            self.both = both

        async def page(self, *arguments: Any) -> list[dict[str, Any]]:
            await self.both.wait()
            return await super().page(*arguments)

        async def metadata_page(self, after: str | None, limit: int) -> dict[str, dict[str, Any]]:
            await self.both.wait()
            return await super().metadata_page(after, limit)

    async def scenario() -> tuple[str, ...]:
        both = asyncio.Barrier(2)
        catalogue = Catalogue(Meeting(both), Meeting(both), Source(), 0)
        return (await asyncio.wait_for(catalogue.page(Wanted()), 60)).missing

    assert asyncio.run(scenario()) == ()


@pytest.mark.parametrize(
    ("away", "nulls"), [("products", {"name", "price"}), ("metadata", {"metadata"}), ("stock", {"stock"})]
)
def test_a_part_is_null_and_named_where_its_source_is_away(away: str, nulls: set[str]) -> None:
    document, missing, _ = answered(Wanted(), away)
    assert missing == (away,)
    assert [product["id"] for product in document] == ["a", "b"]
    assert {key for product in document for key, value in product.items() if value is None} == nulls


@pytest.mark.parametrize("wanted", [Wanted(text="x"), Wanted(category="Toys")])
def test_a_filter_needs_the_products(wanted: Wanted) -> None:
    with pytest.raises(StoreError):
        answered(wanted, "products")


def test_only_citus_is_told_of_distribution() -> None:
    assert not FLAVOURS["plain"]
    assert set(FLAVOURS["citus"]) == {
        "SELECT create_reference_table('categories')", "SELECT create_distributed_table('products', 'id')",
    }  # fmt: skip
    assert "create_" not in " ".join(TABLES)


def test_what_people_search_for_stands_for_itself() -> None:
    assert escaped(r"100%_\x") == r"100\%\_\\x"
