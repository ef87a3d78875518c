"""A ring's client closes although a library swallowed the cancellation of its upkeep or of its watch."""

from __future__ import annotations

import asyncio

import pytest

from shardmart import tasks
from shardmart.ring.client import RingClient
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
