"""Nodes come and go while clients read and write; old rings are told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from shardmart.ring import ChangeRefusedError, Grouped, RingClient, SettingsError, WrongNodeError, declared
from shardmart.ring.moves import Moved, Mover
from tests.support.ring_clients import assert_all_told, load
from tests.support.rings import DATABASE, RingServers, assert_equal_copies, back, key_of, ring, run

THREE = {"n1": 1, "n2": 1, "n3": 1}
FOUR = THREE | {"n4": 1}


async def move(client: RingClient, after: dict[str, int], dead: str | None = None) -> Moved:
    """Begin and finish a change."""
    mover = Mover(client.nodes)
    await mover.begin(after, dead=dead)
    return await mover.run()


def test_adding_and_removing_a_node_moves_exactly_what_must_move_while_clients_work(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(timeout_seconds=5.0), upkeep=False) as other:
            await client.put_many((f"key-{n}", n) for n in range(2000))
            plan = await Mover(client.nodes).plan(FOUR)
            assert {one.target for one in plan} == {"n4"}
            await move(client, FOUR)
            gained = sum("n4" in client.view.holders(f"key-{n}") for n in range(2000))
            assert sum(one.records for one in plan) == gained
            assert len(running.records("n4")) == gained
            assert_equal_copies(running, client)

            async with load(other) as work:
                done = await move(client, THREE)
                assert done.copied >= gained
            assert running.records("n4") == {}
            assert_equal_copies(running, client)
            await assert_all_told(client, work.told)

            before = work.told
            async with load(other) as work:
                await move(client, FOUR)
            assert_equal_copies(running, client)
            await assert_all_told(client, before | work.told)
            values = [one.value async for one in client.iterate() if str(one.key).startswith("key-")]
            assert sorted(values) == list(range(2000))

    run(test())


def test_moved_is_the_minimum(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(1500))
            done = await move(client, FOUR)
            assert done.copied == len(running.records("n4"))  # what the new node must have
            assert done.mended == 0
            leaving = len(running.records("n2"))
            done = await move(client, {"n1": 1, "n3": 1, "n4": 1})
            assert done.copied == leaving  # a new copy for every copy that left

    run(test())


def test_what_a_copy_lost_is_found_before_the_old_copies_go(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(300))
            lost: list[str] = []

            def lose(phase: str, done: int, total: int) -> None:
                if phase == "copy" and done == total:
                    lost.extend(list(running.records("n4"))[:5])
                    with running.admin("n4") as admin:
                        admin[DATABASE].records.delete_many({"_id": {"$in": lost}})

            mover = Mover(client.nodes, lose)
            await mover.begin(FOUR)
            done = await mover.run()
            assert len(lost) == 5
            assert done.mended >= 5
            assert set(lost) <= set(running.records("n4"))
            assert_equal_copies(running, client)

    run(test())


@pytest.mark.parametrize("copies", [1, 3, 4])
def test_a_ring_keeps_as_many_copies_as_it_is_told_also_when_a_node_leaves(running: RingServers, copies: int) -> None:
    async def test() -> None:
        async with ring(running, *running.names, copies=copies) as client:
            assert len((await client.put("one", 0)).nodes) == copies
            await client.put_many((f"key-{n}", n) for n in range(200))
            await client.delete("key-0")
            assert_equal_copies(running, client)
            if copies < 4:
                await move(client, THREE)
            else:
                with pytest.raises(ChangeRefusedError, match="4 copies on 3 nodes"):
                    await Mover(client.nodes).begin(THREE)
            assert sum(len(running.records(name)) for name in running.names) == 201 * copies
            assert_equal_copies(running, client)
            assert {one.value async for one in client.iterate()} == set(range(200))

    run(test())


@pytest.mark.full
def test_a_move_may_take_longer_than_a_declared_ring_waits_for_servers(
    running: RingServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves_at_once = Mover.run

    async def slow(self: Mover) -> Moved:
        await asyncio.sleep(5.5)
        return await moves_at_once(self)

    monkeypatch.setattr(Mover, "run", slow)

    async def test() -> None:
        async with ring(running) as client:
            (said,) = await declared.converge(client.nodes.settings, declared.Declared(FOUR, virtual_nodes=64), 5.0)
            assert said.startswith("change the nodes from n1, n2, n3 to n1, n2, n3, n4: ")

    run(test())


def test_a_client_with_an_old_ring_is_told_and_reads_it_anew(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(300))
            async with RingClient(running.settings(timeout_seconds=5.0), upkeep=False) as old:
                assert old.nodes._watcher
                old.nodes._watcher.cancel()  # it does not look by itself any more
                await move(client, FOUR)
                stale = old.view
                assert stale.epoch < client.view.epoch
                moved = [f"key-{n}" for n in range(300) if client.view.holders(f"key-{n}")[0] == "n4"]
                group = next(g for n in range(100) if client.view.holders(Grouped(g := f"g-{n}", ""))[0] == "n4")
                await client.put(Grouped(group, "line"), "in a group")
                found = await client.get(moved[4])
                assert found

                async def everything() -> None:
                    assert len([one async for one in old.iterate()]) >= 299

                operations: dict[str, Callable[[], Awaitable[object]]] = {
                    "get": lambda: old.get(moved[0]),
                    "get_many": lambda: old.get_many(moved),
                    "get_group": lambda: old.get_group(group),
                    "iterate": everything,
                    "put": lambda: old.put(moved[1], "written"),
                    "put_many": lambda: old.put_many([(moved[2], "written")]),
                    "delete": lambda: old.delete(moved[3]),
                    "put on condition": lambda: old.put(moved[4], "written", expect=found.version),
                    "delete_many": lambda: old.delete_many([moved[5]]),
                }
                for name, operation in operations.items():
                    old.nodes._view = stale
                    await operation()
                    assert old.view.epoch == client.view.epoch, name
                    assert_equal_copies(running, client)
                assert [one.value for one in await old.get_group(group)] == ["in a group"]
                values = {one.key: one.value for one in await client.get_many(moved[:6])}
                written = dict.fromkeys((moved[1], moved[2], moved[4]), "written")
                assert values == {moved[0]: int(moved[0].removeprefix("key-"))} | written

    run(test())


def test_a_dead_node_is_left_behind_and_its_copies_are_made_anew(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, *running.names, timeout_seconds=2.0) as client:
            await client.put_many((f"key-{n}", n) for n in range(500))
            running.kill("n4")
            key = key_of(client, "n4", "n1")
            await client.put(key, "hinted")
            with pytest.raises(ChangeRefusedError, match="n4: "):
                await Mover(client.nodes).begin(THREE)
            with pytest.raises(ChangeRefusedError, match="n4: "):
                await Mover(client.nodes).plan(THREE)
            plan = await Mover(client.nodes).plan(THREE, dead="n4")
            assert "n4" not in {name for one in plan for name in (one.source, one.target)}
            planned = sum(one.records for one in plan)
            assert (await move(client, THREE, dead="n4")).copied == planned
            await client.upkeep.deliver()
            assert running.hints() == 0
            assert_equal_copies(running, client)
            values = {one.key: one.value async for one in client.iterate()}
            assert values == {f"key-{n}": n for n in range(500)} | {key: "hinted"}

            # It comes back with its old folder: nobody asks it, and it joins empty.
            running.start("n4")
            await client.delete("key-3")
            await move(client, FOUR)
            assert await client.get("key-3") is None
            assert_equal_copies(running, client)

    run(test())


def test_a_removed_node_with_its_old_folder_is_emptied_before_it_serves_again(running: RingServers) -> None:
    """It has values that were deleted while it was away, and nobody has their tombstones any more."""

    async def test() -> None:
        async with ring(running, *running.names, timeout_seconds=2.0) as client:
            await client.put_many((f"key-{n}", n) for n in range(200))
            running.kill("n4")
            held = {f"key-{n}" for n in range(200) if "n4" in client.view.holders(f"key-{n}")}
            await client.get_many(held)  # who meets it tells
            await move(client, THREE, dead="n4")
            await client.upkeep.deliver()
            await client.delete_many(held)
            client.upkeep.tombstone_seconds = -60  # all are old enough
            assert await client.upkeep.reap() == len(held)

            running.start("n4")
            assert set(running.records("n4")) == held
            await move(client, FOUR)
            assert await client.get_many(held) == []
            assert held & set(running.records("n4")) == set()
            assert_equal_copies(running, client)
            assert {one.key async for one in client.iterate()} == {f"key-{n}" for n in range(200)} - held

    run(test())


def test_changes_that_cannot_be_right_are_refused(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            mover = Mover(client.nodes)
            with pytest.raises(ChangeRefusedError, match="2 copies on 1 nodes"):
                await mover.begin({"n1": 1})
            with pytest.raises(ChangeRefusedError, match="at least one node"):
                await mover.begin({})
            with pytest.raises(ChangeRefusedError, match="exactly these nodes"):
                await mover.begin(THREE)
            with pytest.raises(ChangeRefusedError, match="exactly these nodes"):
                await mover.plan(THREE)
            with pytest.raises(ChangeRefusedError, match="n3 answers: only a node that is lost for good"):
                await mover.begin({"n1": 1, "n2": 1}, dead="n3")
            with pytest.raises(ChangeRefusedError, match=r"the settings have no node 'db1\.example\.com'"):
                await mover.begin(THREE | {"db1.example.com": 1})
            with pytest.raises(SettingsError, match="required_copies: 3, and the ring keeps 2 copies"):
                await RingClient(running.settings(required_copies=3), upkeep=False).__aenter__()
            running.kill("n1")
            await client.nodes.look(["n1"])
            await client.get("any")
            await client.put_many((f"key-{n}", n) for n in range(5))
            with pytest.raises(ChangeRefusedError, match="n1: "):
                await mover.begin(FOUR)
            with pytest.raises(ChangeRefusedError, match="n1: "):
                await mover.begin({"n1": 1, "n2": 1})
            running.start("n1")
            await back(client, "n1")
            await mover.begin(FOUR)
            with pytest.raises(ChangeRefusedError, match="changing already"):
                await mover.begin({"n1": 1, "n2": 1})
            await mover.run()

    run(test())


def test_of_two_changes_at_once_one_is_refused(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(timeout_seconds=5.0), upkeep=False) as other:
            results = await asyncio.gather(
                Mover(client.nodes).begin(FOUR),
                Mover(other.nodes).begin({"n1": 1, "n2": 1}),
                return_exceptions=True,
            )
            refused = [one for one in results if isinstance(one, BaseException)]
            assert [isinstance(one, ChangeRefusedError) for one in refused] == [True]
            await client.nodes.refresh()
            await Mover(client.nodes).run()

    run(test())


def test_a_member_cannot_join_under_another_name(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running):
            settings = running.settings()
            nodes = dict(settings.nodes) | {"n4": settings.nodes["n1"].replace("127.0.0.1", "localhost")}
            async with RingClient(type(settings)(settings.name, nodes, settings.store), upkeep=False) as client:
                with pytest.raises(WrongNodeError, match="n4 is the server of n1"):
                    await Mover(client.nodes).begin(FOUR)

    run(test())


def test_iterating_while_a_node_joins_gives_each_key_once(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(timeout_seconds=5.0), upkeep=False) as other:
            await client.put_many((f"key-{n}", n) for n in range(1500))
            task = asyncio.create_task(move(client, FOUR))
            passes = 0
            while not task.done() or passes == 0:
                seen = Counter([one.key async for one in other.iterate(page=100)])
                assert set(seen.values()) == {1}
                assert set(seen) == {f"key-{n}" for n in range(1500)}
                passes += 1
            await task

    run(test())


def test_a_ring_as_declared_waits_for_the_lease_of_a_mover_that_was_killed(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(200))
            await Mover(client.nodes).begin(FOUR)
            assert await client.nodes.membership.lease("move", "one that was killed", 2.0)
            changes = await declared.converge(client.nodes.settings, declared.Declared(FOUR, 2, 64), 30)
            assert changes == ["finish a change of nodes that was interrupted"]
            await client.nodes.refresh()
            assert_equal_copies(running, client)

    run(test())
