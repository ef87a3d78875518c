"""Movers are killed, at any request, and another one finishes what they began; clients notice nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shardmart.ring import Key
from shardmart.ring.moves import Mover
from shardmart.ring.node.nodes import Nodes
from shardmart.ring_command.servers import STORE
from tests.support.rings import DATABASE, RingServers, assert_equal_copies, ring, run

THREE = {"n1": 1, "n2": 1, "n3": 1}
FOUR = THREE | {"n4": 1}


class MoverKilledError(Exception):
    """A mover ends here."""


@pytest.mark.parametrize("phase", ["copy", "verify", "clean"])
def test_a_mover_killed_in_any_phase_is_resumed_by_another(running: RingServers, phase: str) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(600))

            def kill(at: str, done: int, total: int) -> None:
                if at == phase and done >= total / 2:
                    raise MoverKilledError

            mover = Mover(client.nodes, kill)
            await mover.begin(FOUR)
            with pytest.raises(MoverKilledError):
                await mover.run()
            # All is right in the state that it left.
            assert {one.value for one in await client.get_many(f"key-{n}" for n in range(600))} == set(range(600))
            await client.delete("key-1")
            await client.put("key-2", "changed")
            seen = Counter([one.key async for one in client.iterate()])
            assert set(seen) == {f"key-{n}" for n in range(600) if n != 1}
            assert set(seen.values()) == {1}

            await Mover(client.nodes).run()
            assert client.view.move is None
            assert_equal_copies(running, client)
            assert await client.get("key-1") is None
            found = await client.get("key-2")
            assert found
            assert found.value == "changed"

    run(test())


def killed_at(nodes: Nodes, request: int) -> None:
    """Have whoever works with these nodes end at this request to a node or the store, and do nothing ever after."""
    asked = 0

    def before(answer: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(operation: Any, *more: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked > request:
                getattr(operation, "close", lambda: None)()
                raise MoverKilledError
            return await answer(operation, *more)

        return counted

    for one in (*(nodes[name] for name in FOUR), nodes.membership):
        owner: Any = one
        name = "answer" if hasattr(owner, "answer") else "_answer"
        setattr(owner, name, before(getattr(owner, name)))


@pytest.mark.full
def test_a_mover_killed_at_any_request_is_resumed_by_another(running: RingServers) -> None:
    """The first to the last request to a node or the store: what it leaves is right, and another finishes it."""

    async def test() -> None:
        expected: dict[Key, object] = {f"key-{n}": n for n in range(30)}
        async with ring(running, virtual_nodes=2) as client:
            await client.put_many(expected.items())
            request, finished = 0, False
            while not finished:
                after = THREE if "n4" in client.view.ring.weights else FOUR
                doomed = Nodes(running.settings())
                await doomed.refresh()
                killed_at(doomed, request)
                try:
                    mover = Mover(doomed)
                    await mover.begin(after)
                    await mover.run()
                    finished = True
                except MoverKilledError:
                    pass
                finally:
                    await doomed.close()
                await client.nodes.refresh()
                changed = f"key-{request % 30}"
                await client.put(changed, f"changed at {request}")
                expected[changed] = f"changed at {request}"
                assert {one.key: one.value for one in await client.get_many(expected)} == expected, request
                with running.admin(STORE) as store:
                    store[DATABASE].leases.delete_many({})  # as a minute does
                if client.view.move:
                    await Mover(client.nodes).run()
                assert client.view.move is None
                assert_equal_copies(running, client)
                assert {one.key: one.value async for one in client.iterate()} == expected, request
                request += 1
            assert request > 40, "a move asks the nodes and the store more often than that"

    async def bounded() -> None:
        async with asyncio.timeout(600):
            await test()

    asyncio.run(bounded())
