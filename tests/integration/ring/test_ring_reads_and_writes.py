"""A ring whose nodes are all there: values, versions, deletions, many at once, everything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from bson import Decimal128, Int64
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import OperationFailure
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from shardmart.ring import (
    ConflictError,
    Grouped,
    RingClient,
    ValueTooLargeError,
    WrongNodeError,
)
from shardmart.ring.node.connection import WORK_SECONDS
from shardmart.ring.node.record import MAX_RECORD_BYTES
from shardmart.ring.repair.comparison import BATCH_RECORDS
from tests.support.rings import DATABASE, RingServers, assert_equal_copies, make, ring, run


def test_a_put_is_on_exactly_its_holders_before_it_is_acknowledged(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            for n in range(50):
                done = await client.put(f"key-{n}", {"n": n})
                assert done.nodes == client.view.holders(f"key-{n}")
                assert done.hints == ()
            for name in running.names:
                mine = {f"key-{n}": {"n": n} for n in range(50) if name in client.view.holders(f"key-{n}")}
                assert running.records(name) == mine

    run(test())


@pytest.mark.full
def test_a_put_costs_a_request_for_each_holder_and_a_journal(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            asked: list[str] = []

            class Requests(CommandListener):
                def started(self, event: CommandStartedEvent) -> None:
                    if event.command_name not in ("hello", "ping", "saslStart", "saslContinue", "endSessions"):
                        asked.append(event.command_name)
                        journalled.append(event.command.get("writeConcern") == {"w": 1, "j": True})

                def succeeded(self, event: CommandSucceededEvent) -> None:
                    """Nothing to note."""

                def failed(self, event: CommandFailedEvent) -> None:
                    """Nothing to note."""

            journalled: list[bool] = []
            holders = client.view.holders("key")
            await client.get("key")  # connections that were opened meanwhile have been looked at
            for name in holders:
                node = client.nodes[name]
                watched = AsyncMongoClient[dict[str, Any]](
                    running.uri(name), directConnection=True, event_listeners=[Requests()]
                )
                own = node.records
                node.records = watched[own.database.name].get_collection(
                    own.name, codec_options=own.codec_options, write_concern=own.write_concern
                )
            for value in ("new", "written over"):
                done = await client.put("key", value)
                assert done.nodes == holders
            assert asked == ["update"] * 4
            assert all(journalled)
            for name in holders:
                await client.nodes[name].records.database.client.close()

    run(test())


def test_a_client_whose_clock_is_behind_writes_over_what_one_ahead_wrote(
    running: RingServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with ring(running) as client:
            ahead = await client.put("key", "ahead")
            monkeypatch.setattr("shardmart.ring.writing.clock", lambda: 7)
            behind = await client.put("key", "behind")
            assert behind.version > ahead.version
            deleted = await client.delete("key")
            assert deleted.version > behind.version
            assert await client.get("key") is None
            await client.put("key", "again")
            found = await client.get("key")
            assert found
            assert found.value == "again"

    run(test())


def test_nobody_without_the_password_gets_in_and_who_has_it_sees_this_ring_only(running: RingServers) -> None:
    running.reset()
    for name in ("store", *running.names):
        stranger, user = f"mongodb://127.0.0.1:{running.ports[name]}", running.uri(name)
        with (
            MongoClient[dict[str, Any]](stranger, directConnection=True) as nobody,
            pytest.raises(OperationFailure, match="requires authentication"),
        ):
            nobody[DATABASE].records.find_one()
        with MongoClient[dict[str, Any]](user, directConnection=True) as client:
            assert client[DATABASE].records.find_one() is None
            with pytest.raises(OperationFailure, match="not authorized"):
                client["ring_other"].records.find_one()


def test_a_value_is_read_written_over_and_deleted(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            assert await client.get("key") is None
            first = await client.put("key", 1)
            second = await client.put("key", [2])
            assert second.version > first.version
            found = await client.get("key")
            assert found
            assert (found.value, found.version) == ([2], second.version)
            deleted = await client.delete("key")
            assert deleted.version > second.version
            assert await client.get("key") is None
            await client.put("key", None)
            assert await client.get("key") is not None

    run(test())


def test_one_number_is_one_key_whatever_its_type(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            for value in (1, 1.0, Int64(1), Decimal128("1")):
                await client.put(value, str(type(value)))
            await client.put(True, "true")
            await client.put("1", "text")
            assert len([one async for one in client.iterate()]) == 3
            found = await client.get(1)
            assert found
            assert "Decimal128" in found.value

    run(test())


def test_of_two_conditional_puts_on_one_version_one_is_refused(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            first = await client.put("key", 0)
            results = await asyncio.gather(
                *(one.put("key", i, expect=first.version) for i, one in enumerate([client, other] * 5)),
                return_exceptions=True,
            )
            won = [i for i, result in enumerate(results) if not isinstance(result, BaseException)]
            assert len(won) == 1
            assert all(isinstance(result, ConflictError) for i, result in enumerate(results) if i not in won)
            found = await client.get("key")
            assert found
            assert found.value == won[0]

    run(test())


def test_a_conditional_put_creates_only_what_is_not_there(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            created = await client.put("key", 1, expect=None)
            with pytest.raises(ConflictError):
                await client.put("key", 2, expect=None)
            await client.delete("key", expect=created.version)
            await client.put("key", 3, expect=None)  # over the tombstone
            found = await client.get("key")
            assert found
            assert found.value == 3

    run(test())


def test_puts_of_two_clients_on_one_key_leave_equal_copies(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client, RingClient(running.settings(), upkeep=False) as other:
            await asyncio.gather(*(one.put("key", i) for i, one in enumerate([client, other] * 20)))
            holders = client.view.holders("key")
            assert running.versions(holders[0]) == running.versions(holders[1])

    run(test())


def test_many_at_once_are_where_single_ones_would_be(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put("key-7", "older")
            assert await client.put_many((f"key-{n}", n) for n in range(1200)) == 1200
            for name in running.names:
                assert running.records(name) == {
                    f"key-{n}": n for n in range(1200) if name in client.view.holders(f"key-{n}")
                }
            assert sorted(one.value for one in await client.get_many(f"key-{n}" for n in range(0, 1300, 100))) == list(
                range(0, 1200, 100)
            )

    run(test())


def test_iterating_gives_each_key_once_and_no_deleted_one(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put_many((n, n) for n in range(700))
            await client.put_many(
                (Grouped("one group", str(n)), n) for n in range(150)
            )  # one place, over several pages
            await client.delete(5)
            keys = [one.key async for one in client.iterate(page=50)]
            expected = {n for n in range(700) if n != 5} | {Grouped("one group", str(n)) for n in range(150)}
            assert len(keys) == len(expected)
            assert set(keys) == expected

    run(test())


def test_a_group_is_read_as_one(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            for cart in ("a", "b"):
                for line in range(3):
                    await client.put(Grouped(cart, f"line-{line}"), f"{cart}{line}")
            await client.delete(Grouped("a", "line-1"))
            assert [one.value for one in await client.get_group("a")] == ["a0", "a2"]

    run(test())


def test_a_value_too_large_with_its_envelope_is_refused_before_the_first_copy(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running, timeout_seconds=30.0) as client:
            fits = b"x" * (MAX_RECORD_BYTES - 300)
            await client.put("fits", fits)
            owner, backup = client.view.holders("fits")
            (other,) = {"n1", "n2", "n3"} - {owner, backup}
            (record,) = await client.nodes[owner].read_many(["fits"], client.view.epoch)
            await client.nodes[other].hint_many(
                [record], backup, client.view.epoch
            )  # it fits wherever it may have to go
            await client.nodes[backup].forget([record])
            await client.upkeep.deliver()
            assert running.records(backup) == {"fits": fits}
            with pytest.raises(ValueTooLargeError):
                await client.put("large", b"x" * MAX_RECORD_BYTES)
            assert all("large" not in running.records(name) for name in running.names)

    run(test())


def test_a_read_repairs_the_copy_it_finds_stale(running: RingServers) -> None:
    async def test() -> None:
        async with ring(running) as client:
            await client.put("key", "old")
            owner, backup = client.view.holders("key")
            with running.admin(owner) as admin:
                before = admin["ring_test"].records.find_one({"_id": "key"})
                assert before
            await client.put("key", "new")
            with running.admin(owner) as admin:
                admin["ring_test"].records.replace_one({"_id": "key"}, before)
            found = await client.get("key")
            assert found
            assert found.value == "new"
            assert running.versions(owner) == running.versions(backup)

    run(test())


def test_one_server_under_two_names_is_refused(running: RingServers) -> None:
    async def test() -> None:
        running.reset()
        settings = running.settings(["n1", "n2"])
        twice = type(settings)(
            settings.name,
            {"n1": settings.nodes["n1"], "n2": settings.nodes["n1"].replace("127.0.0.1", "localhost")},
            settings.store,
        )
        with pytest.raises(WrongNodeError, match="one server under two names"):
            await make(twice, ["n1", "n2"])

    run(test())


@asynccontextmanager
async def lagging(running: RingServers) -> AsyncIterator[tuple[RingClient, list[str]]]:
    """A ring of 3,000 keys, and these; n1's records are gone behind its back and no hint says so: it lags with all."""
    async with ring(running, timeout_seconds=2.0) as client:
        keys = [f"key-{n}" for n in range(3000)]
        await client.put_many((key, "value") for key in keys)
        with running.admin("n1") as admin:
            assert admin[DATABASE].records.delete_many({"h": {"$exists": True}}).deleted_count > 1000
        yield client, keys


