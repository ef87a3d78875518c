"""Nodes that return with an older folder, several at once, or to two clients that both want them back."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shardmart.ring import ChangeRefusedError, RingClient
from shardmart.ring.errors import NodeAwayError, NodeRefusesError, RingError
from shardmart.ring.moves import Mover
from shardmart.ring.node.connection import FENCE
from shardmart.ring.node.node import Node
from shardmart.ring.repair import upkeep
from shardmart.ring_command.servers import STORE
from tests.support.rings import DATABASE, RingServers, assert_equal_copies, back, key_of, ring, run, until

Call = Callable[..., Awaitable[Any]]
pytestmark = pytest.mark.full


def content(running: RingServers, name: str) -> list[dict[str, Any]]:
    """What is in a node's folder, fence included."""
    with running.admin(name) as server:
        return list(server[DATABASE].records.find())


def restore(running: RingServers, name: str, documents: list[dict[str, Any]]) -> None:
    """Have a node hold what it held then, as a folder that is restored does; the epoch it serves stays."""
    with running.admin(name) as server:
        records = server[DATABASE].records
        fence = records.find_one({"_id": FENCE})
        assert fence
        records.delete_many({})
        records.insert_many([one | {"e": fence["e"]} if one["_id"] == FENCE else one for one in documents])


async def all_wait(client: RingClient, *names: str) -> None:
    """These nodes wait to be compared, as after a start."""
    for name in names:
        assert await client.nodes.membership.withdraw(client.view.members[name], "nobody's")
    await client.nodes.refresh()
    assert set(names) <= client.nodes.away().keys()


async def ended(client: RingClient, *keys: str) -> None:
    """These keys are deleted, and their tombstones end."""
    await client.delete_many(keys)
    client.upkeep.tombstone_seconds = -60  # all are old enough
    assert await client.upkeep.reap() == len(keys)


async def expect(running: RingServers, client: RingClient, expected: dict[str, Any]) -> None:
    assert {one.key: one.value async for one in client.iterate()} == expected
    assert_equal_copies(running, client)


def leases_end(running: RingServers) -> None:
    with running.admin(STORE) as store:
        store[DATABASE].leases.delete_many({})


def test_a_deletion_stays_when_an_old_folder_returns_together_with_other_nodes(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(60))
            old = content(running, "n2")
            deleted = key_of(client, "n1", "n2")
            await ended(client, deleted)
            restore(running, "n2", old)
            await all_wait(client, "n1", "n2", "n3")
            with pytest.raises(NodeAwayError, match="the folder of n2 is older"):
                await client.upkeep.bring_back("n1")
            await client.upkeep.tend()
            assert client.nodes.away() == {}
            expected = {f"key-{n}": n for n in range(60)}
            del expected[deleted]
            await expect(running, client, expected)

    run(test())


def test_a_deletion_stays_when_the_last_node_has_an_old_folder_and_all_were_started_again(
    running: RingServers,
) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(60))
            running.stop("n3")
            data = running.folder / "data" / "n3"
            shutil.copytree(data, running.folder / "older-n3")
            running.start("n3")
            await back(client, "n3")
            deleted = key_of(client, "n1", "n3")
            await ended(client, deleted)
            for name in running.names[:3]:
                running.stop(name)
            shutil.rmtree(data)
            (running.folder / "older-n3").rename(data)
            running.start(*running.names[:3])
            for name in running.names[:3]:
                await back(client, name)
            expected = {f"key-{n}": n for n in range(60)}
            del expected[deleted]
            await expect(running, client, expected)

    run(test())


