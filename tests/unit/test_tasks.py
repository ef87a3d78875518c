"""Loops of ours outlive a driver that cancels, hangs or fails, and end when they themselves are cancelled."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest

from shardmart import tasks
from shardmart.tasks import (
    StrayCancellationError,
    cancel,
    closed,
    kept_running,
    no_lost_cancellation,
    no_stray_cancellation,
)


async def awaits_what_it_cancelled() -> None:
    """As aiokafka's `Fetcher.close` does."""
    own = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    own.cancel()
    await own


def test_a_cancellation_that_a_driver_lets_out_is_an_error_like_any_other() -> None:
    async def body() -> None:
        with pytest.raises(StrayCancellationError), no_stray_cancellation():
            await awaits_what_it_cancelled()

    asyncio.run(body())


def test_a_task_that_is_cancelled_itself_ends() -> None:
    async def guarded() -> None:
        with no_stray_cancellation():
            await asyncio.sleep(3600)

    async def body() -> None:
        task = asyncio.create_task(guarded())
        await asyncio.sleep(0)
        await cancel(task)
        assert task.cancelled()

    asyncio.run(body())


def test_a_time_limit_around_it_is_still_a_timeout() -> None:
    async def body() -> None:
        async with asyncio.timeout(0.01):
            with no_stray_cancellation():
                await asyncio.sleep(3600)

    with pytest.raises(TimeoutError):
        asyncio.run(body())


def test_closing_ends_whether_the_driver_fails_cancels_or_hangs(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise OSError

    async def hangs() -> None:
        await asyncio.sleep(3600)

    async def body() -> None:
        await closed(fails, "one that fails")
        await closed(awaits_what_it_cancelled, "one that cancels")
        await closed(hangs, "one that hangs", seconds=0.01)

    caplog.set_level(logging.INFO, logger=tasks.__name__)
    asyncio.run(asyncio.wait_for(body(), 30))
    assert [record.what for record in caplog.records] == ["one that fails", "one that cancels", "one that hangs"]  # type: ignore[attr-defined]


def test_what_runs_in_the_background_begins_again_after_a_mistake_and_a_stray_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_SECONDS", 0)
    begun: list[int] = []

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) == 1:
            raise ValueError
        if len(begun) == 2:
            await awaits_what_it_cancelled()

    asyncio.run(asyncio.wait_for(kept_running(work), 30))
    assert begun == [0, 1, 2]


def test_a_cancellation_that_a_call_swallowed_is_raised_and_one_from_before_is_not() -> None:
    """As `asyncio.wait_for` (Python 3.11) swallows one that comes together with an answer."""

    async def swallows() -> str:
        task = asyncio.current_task()
        assert task
        task.cancel()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            return "an answer"
        raise AssertionError("it was not cancelled")

    async def told(error: type[Exception] | None) -> str:
        async with no_lost_cancellation():
            answer = await swallows()
            if error:
                raise error
            return answer

    async def between() -> None:
        task = asyncio.current_task()
        assert task
        task.cancel()  # as the handler of SIGINT does while the task runs
        async with no_lost_cancellation():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(5)
            raise AssertionError("it began")

    async def too_long() -> None:
        async with asyncio.timeout(0.01):
            async with no_lost_cancellation():
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(5)

    async def test() -> None:
        for error in (None, ValueError):
            with pytest.raises(asyncio.CancelledError):
                await told(error)
        async with no_lost_cancellation():  # what is done after it is done
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await between()
        with pytest.raises(TimeoutError):
            await too_long()

    asyncio.run(test())