def test_a_read_of_thousands_of_keys_mends_a_node_that_lags_in_a_few_requests_and_within_one_time(
    running: RingServers,
) -> None:
    async def test() -> None:
        async with lagging(running) as (client, keys):
            node, given = client.nodes["n1"], list[tuple[int, float]]()
            apply_many = node.apply_many

            async def counted(records: Any, epoch: int, seconds: float) -> int:
                given.append((len(records), seconds))
                return await apply_many(records, epoch, seconds)

            node.apply_many = counted  # type: ignore[method-assign, assignment]
            assert len(await client.get_many(keys)) == 3000
            missed = sum("n1" in client.view.holders(key) for key in keys)
            assert sum(records for records, _ in given) == missed
            assert len(given) <= missed / BATCH_RECORDS + 4, "as many as fit a request, for each set of holders"
            assert all(2.0 <= seconds <= WORK_SECONDS for _, seconds in given)
            assert_equal_copies(running, client)

    run(test())


def test_what_a_lagging_node_does_not_take_in_time_is_kept_for_it_by_another_and_the_read_answers(
    running: RingServers,
) -> None:
    async def test() -> None:
        async with lagging(running) as (client, keys):

            async def never(*_: object) -> int:
                client.nodes["n1"].leave("does not answer")

            requests: list[int] = []
            for keeper in (client.nodes["n2"], client.nodes["n3"]):
                hint_many = keeper.hint_many

                async def counted(records: Any, *rest: Any, hint_many: Any = hint_many) -> None:
                    requests.append(len(records))
                    await hint_many(records, *rest)

                keeper.hint_many = counted  # type: ignore[method-assign]
            client.nodes["n1"].apply_many = never  # type: ignore[method-assign]
            assert len(await client.get_many(keys)) == 3000
            missed = sum("n1" in client.view.holders(key) for key in keys)
            assert running.hints() == missed
            assert len(requests) <= missed / BATCH_RECORDS + 4

    run(test())