def test_what_only_another_old_folder_holds_goes_to_the_one_that_is_trusted(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(60))
            older = content(running, "n1")
            only = key_of(client, "n1", "n2")
            await client.put(only, "in the folder of n2 alone")
            old = content(running, "n2")
            deleted = key_of(client, "n2", "n3")
            await ended(client, deleted)
            restore(running, "n1", older)
            restore(running, "n2", old)
            await all_wait(client, "n1", "n2")
            for name in ("n1", "n2"):
                with pytest.raises(NodeAwayError, match="and so is that of"):
                    await client.upkeep.bring_back(name)
            await client.upkeep.bring_back("n1", trust=True)
            await client.upkeep.tend()
            expected = {f"key-{n}": n for n in range(60)} | {only: "in the folder of n2 alone"}
            found = {one.key: one.value async for one in client.iterate()}
            assert found.pop(deleted, 0) in (0, expected.pop(deleted))  # it may be back
            assert found == expected
            assert_equal_copies(running, client)

    run(test())


def test_a_node_whose_filling_was_interrupted_does_not_count_as_whole(
    running: RingServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(60))
            old = {name: content(running, name) for name in ("n1", "n2")}
            deleted = key_of(client, "n2", "n3")
            await ended(client, deleted)
            restore(running, "n1", old["n1"])
            await all_wait(client, "n1")

            async def interrupted(*_: object) -> None:
                raise NodeAwayError("n3", "the line is cut")

            with monkeypatch.context() as patch:
                patch.setattr(upkeep, "compare", interrupted)
                with pytest.raises(NodeAwayError, match="the line is cut"):
                    await client.upkeep.bring_back("n1")
            assert running.records("n1") == {}

            restore(running, "n2", old["n2"])  # the only copy of what n1 and n2 hold
            await all_wait(client, "n1", "n2")
            await client.upkeep.tend()
            assert set(client.nodes.away()) == {"n1", "n2"}
            await client.upkeep.bring_back("n2", trust=True)
            emptied: list[object] = []
            monkeypatch.setattr(client.nodes["n1"], "clear", lambda *_: emptied.append(1))
            await client.upkeep.tend()
            assert emptied == []
            expected = {f"key-{n}": n for n in range(60)}
            found = {one.key: one.value async for one in client.iterate()}
            assert found.pop(deleted, 0) in (0, expected.pop(deleted))  # it may be back
            assert found == expected
            assert_equal_copies(running, client)
            assert await client.nodes["n1"].reaps() == client.view.reaps

    run(test())


def before_it(node: Node, method: str, happens: Callable[[], Awaitable[None]]) -> None:
    """Have something happen before the first call of a node's method goes out."""
    original: Call = getattr(node, method)

    async def late(*arguments: Any, **options: Any) -> Any:
        setattr(node, method, original)
        await happens()
        return await original(*arguments, **options)

    setattr(node, method, late)


