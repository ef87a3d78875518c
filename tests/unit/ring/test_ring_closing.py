"""What a ring's client does in the background ends when it closes, whatever a library swallows, and never before."""

from __future__ import annotations

import asyncio

import pytest
from pymongo.errors import OperationFailure

from shardmart import tasks
from shardmart.ring.client import RingClient
from shardmart.ring.node import nodes
from shardmart.ring.repair import upkeep
from shardmart.ring.settings import Settings


def settings() -> Settings:
    return Settings(
        name="closing", store="mongodb://127.0.0.1:1/", nodes={"n1": "mongodb://127.0.0.1:1/"}, timeout_seconds=0.1
    )


def test_a_client_whose_upkeep_swallows_a_cancellation_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_SECONDS", 0.01)
    swallowed: list[str] = []

    async def body() -> None:
        begun = {name: asyncio.Event() for name in ("upkeep", "watch")}

        async def for_ever(name: str) -> None:
            while True:
                begun[name].set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if name in swallowed:
                        raise
                    swallowed.append(name)

        client = RingClient(settings())
        monkeypatch.setattr(client.nodes, "refresh", lambda: asyncio.sleep(0))
        monkeypatch.setattr(client.nodes, "_watch", lambda: for_ever("watch"))
        monkeypatch.setattr(client.upkeep, "run", lambda: for_ever("upkeep"))
        async with client:
            for each in begun.values():
                await each.wait()

    async def bounded() -> None:
        async with asyncio.timeout(30):
            await body()

    asyncio.run(bounded())
    assert sorted(swallowed) == ["upkeep", "watch"]


@pytest.mark.parametrize("mistake", [OperationFailure("not authorized", 13), asyncio.CancelledError()])
def test_upkeep_and_watch_go_on_after_an_error_that_nobody_expected(
    monkeypatch: pytest.MonkeyPatch, mistake: BaseException
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(nodes, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)

    async def body() -> None:
        client = RingClient(settings())
        rounds = dict.fromkeys(("upkeep", "watch"), 0)
        enough = asyncio.Event()

        def once_more(name: str) -> None:
            rounds[name] += 1
            if min(rounds.values()) > 2:
                enough.set()
            raise mistake

        async def lease(*_: object) -> bool:
            once_more("upkeep")
            return False

        async def look(_: object) -> None:
            once_more("watch")

        monkeypatch.setattr(client.nodes, "refresh", lambda: asyncio.sleep(0))
        monkeypatch.setattr(client.nodes, "away", dict)
        monkeypatch.setattr(client.nodes, "look", look)
        monkeypatch.setattr(client.nodes.membership, "lease", lease)
        async with asyncio.timeout(30), client:
            await enough.wait()

    asyncio.run(body())


def test_all_nodes_are_compared_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert upkeep.COMPARE_EVERY_SECONDS == 600
    monkeypatch.setattr(upkeep, "COMPARE_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)

    async def body() -> None:
        client = RingClient(settings())
        pair = ("n1", "n2")
        times = 0
        enough = asyncio.Event()

        async def lease(*_: object) -> bool:
            return True

        async def tend() -> None:
            """Compare two nodes unless they are settled, as `settle` does."""
            nonlocal times
            if pair not in client.upkeep._settled:
                times += 1
                client.upkeep._settled[pair] = (0, 0)
                if times == 3:
                    enough.set()

        monkeypatch.setattr(client.nodes, "refresh", lambda: asyncio.sleep(0))
        monkeypatch.setattr(client.nodes, "away", dict)
        monkeypatch.setattr(client.nodes.membership, "lease", lease)
        monkeypatch.setattr(client.upkeep, "tend", tend)
        async with asyncio.timeout(30), client:
            await enough.wait()

    asyncio.run(body())
