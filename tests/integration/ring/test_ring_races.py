"""What happens between two requests of a read, a write, a mover or a return: each is put exactly there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bson import Decimal128

from shardmart.ring import ChangeRefusedError, RingClient
from shardmart.ring.errors import NodeAwayError
from shardmart.ring.moves import Mover
from shardmart.ring.node.node import Node
from shardmart.ring.node.record import Record, Version
from shardmart.ring_command.servers import STORE
from tests.support.rings import DATABASE, RingServers, assert_equal_copies, back, key_of, ring, run

THREE = {"n1": 1, "n2": 1, "n3": 1}
FOUR = THREE | {"n4": 1}


def instead(
    node: Node, method: str, of: Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]
) -> None:
    """Have a node's method be what `of` makes of it."""
    setattr(node, method, of(getattr(node, method)))


async def acknowledged_without(client: RingClient, key: str, value: str, number: int) -> Record:
    """A write that n1 missed: n2, the other holder, has it, and n3 keeps the hint."""
    record = Record(key, Version(number, "u-missed"), value)
    await client.nodes["n2"].apply(record, client.view.epoch)
    await client.nodes["n3"].hint_many([record], "n1", client.view.epoch)
    return record


@pytest.mark.parametrize("method", ["read_many", "page"])
def test_a_hint_that_is_delivered_while_a_read_waits_is_seen(running: RingServers, method: str) -> None:
    """n1 missed the last write, n2 hangs, and the hint goes from n3 to n1 after n1 has answered."""

    async def test() -> None:
        async with ring(running) as client:
            key = key_of(client, "n1", "n2")
            old = await client.put(key, "old")
            await acknowledged_without(client, key, "new", old.version.number + 1)

            def hangs(_: object) -> Callable[..., Awaitable[Any]]:
                async def hang(*_: object, **__: object) -> None:
                    await client.upkeep.deliver()
                    client.nodes["n2"].leave("does not answer")

                return hang

            instead(client.nodes["n2"], method, hangs)
            if method == "page":
                assert [one.value async for one in client.iterate()] == ["new"]
            else:
                found = await client.get(key)
                assert found
                assert found.value == "new"

    run(test())


