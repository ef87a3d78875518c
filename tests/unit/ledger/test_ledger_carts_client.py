"""What the clients of the carts workload ask of the ring, and what they answer the journal."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from shardmart.ledger.ring import RingSystem
from shardmart.ledger.workloads.carts import CartsClient, CartsGenerator
from shardmart.ring import ConflictError, Grouped, Version

LINE = Grouped("ledger:r1:1", "5")
"""Line 5 is in the second cart of three lines each."""


class MemoryRing:
    """The ring's client as far as carts need it: each write makes the next version; None expects that there is none."""

    def __init__(self) -> None:
        self.held: dict[Grouped, Any] = {}
        self.writes = 0

    async def put(self, key: Grouped, value: Any, **condition: Any) -> None:
        there = self.held[key].version if key in self.held else None
        if condition and condition["expect"] != there:
            raise ConflictError(f"{key} has the version {there}")
        self.writes += 1
        self.held[key] = SimpleNamespace(key=key, value=value, version=Version(self.writes, "w"))

    async def get(self, key: Grouped) -> Any:
        return self.held.get(key)

    async def get_group(self, group: str) -> list[Any]:
        return [one for key, one in self.held.items() if key.group == group]

    async def delete(self, key: Grouped) -> None:
        self.held.pop(key, None)


@pytest.fixture
def ring() -> MemoryRing:
    return MemoryRing()


@pytest.fixture
def client(ring: MemoryRing) -> CartsClient:
    def do(operation: Callable[[MemoryRing], Any]) -> Any:
        return asyncio.run(operation(ring))

    return CartsClient(SimpleNamespace(do=do, group=RingSystem.group), "r1")  # type: ignore[arg-type]


def test_a_put_writes_its_token_to_the_line_of_its_cart(client: CartsClient, ring: MemoryRing) -> None:
    assert client.invoke("put", {"key": 5, "value": 77}, 77) == 1
    assert {key: one.value for key, one in ring.held.items()} == {LINE: {"op": 77}}
    client.invoke("put", {"key": 6, "value": 78}, 78)
    assert Grouped("ledger:r1:2", "6") in ring.held


@pytest.mark.parametrize("function", ["get", "look"])
def test_reads_of_a_line_and_of_its_cart_show_the_same(client: CartsClient, function: str) -> None:
    assert client.invoke(function, {"key": 5}, 1) == {"value": None, "version": None}
    client.invoke("put", {"key": 4, "value": 76}, 76)
    client.invoke("put", {"key": 5, "value": 77}, 77)
    client.invoke("put", {"key": 3, "value": 78}, 78)
    assert client.invoke(function, {"key": 5}, 2) == {"value": 77, "version": "2-w"}


def test_a_deletion_takes_the_line_away(client: CartsClient, ring: MemoryRing) -> None:
    client.invoke("put", {"key": 5, "value": 77}, 77)
    client.invoke("put", {"key": 4, "value": 78}, 78)
    assert client.invoke("delete", {"key": 5}, 2) == 1
    assert [key.name for key in ring.held] == ["4"]


@pytest.mark.parametrize(
    ("before", "version", "answer", "after"),
    [(0, None, 1, 99), (0, "1-w", 0, None), (1, None, 0, 77), (1, "1-w", 1, 99), (2, "1-w", 0, 77)],
)
def test_a_conditional_put_replaces_only_the_version_that_was_seen(
    client: CartsClient, before: int, version: str | None, answer: int, after: int | None
) -> None:
    for _ in range(before):
        client.invoke("put", {"key": 5, "value": 77}, 77)
    value = {"key": 5, "value": 99, "expected": 77, "version": version}
    assert client.invoke("put_if", value, 99) == answer
    assert client.invoke("get", {"key": 5}, 3)["value"] == after


def test_the_mixture_on_lines_and_what_a_conditional_put_expects_of_a_line_that_nobody_saw() -> None:
    generator, dice = CartsGenerator(), random.Random(1)
    drawn = [generator.next(0, number, dice) for number in range(4000)]
    share = {function: count / len(drawn) for function, count in Counter(function for function, _ in drawn).items()}
    wanted = {"put": 0.31, "put_if": 0.15, "delete": 0.15, "get": 0.25, "look": 0.15}
    assert share == pytest.approx(wanted, abs=0.03)
    for number, (function, value) in enumerate(drawn):
        if function == "put_if":
            assert value == {"key": value["key"], "value": number, "expected": None, "version": None}
    begun = set()
    for function, value in drawn:
        assert value["key"] in begun or function == "put", "the first operation on a line makes it"
        begun.add(value["key"])


@pytest.mark.parametrize("function", ["get", "look", "put", "delete"])
def test_only_reads_teach_what_a_line_holds(function: str) -> None:
    generator, dice = CartsGenerator(), random.Random(3)
    for key in range(12):
        generator.acknowledged(function, {"key": key, "value": 7}, {"value": 77, "version": "9-u1"})
    drawn = [generator.next(0, number, dice) for number in range(100)]
    expected = {value["expected"] for name, value in drawn if name == "put_if" and value["key"] < 12}
    assert expected == ({77} if function in ("get", "look") else {None})
