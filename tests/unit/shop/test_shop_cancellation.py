"""A stop ends an instance although a library swallowed the cancellation of one of its tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from shardmart import tasks
from shardmart.shop.ports import StoreError
from tests.support.shop_in_memory import MemoryShop, run


async def for_ever(swallowed: list[int], times: int, begun: asyncio.Event) -> None:
    while True:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if len(swallowed) >= times:
                raise
            swallowed.append(1)


def test_a_task_that_swallows_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_SECONDS", 0.01)
    swallowed: list[int] = []

    async def body() -> None:
        begun = asyncio.Event()
        stubborn, other = asyncio.create_task(for_ever(swallowed, 2, begun)), asyncio.create_task(asyncio.sleep(0))
        await begun.wait()
        await asyncio.wait_for(tasks.cancel(stubborn, other), 30)
        assert stubborn.cancelled()

    run(body())
    assert len(swallowed) == 2


def test_a_consumer_whose_log_makes_an_error_of_its_cancellation_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_SECONDS", 0.01)
    shop = MemoryShop(tmp_path)
    swallowed: list[int] = []

    async def body() -> None:
        consumer = shop.consumer("inventory")
        following = asyncio.Event()

        async def follow(position: str) -> Any:
            following.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(1)
                raise StoreError("the connection was closed") from None
            yield None, position

        monkeypatch.setattr(shop.log, "follow", follow)
        running = asyncio.create_task(consumer.run())
        await asyncio.wait_for(following.wait(), 30)
        consumer.stop()
        await asyncio.wait_for(running, 30)

    run(body())
    assert swallowed == [1]