def test_what_is_read_once_is_kept_for_a_holder_that_could_not_be_given_it(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            key = key_of(client, "n1", "n2")
            old = await client.put(key, "old")
            half = Record(key, Version(old.version.number + 1, "u-half"), "half written")
            await client.nodes["n1"].apply(half, client.view.epoch)

            def lost(_: object) -> Callable[..., Awaitable[Any]]:
                async def lose(*_: object, **__: object) -> None:
                    client.nodes["n2"].leave("does not answer")

                return lose

            instead(client.nodes["n2"], "apply_many", lost)
            found = await client.get(key)
            assert found
            assert found.value == "half written"
            assert await client.nodes["n3"].hints_of([key]) == [half]

    run(test())


def test_a_put_by_a_clock_that_is_behind_is_above_what_its_first_holder_had_missed(
    running: RingServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint of the earlier write reaches the first holder between the two copies of the later one."""

    async def test() -> None:
        async with ring(running) as client:
            key = key_of(client, "n1", "n2")
            await acknowledged_without(client, key, "earlier", 1000)
            monkeypatch.setattr("shardmart.ring.writing.clock", lambda: 7)

            def after_delivery(apply: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
                async def late(*arguments: Any, **options: Any) -> Any:
                    await client.upkeep.deliver()
                    return await apply(*arguments, **options)

                return late

            instead(client.nodes["n2"], "apply", after_delivery)
            done = await client.put(key, "later")
            assert done.version.number > 1000
            found = await client.get(key)
            assert found
            assert found.value == "later"
            assert_equal_copies(running, client)

    run(test())


def test_a_put_that_another_overtakes_at_the_first_holder_is_not_written_twice(running: RingServers) -> None:
    """One value, then the other, and never the first again: who reads meanwhile sees an order that can be."""

    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            key = key_of(client, "n1", "n2")

            def overtaken(apply: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
                async def late(*arguments: Any, **options: Any) -> Any:
                    await other.put(key, "second")
                    return await apply(*arguments, **options)

                return late

            instead(client.nodes["n2"], "apply", overtaken)
            first = await client.put(key, "first")
            found = await client.get(key)
            assert found
            assert found.value == "second"
            assert first.version < found.version
            assert_equal_copies(running, client)

    run(test())


def test_a_folder_older_than_deletions_that_have_ended_is_emptied_and_filled_again(running: RingServers) -> None:
    """Its values and hints are from before the deletions, of which no tombstone is left."""

    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", "old") for n in range(60))
            deleted, hinted = key_of(client, "n1", "n2"), key_of(client, "n2", "n3")
            (old,) = await client.nodes["n2"].read_many([hinted], client.view.epoch)
            await client.nodes["n1"].hint_many([old], "n3", client.view.epoch)
            running.stop("n1")
            data = running.folder / "data" / "n1"
            shutil.copytree(data, running.folder / "older")
            running.start("n1")
            await back(client, "n1")
            await client.delete_many([deleted, hinted])
            client.upkeep.tombstone_seconds = -60  # all are old enough
            assert await client.upkeep.reap() == 2
            await client.put("key-59", "new")
            running.stop("n1")
            shutil.rmtree(data)
            (running.folder / "older").rename(data)
            running.start("n1")
            await back(client, "n1")
            await client.upkeep.deliver()
            expected = {f"key-{n}": "old" for n in range(59)} | {"key-59": "new"}
            del expected[deleted], expected[hinted]
            assert {one.key: one.value async for one in client.iterate()} == expected
            assert {one.key: one.value for one in await client.get_many([*expected, deleted, hinted])} == expected
            assert running.hints() == 0
            assert_equal_copies(running, client)

    run(test())


def test_a_tombstone_ends_although_its_copies_hold_the_key_in_two_types(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            first, second = client.view.holders(1)
            epoch = client.view.epoch
            await client.nodes[first].apply(Record(1, Version(1, "u-one"), "value"), epoch)
            await client.nodes[second].apply(Record(Decimal128("1"), Version(1, "u-one"), "value"), epoch)
            await client.delete(1)
            client.upkeep.tombstone_seconds = -60
            assert await client.upkeep.reap() == 1
            assert all(running.records(name) == {} for name in running.names[:3])

    run(test())


def test_hints_for_one_node_are_delivered_as_many_as_a_request_bears(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            keeper = client.nodes["n3"]
            keys = [key for n in range(200) if client.view.holders(key := f"key-{n}") == ("n1", "n2")][:3]
            for key in keys:
                await keeper.hint_many([Record(key, Version(1, "u-large"), b"x" * (3 << 20))], "n1", client.view.epoch)
            assert len(await keeper.hints_for("n1", 200, 7 << 20)) == 2
            assert len(await keeper.hints_for("n1", 200, 1)) == 1
            assert len(await keeper.hints_for("n1", 1, 7 << 20)) == 1
            assert await client.upkeep.deliver() == 3
            assert running.hints() == 0
            assert set(running.records("n1")) == set(keys)

    run(test())


def test_no_tombstone_ends_while_a_node_that_returns_is_compared(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            await client.put("key", 1)
            await client.delete("key")
            client.upkeep.tombstone_seconds = -60
            assert await other.nodes.membership.withdraw(other.view.members["n1"], "token")
            before = client.nodes.view
            assert not await client.nodes.membership.reap(before, 1)
            assert await client.upkeep.reap() == 0
            await other.nodes.refresh()
            await back(other, "n1")
            await client.nodes.refresh()
            assert await client.upkeep.reap() == 1
            assert (await client.nodes.refresh()).reaps == 1

    run(test())


def test_of_two_that_bring_one_node_in_at_once_one_is_refused_and_the_other_finishes(running: RingServers) -> None:
    """Both have looked at the empty node before either prepares it."""

    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            await client.put_many((f"key-{n}", n) for n in range(100))
            looked, prepared = asyncio.Event(), asyncio.Event()
            second: list[asyncio.Task[Any]] = []

            def after_the_other(look: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
                async def late() -> Any:
                    found = await look()
                    if looks:
                        looked.set()
                        await prepared.wait()
                    looks.append(1)
                    return found

                looks: list[int] = []
                return late

            def first(prepare: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
                async def once_both_looked(*arguments: Any, **options: Any) -> Any:
                    second.append(asyncio.create_task(Mover(other.nodes).begin(FOUR)))
                    waiting = asyncio.create_task(looked.wait())
                    await asyncio.wait([second[0], waiting], return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                    done = await prepare(*arguments, **options)
                    prepared.set()
                    await asyncio.wait(second)
                    return done

                return once_both_looked

            instead(other.nodes["n4"], "look", after_the_other)
            instead(client.nodes["n4"], "prepare", first)
            one = await asyncio.gather(Mover(client.nodes).begin(FOUR), return_exceptions=True)
            results = [*one, *await asyncio.gather(*second, return_exceptions=True)]
            assert [isinstance(one, ChangeRefusedError) for one in results if isinstance(one, BaseException)] == [True]
            async with RingClient(running.settings(), upkeep=False) as third:
                await Mover(third.nodes).run()
                assert third.view.move is None
                assert_equal_copies(running, third)

    run(test())


async def as_a_minute_does(running: RingServers) -> None:
    """Leases have ended."""
    with running.admin(STORE) as store:
        store[DATABASE].leases.delete_many({})


def test_a_mover_that_slept_past_its_lease_removes_nothing_that_another_brought(running: RingServers) -> None:
    """It sleeps before it empties the node: one that joins, and one that has left and joins again meanwhile."""

    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            await client.put_many((f"key-{n}", n) for n in range(100))

            async def meanwhile(*changes: dict[str, int]) -> None:
                await as_a_minute_does(running)
                for after in changes:
                    if other.view.move or (await other.nodes.refresh()).move:
                        await Mover(other.nodes).run()
                    if after != other.view.ring.weights:
                        await Mover(other.nodes).begin(after)
                        await Mover(other.nodes).run()

            def sleeps(
                *changes: dict[str, int],
            ) -> Callable[[Callable[..., Awaitable[Any]]], Callable[..., Awaitable[Any]]]:
                def of(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
                    async def late(*arguments: Any, **options: Any) -> Any:
                        await meanwhile(*changes)
                        return await method(*arguments, **options)

                    return late

                return of

            sleeper = client.nodes["n4"]
            prepare, clear = sleeper.prepare, sleeper.clear
            instead(sleeper, "prepare", sleeps(FOUR))
            with pytest.raises(ChangeRefusedError, match="another mover prepares it"):
                await Mover(client.nodes).begin(FOUR)
            sleeper.prepare = prepare  # type: ignore[method-assign]
            await client.nodes.refresh()
            assert_equal_copies(running, client)

            mover = Mover(client.nodes)
            await mover.begin(THREE)
            instead(sleeper, "clear", sleeps(THREE, FOUR))
            with pytest.raises(ChangeRefusedError):
                await mover.run()
            sleeper.clear = clear  # type: ignore[method-assign]
            await client.nodes.refresh()
            assert set(client.view.ring.weights) == set(FOUR)
            assert_equal_copies(running, client)
            assert {one.value async for one in client.iterate()} == set(range(100))

    run(test())


class MoverKilledError(Exception):
    """A mover ends here."""


@pytest.mark.parametrize(
    ("phase", "lost", "before", "after", "ends_with"),
    [
        ("copy", "n4", THREE, FOUR, THREE),  # taken back
        pytest.param(
            "copy", "n1", THREE, FOUR, THREE, marks=pytest.mark.full
        ),  # taken back, then n1 is removed as dead
        pytest.param("copy", "n4", FOUR, THREE, THREE, marks=pytest.mark.full),  # it leaves anyway
        pytest.param("clean", "n4", THREE, FOUR, FOUR, marks=pytest.mark.full),  # finished, then n4 is removed as dead
    ],
)
def test_a_node_that_is_lost_while_nodes_change_is_given_up(
    running: RingServers,
    phase: str,
    lost: str,
    before: dict[str, int],
    after: dict[str, int],
    ends_with: dict[str, int],
) -> None:
    async def test() -> None:
        async with ring(running, *before, timeout_seconds=2.0) as client:
            expected: dict[Any, Any] = {f"key-{n}": n for n in range(200)}
            await client.put_many(expected.items())

            def kill(at: str, done: int, total: int) -> None:
                if at == phase and done >= total / 2:
                    raise MoverKilledError

            mover = Mover(client.nodes, kill)
            await mover.begin(after)
            with pytest.raises(MoverKilledError):
                await mover.run()
            with pytest.raises(ChangeRefusedError, match=f"{lost} answers"):
                await Mover(client.nodes).give_up(lost)
            running.kill(lost)
            for n in range(20):
                await client.put(f"key-{n}", "changed")
                expected[f"key-{n}"] = "changed"
            with pytest.raises(NodeAwayError):
                await Mover(client.nodes).run()

            await Mover(client.nodes).give_up(lost)
            await client.put("key-20", "changed")  # clients go on
            expected["key-20"] = "changed"
            await Mover(client.nodes).run()
            assert client.view.move is None
            assert client.view.ring.weights == ends_with
            assert {one.key: one.value async for one in client.iterate()} == expected
            if lost in ends_with:
                running.start(lost)  # its folder was not told of all: it is nobody's now
                await client.upkeep.tend()
                assert lost in client.nodes.away()
                rest = {name: 1 for name in ends_with if name != lost}
                await Mover(client.nodes).begin(rest, dead=lost)
                await Mover(client.nodes).run()
            await client.upkeep.deliver()
            assert {one.key: one.value for one in await client.get_many(expected)} == expected
            assert_equal_copies(running, client)

    run(test())