@pytest.mark.parametrize("sleeps_before", ["clear", "note_emptied", "note_told", "apply_many"])
def test_who_wakes_when_another_has_brought_the_node_back_changes_nothing(
    running: RingServers, sleeps_before: str
) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            await client.put_many((f"key-{n}", n) for n in range(60))
            old = content(running, "n1")
            deleted, new = key_of(client, "n1", "n3"), key_of(client, "n1", "n2")
            await ended(client, deleted)
            restore(running, "n1", old)
            await all_wait(client, "n1")

            async def meanwhile() -> None:
                async def done() -> bool:
                    leases_end(running)
                    await other.upkeep.tend()
                    return "n1" not in other.nodes.away()

                await until("n1 is in service", done)
                assert "n1" in (await other.put(new, "new")).nodes
                (record,) = await other.nodes["n1"].read_many([new], other.view.epoch)
                await other.nodes["n1"].hint_many([record], "n2", other.view.epoch)

            before_it(client.nodes["n1"], sleeps_before, meanwhile)
            with pytest.raises(RingError):
                await client.upkeep.bring_back("n1")
            await client.nodes.refresh()
            assert client.nodes.away() == {}
            assert running.hints() == 1
            await expect(running, client, _without({f"key-{n}": n for n in range(60)} | {new: "new"}, deleted))

    run(test())


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def test_of_two_that_want_a_node_back_at_once_one_waits(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            await all_wait(client, "n1")
            await other.nodes.refresh()

            async def meanwhile() -> None:
                with pytest.raises(NodeAwayError, match="another client compares it"):
                    await other.upkeep.bring_back("n1")

            before_it(client.nodes["n1"], "reaps", meanwhile)
            assert await client.upkeep.bring_back("n1")
            await other.nodes.refresh()
            assert not await other.upkeep.bring_back("n1")
            assert other.nodes.away() == {}

    run(test())


def test_a_node_serves_by_the_word_of_the_one_who_withdrew_it_last(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            await all_wait(client, "n1")

            async def meanwhile() -> None:
                await other.nodes.refresh()
                await all_wait(other, "n1")

            before_it(client.nodes["n1"], "reaps", meanwhile)
            with pytest.raises(NodeAwayError, match="another client compares it"):
                await client.upkeep.bring_back("n1")
            await client.nodes.refresh()
            assert set(client.nodes.away()) == {"n1"}
            await back(other, "n1")

    run(test())


def test_no_number_of_an_end_of_tombstones_is_used_twice(running: RingServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that ends half way has told some nodes its number; a folder may be copied then."""

    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(60))
            first, deleted = key_of(client, "n2", "n3"), key_of(client, "n1", "n2")
            await client.delete(first)
            client.upkeep.tombstone_seconds = -60

            async def silent(*_: object) -> bool:
                client.nodes["n3"].leave("does not answer")

            with monkeypatch.context() as patch:
                patch.setattr(client.nodes["n3"], "count_reaps", silent)
                assert await client.upkeep.reap() == 0
            copied = content(running, "n1")
            await client.nodes.look(["n3"])
            await client.delete(deleted)
            assert await client.upkeep.reap() == 2
            restore(running, "n1", copied)
            await all_wait(client, "n1")
            await client.upkeep.tend()
            expected = {f"key-{n}": n for n in range(60)}
            del expected[first], expected[deleted]
            await expect(running, client, expected)

    run(test())


def test_what_one_node_refuses_does_not_keep_hints_from_the_others(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            for target, key in (("n2", key_of(client, "n2", "n3")), ("n3", key_of(client, "n3", "n2"))):
                done = await client.put(key, 1)
                (record,) = await client.nodes[target].read_many([key], client.view.epoch)
                assert done.version == record.version
                await client.nodes["n1"].hint_many([record], target, client.view.epoch)

            async def full(*_: object, **__: object) -> int:
                raise NodeRefusesError("n2", 14031, "the disk is full")

            client.nodes["n2"].apply_many = full  # type: ignore[method-assign]
            await client.upkeep.tend()
            assert await client.upkeep.hints() == {"n2": 1}
            with pytest.raises(NodeRefusesError):
                await client.upkeep.deliver(strict=True)

    run(test())


def test_a_node_that_waits_to_be_compared_is_not_given_up_for_lost(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await Mover(client.nodes).begin(dict.fromkeys(running.names, 1))
            await all_wait(client, "n4")
            with pytest.raises(ChangeRefusedError, match="n4 answers"):
                await Mover(client.nodes).give_up("n4")
            await client.upkeep.tend()
            await Mover(client.nodes).run()
            assert set(client.view.ring.weights) == set(running.names)

    run(test())


def test_a_node_is_emptied_and_filled_while_nodes_change(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((f"key-{n}", n) for n in range(60))
            old = content(running, "n1")
            deleted = key_of(client, "n1", "n2")
            await ended(client, deleted)
            await Mover(client.nodes).begin(dict.fromkeys(running.names, 1))
            restore(running, "n1", old)
            await all_wait(client, "n1")
            await client.upkeep.tend()
            await Mover(client.nodes).run()
            await expect(running, client, _without({f"key-{n}": n for n in range(60)}, deleted))

    run(test())
