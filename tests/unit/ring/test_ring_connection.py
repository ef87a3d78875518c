"""The connection to one node: errors have types, one look serves all who wait, large answers are no silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from pymongo.errors import OperationFailure, PyMongoError

from shardmart.ring.errors import NodeAwayError, NodeRefusesError, RingError
from shardmart.ring.node.connection import Connection

TIMEOUT_SECONDS = 0.2


async def raises(error: BaseException) -> None:
    raise error


def run(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(bounded())


def connection(timeout_seconds: float = TIMEOUT_SECONDS) -> Connection:
    return Connection("n1", "mongodb://127.0.0.1:1/", "ring_test", timeout_seconds)


@pytest.mark.parametrize(
    "error", [OperationFailure("not authorized", 13), OperationFailure("full", 14031), PyMongoError("a driver's fault")]
)
def test_what_a_node_refuses_is_an_error_of_the_ring_that_names_it(error: PyMongoError) -> None:
    async def test() -> None:
        node = connection()
        with pytest.raises(NodeRefusesError, match="n1 refuses: ") as told:
            await node.answer(raises(error))
        assert isinstance(told.value, RingError)
        await node.close()

    run(test())


def test_a_cancellation_that_nobody_sent_is_a_node_that_does_not_answer() -> None:
    async def test() -> None:
        node = connection()
        with pytest.raises(NodeAwayError, match="StrayCancellationError"):
            await node.answer(raises(asyncio.CancelledError()))
        await node.close()

    run(test())


def test_of_many_who_wait_for_a_look_one_pays_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        node = connection()
        looks = 0

        async def look() -> tuple[str, str]:
            nonlocal looks
            looks += 1
            await asyncio.sleep(0)
            node.leave("does not answer")

        monkeypatch.setattr(node, "look", look)
        told = await asyncio.gather(*(node.check() for _ in range(20)), return_exceptions=True)
        assert {type(one) for one in told} == {NodeAwayError}
        assert looks == 1
        with pytest.raises(NodeAwayError):
            await node.check()
        assert looks == 2  # who comes later looks himself
        await node.close()

    run(test())


async def documents(*seconds: float) -> AsyncIterator[dict[str, Any]]:
    for number, wait in enumerate(seconds):
        await asyncio.sleep(wait)
        yield {"_id": number}


def test_an_answer_may_take_long_while_it_comes_and_not_when_it_stops() -> None:
    async def test() -> None:
        patient, node = connection(timeout_seconds=1.0), connection()
        steady: Any = documents(*[0.5] * 5)  # longer in all than one may take
        assert len(await patient.drained(steady)) == 5
        hangs: Any = documents(0, 30)
        with pytest.raises(TimeoutError):
            await node.drained(hangs)
        await patient.close()
        await node.close()

    run(test())


async def swallows_cancellations() -> AsyncIterator[dict[str, Any]]:
    """What a driver does whose `wait_for` (Python 3.11) gets a cancellation together with an answer."""
    yield {"_id": 0}
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    yield {"_id": 1}


def test_an_answer_that_comes_together_with_its_end_of_time_is_no_other_error() -> None:
    async def test() -> None:
        node = connection(timeout_seconds=0.05)
        late: Any = swallows_cancellations()
        with pytest.raises(NodeAwayError, match="TimeoutError"):
            await node.answer(node.drained(late), 30)
        await node.close()

    run(test())
