"""What every store of carts promises (`shop.ports.CartStore`): the same claims on a ring, on MongoDB and in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from shardmart.ring_command.servers import STORE
from shardmart.shop.adapters.memory import Memory, MemoryCarts
from shardmart.shop.adapters.mongodb import client as mongodb
from shardmart.shop.adapters.mongodb.carts import MongoCarts
from shardmart.shop.adapters.ring_carts import RingCartStore
from shardmart.shop.domain.cart import CartLine, pieces
from shardmart.shop.domain.identifiers import Customer
from shardmart.shop.ports import CartStore, StoreError
from tests.support.clusters import EmbeddedCluster
from tests.support.rings import RingServers, make

ANN, BOB = Customer("EMEA", "ann"), Customer("EMEA", "an")
CLIENTS = 2


class Kit:
    """Two clients of one store of carts, as two instances of a service are, in one loop."""

    def __init__(self, *clients: CartStore) -> None:
        self.clients = clients
        self._runner = asyncio.Runner()

    def run(self, body: Coroutine[Any, Any, None]) -> None:
        """Run a test; it may take two minutes."""
        self._runner.run(asyncio.wait_for(body, 120))

    def close(self, *more: Coroutine[Any, Any, None]) -> None:
        """Give back connections and end the loop."""
        for one in more:
            self._runner.run(one)
        self._runner.close()


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RingServers]:
    """Three nodes, a store of membership, and a fourth node that is in no settings yet."""
    servers = RingServers.of(tmp_path_factory.mktemp("ring") / "state", "n1", "n2", "n3", "n4")
    try:
        servers.start()
        asyncio.run(make(servers.settings(timeout_seconds=5.0), ["n1", "n2", "n3"]))
        yield servers
    finally:
        servers.destroy()


def write_settings(file: Path, servers: RingServers, *names: str) -> Path:
    """A file of settings as `make ring` writes it."""
    file.write_text(json.dumps(asdict(servers.settings(names, timeout_seconds=5.0))))
    file.chmod(0o600)
    return file


@pytest.fixture(
    scope="module",
    params=["memory", "ring", "mongodb", pytest.param("mongodb on a cluster", marks=pytest.mark.full)],
)
def kit(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    if request.param == "memory":
        memory = Memory()
        made = Kit(*(MemoryCarts(memory) for _ in range(CLIENTS)))
        yield made
        made.close()
        return
    servers: RingServers
    if request.param == "ring":
        servers = request.getfixturevalue("ring")
        file = write_settings(tmp_path_factory.mktemp("settings") / "settings.json", servers, "n1", "n2", "n3")
        stores = [RingCartStore(file, tends=False) for _ in range(CLIENTS)]
        made = Kit(*stores)
        yield made
        made.close(*(store.close() for store in stores))
        return
    if request.param == "mongodb":  # one server does what a shard does with one document
        servers = request.getfixturevalue("ring")
        uri = servers.root_uri("n4")
        with servers.admin("n4") as admin:
            admin["ecommerce"]["carts"].drop()
    else:
        cluster: EmbeddedCluster = request.getfixturevalue("cluster")
        uri = cluster.uri()
    clients = [mongodb.connect(uri, 30, "contract") for _ in range(CLIENTS)]
    made = Kit(*(MongoCarts(mongodb.database(client, "ecommerce"), 30) for client in clients))
    yield made
    made.close(*(client.close() for client in clients))


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    """Each test begins with two empty carts."""
    if "kit" not in request.fixturenames:
        return
    kit: Kit = request.getfixturevalue("kit")

    async def body() -> None:
        for customer in (ANN, BOB):
            await kit.clients[0].remove(customer, [line.id for line in await kit.clients[0].lines(customer)])

    kit.run(body())


def test_lines_come_back_by_id_and_are_of_one_customer(kit: Kit) -> None:
    async def body() -> None:
        here, there = kit.clients
        assert await here.lines(Customer("APJ", "never-here")) == []
        lines = [CartLine("B", "tea", 1), CartLine("a", "$where {a.b}ß😀", 1000), CartLine("-_9", "tea", 2)]
        for line in lines:
            await here.put(ANN, line)
        await here.put(BOB, CartLine("a", "cup", 7))
        assert await there.lines(ANN) == [lines[2], lines[0], lines[1]]
        assert await there.lines(BOB) == [CartLine("a", "cup", 7)]

    kit.run(body())


def test_the_same_line_again_is_the_same_line_and_the_newest_counts(kit: Kit) -> None:
    async def body() -> None:
        here, there = kit.clients
        for store, quantity in ((here, 1), (there, 5), (here, 3)):
            await store.put(ANN, CartLine("a", "tea", quantity))
        assert await there.lines(ANN) == [CartLine("a", "tea", 3)]

    kit.run(body())


def test_what_was_removed_is_gone_and_what_is_not_there_is_no_error(kit: Kit) -> None:
    async def body() -> None:
        here, there = kit.clients
        for name in "abc":
            await here.put(ANN, CartLine(name, "tea", 1))
        await there.remove(ANN, ["a", "never-there", "c"])
        await there.remove(ANN, ["a"])
        await there.remove(ANN, [])
        await there.remove(BOB, ["a"])
        assert [line.id for line in await here.lines(ANN)] == ["b"]
        await here.put(ANN, CartLine("a", "cup", 2))
        assert await there.lines(ANN) == [CartLine("a", "cup", 2), CartLine("b", "tea", 1)]

    kit.run(body())


def test_two_clients_on_one_cart_lose_no_line_of_each_other(kit: Kit) -> None:
    async def body() -> None:
        await kit.clients[0].put(ANN, CartLine("gone", "cup", 1))

        async def fill(number: int, store: CartStore) -> None:
            await asyncio.gather(*(store.put(ANN, CartLine(f"{number}-{n}", f"p{n}", n + 1)) for n in range(10)))

        await asyncio.gather(
            *(fill(n, store) for n, store in enumerate(kit.clients)), kit.clients[1].remove(ANN, ["gone"])
        )
        for store in kit.clients:
            assert pieces(await store.lines(ANN)) == {f"p{n}": CLIENTS * (n + 1) for n in range(10)}

    kit.run(body())


def test_a_ring_of_more_nodes_than_the_settings_say_is_read_anew_from_the_file(
    ring: RingServers, tmp_path: Path
) -> None:
    from shardmart.ring import RingClient
    from shardmart.ring.moves import Mover

    file = write_settings(tmp_path / "settings.json", ring, "n1", "n2", "n3")

    async def body() -> None:
        store = RingCartStore(file, tends=False)
        customers = [Customer("EMEA", f"u{n}") for n in range(12)]
        try:
            for customer in customers:
                await store.put(customer, CartLine("a", "tea", 1))
            write_settings(file, ring, "n1", "n2", "n3", "n4")
            async with RingClient(ring.settings(timeout_seconds=5.0), upkeep=False) as client:
                mover = Mover(client.nodes)
                for after in (["n1", "n2", "n3", "n4"], ["n1", "n2", "n3"]):
                    await mover.begin(dict.fromkeys(after, 1))
                    await mover.run()
                    for customer in customers:
                        assert await store.lines(customer) == [CartLine("a", "tea", 1)], (customer, after)
        finally:
            await store.close()

    asyncio.run(asyncio.wait_for(body(), 120))


def test_a_service_starts_while_the_store_of_membership_is_away_and_has_its_carts_when_it_is_back(
    ring: RingServers, tmp_path: Path
) -> None:
    file = write_settings(tmp_path / "settings.json", ring, "n1", "n2", "n3")

    async def body() -> None:
        ring.stop(STORE)
        store = RingCartStore(file, tends=True)
        opening = asyncio.create_task(store.open())
        try:
            with pytest.raises(StoreError):
                await store.lines(ANN)
            ring.start(STORE)
            await opening
            await store.put(ANN, CartLine("late", "tea", 1))
            assert CartLine("late", "tea", 1) in await store.lines(ANN)
        finally:
            opening.cancel()
            with suppress(asyncio.CancelledError):
                await opening
            await store.close()
            ring.start(STORE)

    asyncio.run(asyncio.wait_for(body(), 240))
