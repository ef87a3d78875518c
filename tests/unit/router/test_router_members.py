"""How the router finds a primary, and shares its connections, while some members say nothing."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shardmart.router.protocol import rawbson, wire
from shardmart.router.protocol.errors import MemberUnreachableError, RouterError
from shardmart.router.routing.member import MAXIMUM_CONNECTIONS, Credentials, Member
from shardmart.router.routing.replica_set import ReadPreference, ReplicaSet

Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@asynccontextmanager
async def member(answer: Answer) -> AsyncIterator[str]:
    """A member that says what `answer` returns; its address."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        while head := await reader.read(4):
            message = wire.parse(head + await reader.readexactly(int.from_bytes(head, "little") - 4))
            sequences = {name: list(map(rawbson.decode, batch)) for name, batch in message.sequences.items()}
            reply = await answer({**rawbson.decode(message.body), **sequences})
            writer.write(wire.build_reply(rawbson.encode({"ok": 1.0, **reply}), message))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()


async def never(_: dict[str, Any]) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def primary(**fields: Any) -> Answer:
    async def answer(_: dict[str, Any]) -> dict[str, Any]:
        return {"setName": "set", "isWritablePrimary": True, "setVersion": 1, **fields}

    return answer


def test_a_primary_that_answers_is_used_while_another_member_is_silent() -> None:
    async def scene() -> float:
        async with member(never) as silent, member(primary()) as good:
            found = ReplicaSet("set", [silent, good], Credentials())
            began = time.monotonic()
            assert (await found.primary(30)).address == good
            assert (await found.readable(ReadPreference("nearest"), 30)).address == good
            elapsed = time.monotonic() - began
            found.close()
            return elapsed

    assert asyncio.run(scene()) < 1.9  # a silent member is given up after two seconds


def test_a_new_primary_is_found_while_an_earlier_question_waits() -> None:
    role = {"isWritablePrimary": False, "secondary": True}

    async def late(_: dict[str, Any]) -> dict[str, Any]:
        return {"setName": "set", **role}

    async def scene() -> None:
        async with member(never) as silent, member(late) as good:
            found = ReplicaSet("set", [silent, good], Credentials())
            waiting = asyncio.ensure_future(found.primary(30))
            await asyncio.sleep(0.3)
            assert not waiting.done()
            role.update(isWritablePrimary=True)
            assert (await asyncio.wait_for(waiting, 4)).address == good
            found.close()

    asyncio.run(scene())


def test_a_primary_of_an_older_election_is_not_believed() -> None:
    async def scene() -> None:
        old, new = "7fffffff0000000000000001", "7fffffff0000000000000002"
        async with member(primary(electionId=old)) as first, member(primary(electionId=new)) as second:
            found = ReplicaSet("set", [second], Credentials())
            assert (await found.primary(10)).address == second
            found.members[first] = Member(first, Credentials())
            found.discover()
            await found._settled(10)
            assert len(found.states) == 2
            assert (await found.primary(10)).address == second
            found.close()

    asyncio.run(scene())


def test_waiting_cursors_leave_the_connections_to_those_who_work() -> None:
    async def answer(command: dict[str, Any]) -> dict[str, Any]:
        return await never(command) if "getMore" in command else {"n": 1}

    async def scene() -> None:
        async with member(answer) as address:
            one = Member(address, Credentials())
            more = wire.command({"getMore": 1, "$db": "a"})
            waiting = [asyncio.ensure_future(one.call(more, waits=True)) for _ in range(MAXIMUM_CONNECTIONS + 20)]
            reply = await one.command({"count": "a", "$db": "a"}, 10)
            assert reply["n"] == 1
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            one.drop_connections()

    asyncio.run(scene())


def test_what_the_system_gave_up_is_a_member_that_cannot_be_reached() -> None:
    async def scene() -> str:
        async with member(never) as address:
            one = Member(address, Credentials())
            connection = await one.connect()
            connection._reader.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
            with pytest.raises(MemberUnreachableError) as failure:
                await connection.call(wire.command({"count": "a", "$db": "a"}))
            return failure.value.message

    assert "Connection timed out" in asyncio.run(scene())


def test_a_secondary_that_is_too_far_behind_is_not_read_from() -> None:
    now = datetime.now(UTC)

    def written(seconds_ago: float, **role: bool) -> Answer:
        last = {"lastWriteDate": now - timedelta(seconds=seconds_ago)}

        async def answer(_: dict[str, Any]) -> dict[str, Any]:
            return {"setName": "set", "setVersion": 1, "lastWrite": last, **role}

        return answer

    async def scene() -> None:
        async with (
            member(written(0, isWritablePrimary=True)) as leader,
            member(written(60, secondary=True)) as near,
            member(written(200, secondary=True)) as far,
        ):
            found = ReplicaSet("set", [leader, near, far], Credentials())
            found.discover()
            await asyncio.wait(found._asking.values(), timeout=30)
            for seconds, right in ((90, {near}), (300, {near, far}), (0, {near, far})):
                asked = ReadPreference("secondary", max_staleness=seconds)
                assert {(await found.readable(asked, 30)).address for _ in range(50)} == right
            with pytest.raises(RouterError) as refused:
                await found.readable(ReadPreference("secondary", [{"rack": "none"}], 90), 0.2)
            assert refused.value.code == 133
            found.close()

    asyncio.run(scene())
