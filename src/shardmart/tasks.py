"""asyncio tasks that end when they are told to, and only then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from .errors import ShardmartError

CANCEL_AGAIN_SECONDS = 1.0
AGAIN_SECONDS = 1.0
CLOSE_SECONDS = 5.0
logger = logging.getLogger(__name__)


class StrayCancellationError(ShardmartError):
    """A `CancelledError` came out of a call, and nobody had cancelled the task that made it."""


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: `asyncio.wait_for` (Python 3.11), which drivers use, swallows a cancellation that comes together
    with an answer, and then a task that runs for ever goes on.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def no_stray_cancellation() -> Iterator[None]:
    """Turn a `CancelledError` that the current task was not sent into StrayCancellationError.

    Drivers cancel tasks of their own, and some await them without a guard (aiokafka 0.14, `Fetcher.close`, while its
    broker is away).  `CancelledError` is no `Exception`: it would end a loop of ours silently, for good.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise StrayCancellationError("a driver cancelled what was asked of it") from error


@asynccontextmanager
async def no_lost_cancellation() -> AsyncIterator[None]:
    """Raise the `CancelledError` that a call inside swallowed: it was sent to the current task, and none came out.

    Drivers lose one that comes together with an answer (`cancel` says why), or raise an error of their own for it.
    """
    task = asyncio.current_task()
    assert task
    if before := task.cancelling():
        await asyncio.sleep(0)  # one that is still to come, as by a signal between two calls, comes here
    try:
        yield
    except Exception as error:
        if task.cancelling() > before:
            raise asyncio.CancelledError from error
        raise
    if task.cancelling() > before:
        raise asyncio.CancelledError


async def closed(close: Callable[[], Coroutine[Any, Any, None]], what: str, seconds: float = CLOSE_SECONDS) -> None:
    """Let a driver close something whose server may be away: it gets `seconds`, and what it raises is logged."""
    task = asyncio.create_task(close())
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        if not task.done():
            logger.warning("closing takes too long and is given up", extra={"what": what})
            await cancel(task)
        elif task.cancelled() or task.exception():
            reason = "cancelled" if task.cancelled() else type(task.exception()).__name__
            logger.info("closed with an error", extra={"what": what, "reason": reason})


async def kept_running(work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again whenever it ends by a mistake, until it returns or this task is cancelled."""
    while True:
        try:
            with no_stray_cancellation():
                return await work()
        except Exception:
            logger.exception("what runs in the background begins again after a mistake")
            await asyncio.sleep(AGAIN_SECONDS)
