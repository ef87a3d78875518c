"""A node that does not answer, comes back, comes back as another, or forgets: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import shutil
import signal

import pytest

from shardmart.ring import (
    NotAcknowledgedError,
    RingClient,
    StoreError,
    UnavailableError,
    declared,
    moves,
)
from shardmart.ring.errors import NodeAwayError
from shardmart.ring_command.servers import STORE
from tests.support.ring_clients import LateLine
from tests.support.rings import RingServers, assert_equal_copies, back, key_of, ring, run, until


def test_what_was_written_and_deleted_while_a_node_was_killed_is_there_and_copies_end_equal(
    running: RingServers,
) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            await client.put_many((f"key-{n}", 0) for n in range(300))
            running.kill("n1")
            for n in range(100):
                done = await client.put(f"key-{n}", 1)
                assert len({*done.nodes, *done.hints}) >= 2
            for n in range(100, 150):
                await client.delete(f"key-{n}")
            expected = {f"key-{n}": 1 if n < 100 else 0 for n in range(300) if not 100 <= n < 150}
            assert {one.key: one.value async for one in client.iterate()} == expected
            assert {one.key: one.value for one in await client.get_many(expected)} == expected

            running.start("n1")
            await back(client, "n1")
            await client.upkeep.deliver()
            assert running.hints() == 0
            assert {one.key: one.value async for one in client.iterate()} == expected
            assert_equal_copies(running, client)

    run(test())


def test_many_at_once_are_written_and_deleted_without_a_node_in_as_many_requests_as_with_it(
    running: RingServers,
) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=5.0) as client:
            await client.put_many((f"key-{n}", 0) for n in range(600))
            running.kill("n1")
            await client.get_many(f"key-{n}" for n in range(20))  # an operation that meets it tells
            assert "n1" in client.nodes.away()
            single: list[object] = []
            client.nodes["n2"].apply = client.nodes["n3"].apply = lambda *_: single.append(1)  # type: ignore[method-assign]
            assert await client.put_many((f"key-{n}", 1) for n in range(400)) == 400
            assert await client.delete_many(f"key-{n}" for n in range(400, 500)) == 100
            assert single == []
            missed = {f"key-{n}" for n in range(500) if "n1" in client.view.holders(f"key-{n}")}
            assert running.hints() == len(missed)

            running.start("n1")
            await back(client, "n1")
            await client.upkeep.deliver()
            expected = {f"key-{n}": 1 if n < 400 else 0 for n in range(600) if not 400 <= n < 500}
            assert {one.key: one.value async for one in client.iterate()} == expected
            assert_equal_copies(running, client)

    run(test())


def test_a_node_that_hangs_costs_one_timeout_and_then_nothing(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            key = key_of(client, "n1", "n2")
            await client.put(key, "value")
            running.kill("n1", signal.SIGSTOP)
            try:
                found = await client.get(key)
                assert found
                assert found.value == "value"
                assert "n1" in client.nodes.away()
                asked: list[str] = []
                client.nodes["n1"].read_many = lambda *_, **__: asked.append("n1")  # type: ignore[method-assign]
                assert await client.nodes["n2"].read_many([key], client.view.epoch)
                with pytest.raises(NodeAwayError):
                    await client.nodes["n1"].read_group(0, "any", client.view.epoch)  # refused at once, not asked
            finally:
                running.kill("n1", signal.SIGCONT)

    run(test())


def test_a_stale_copy_never_answers_alone(running: RingServers) -> None:
    """n1 misses a write, comes back without being compared, and then the other holder goes."""

    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            key = key_of(client, "n1", "n2")
            await client.put(key, "old")
            running.kill("n1")
            await client.put(key, "new")
            running.start("n1")
            async with RingClient(running.settings(["n1", "n2", "n3"], timeout_seconds=2.0), upkeep=False) as other:
                running.kill("n2")
                with pytest.raises(UnavailableError):
                    await other.get(key)
                running.start("n2")
                await back(other, "n2")
                found = await other.get(key)
                assert found
                assert found.value == "new"

    run(test())


@pytest.mark.full
def test_a_write_that_is_carried_out_late_loses_to_what_came_after_it(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            kept, deleted = key_of(client, "n1", "n2"), key_of(client, "n1", "n3")
            late = []
            for key in (kept, deleted):
                late.append(LateLine(client.nodes["n1"]))
                await client.put(key, "old")
                await late[-1].mend()
            await client.upkeep.deliver()
            await client.put(kept, "new")
            await client.delete(deleted)
            assert sum([await one.carry_out() for one in late]) == 2
            found = await client.get(kept)
            assert found
            assert found.value == "new"
            assert await client.get(deleted) is None
            assert_equal_copies(running, client)

    run(test())


@pytest.mark.full
def test_a_write_that_only_one_node_carried_out_late_is_mended_without_a_read(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            key = key_of(client, "n1", "n2")
            done = await client.put(key, "old")
            await client.upkeep.tend()
            line = LateLine(client.nodes["n1"])
            with pytest.raises(NotAcknowledgedError):
                await client.put(key, "late", expect=done.version)
            await line.mend()
            assert await line.carry_out() == 1
            assert running.versions("n1") != running.versions("n2")
            await client.upkeep.tend()
            assert_equal_copies(running, client)
            assert running.records("n2")[key] == "late"

    run(test())


def test_a_put_with_both_copies_away_is_not_acknowledged(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            key = key_of(client, "n1", "n2")
            running.kill("n1")
            running.kill("n2")
            with pytest.raises((NotAcknowledgedError, UnavailableError)):  # it may have been on its way
                await client.put(key, "value")
            with pytest.raises(UnavailableError):  # now it is known that nobody would get it
                await client.put(key, "value")
            assert running.records("n3") == {}
            one_left = key_of(client, "n1", "n3")
            with pytest.raises((NotAcknowledgedError, UnavailableError)):  # one copy only
                await client.put(one_left, "value")

    run(test())


def test_a_conditional_put_needs_every_holder(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            key = key_of(client, "n1", "n2")
            done = await client.put(key, 1)
            running.kill("n2")
            with pytest.raises(UnavailableError):
                await client.put(key, 2, expect=done.version)
            found = await client.get(key)
            assert found
            assert found.value == 1

    run(test())


def test_a_hint_older_than_the_tombstone_loses(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            key = key_of(client, "n1", "n2")
            running.kill("n1")
            await client.put(key, "hinted")
            running.start("n1")
            old = await client.nodes["n3"].hints_of([key])
            await back(client, "n1")
            await client.delete(key)
            await client.nodes["n3"].hint_many([old[0]], "n1", client.view.epoch)  # an old hint turns up late
            await client.upkeep.deliver()
            assert await client.get(key) is None
            assert running.records("n1")[key] is None
            assert_equal_copies(running, client)

    run(test())


def test_no_tombstone_ends_while_a_node_is_away_and_each_ends_when_all_are_there(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            client.upkeep.tombstone_seconds = -60  # all are old enough
            await client.put_many((f"key-{n}", n) for n in range(40))
            running.kill("n1")
            for n in range(20):
                await client.delete(f"key-{n}")
            assert await client.upkeep.reap() == 0
            running.start("n1")
            await back(client, "n1")
            assert await client.upkeep.reap() == 20
            for name in running.names[:3]:
                assert all(value is not None for value in running.records(name).values())
            assert {one.key async for one in client.iterate()} == {f"key-{n}" for n in range(20, 40)}

    run(test())


def test_swapped_addresses_are_noticed(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(50))
        settings = running.settings()
        nodes = dict(settings.nodes) | {"n1": settings.nodes["n2"], "n2": settings.nodes["n1"]}
        swapped = type(settings)(settings.name, nodes, settings.store)
        async with RingClient(swapped, upkeep=False) as client:
            away = client.nodes.away()
            assert set(away) == {"n1", "n2"}
            assert all("data of another node" in reason for reason in away.values())
            with pytest.raises(UnavailableError):
                await client.get(key_of(client, "n1", "n2"))

    run(test())


def test_a_folder_restored_from_a_copy_serves_only_after_it_was_compared(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            await client.put_many((f"key-{n}", "old") for n in range(200))
            await client.delete("key-0")
            running.stop("n1")
            data = running.folder / "data" / "n1"
            shutil.copytree(data, running.folder / "copy")
            running.start("n1")
            await back(client, "n1")
            await client.put_many((f"key-{n}", "new") for n in range(200))
            await client.delete("key-1")
            running.stop("n1")
            shutil.rmtree(data)
            (running.folder / "copy").rename(data)
            running.start("n1")

            async def noticed() -> bool:
                await client.get_many(f"key-{n}" for n in range(20))  # an operation that meets the new process tells
                return "waits to be compared" in client.nodes.away().get("n1", "")

            await until("the new process is noticed", noticed)
            await back(client, "n1")
            found = client.upkeep.compared["n1"]
            assert found.differing == sum("n1" in client.view.holders(f"key-{n}") for n in range(200))
            assert_equal_copies(running, client)
            expected = {f"key-{n}": "new" for n in range(200) if n != 1}
            assert {one.key: one.value async for one in client.iterate()} == expected

    run(test())


def test_an_empty_folder_in_place_of_a_node_is_refused(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            await client.put_many((f"key-{n}", n) for n in range(50))
            running.stop("n1")
            shutil.rmtree(running.folder / "data" / "n1")
            running.start("n1")

            async def noticed() -> bool:
                await client.upkeep.tend()
                return "no ring's data" in client.nodes.away().get("n1", "")

            await until("the empty folder is noticed", noticed)
            assert len([one async for one in client.iterate()]) == 50  # from the others

    run(test())


def test_reads_and_writes_go_on_without_the_membership_store(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            await client.put("key", 1)
            running.kill(STORE)
            try:
                await client.put("key", 2)
                found = await client.get("key")
                assert found
                assert found.value == 2
                with pytest.raises(StoreError):
                    await moves.Mover(client.nodes).begin({"n1": 1, "n2": 1})
            finally:
                running.start(STORE)

    run(test())


@pytest.mark.full
def test_reads_writes_and_hints_go_on_without_the_membership_store_and_the_rest_waits(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            key = key_of(client, "n1", "n2")
            await client.put(key, 1)
            running.kill(STORE)
            try:
                await client.put(key, 2)
                running.kill("n1")
                done = await client.put(key, 3)
                assert done.hints == ("n3",)
                found = await client.get(key)
                assert found
                assert found.value == 3
                with pytest.raises(StoreError):
                    await moves.Mover(client.nodes).begin({"n1": 1, "n2": 1})
                with pytest.raises(StoreError):
                    async with RingClient(running.settings(), upkeep=False):
                        raise AssertionError("a client began without the membership")
                running.start("n1")
                with pytest.raises(StoreError):
                    await client.upkeep.bring_back("n1")
                assert "n1" in client.nodes.away()
            finally:
                running.start(STORE)
            await back(client, "n1")
            await client.upkeep.deliver()
            assert running.records("n1")[key] == 3

    run(test())


@pytest.mark.full
def test_a_declared_ring_waits_for_a_node_that_is_away_as_long_as_it_may_and_names_it(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            wanted = declared.Declared(client.view.ring.weights, virtual_nodes=64)
            await client.put("key", "value")
            running.kill("n1")
            with pytest.raises(StoreError, match=r"waited 0\.5 s for n1: "):
                await declared.converge(client.nodes.settings, wanted, 0.5)
            running.start("n1")
            assert await declared.converge(client.nodes.settings, wanted, 30) == ["compare n1 and let it serve"]

    run(test())


def test_upkeep_in_the_background_brings_a_node_back(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0, upkeep=True) as client:
            key = key_of(client, "n1", "n2")
            running.kill("n1")
            await client.put(key, "value")
            running.start("n1")

            async def whole() -> bool:
                return not client.nodes.away() and running.hints() == 0

            await until("n1 is back", whole)
            assert running.records("n1")[key] == "value"

    run(test())


def test_every_node_killed_at_once_comes_back(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=2.0) as client:
            await client.put_many((f"key-{n}", n) for n in range(100))
            await asyncio.gather(*(client.put(f"key-{n}", n) for n in range(100, 130)))
            for name in running.names[:3]:  # what was acknowledged a moment ago is in their journals
                running.kill(name)
            running.start(*running.names[:3])
            for name in running.names[:3]:
                await back(client, name)
            assert {one.value async for one in client.iterate()} == set(range(130))

    run(test())
