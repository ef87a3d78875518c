"""Claims of every cache on real servers, and of a cluster: a slot may move and a node go, and no answer is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from shardmart.platforms.embedded_shop import configuration
from shardmart.shop.adapters.memory.state import Memory
from shardmart.shop.adapters.memory.store import MemoryStore
from shardmart.shop.domain.stock import Stock
from shardmart.shop.services.inventory import LOW_STOCK_CHANNEL, CacheKeeper
from shardmart.tasks import cancel
from tests.support.caches import SECONDS, RunningCache, running_cache
from tests.support.shops import wait_until

pytestmark = pytest.mark.integration
PRODUCTS = [f"{n:024x}" for n in range(60)]


@pytest.fixture(scope="module", params=["redis", "redis-cluster", "redis by TLS", "redis-cluster by TLS"])
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCache]:
    kind, _, tls = request.param.partition(" by ")
    with running_cache(tmp_path_factory.mktemp("cache"), kind, tls=bool(tls)) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCache]:
    with running_cache(tmp_path_factory.mktemp("cluster"), "redis-cluster") as running:
        yield running


def of(product: str, available: int, version: int) -> Stock:
    return Stock(product, "EMEA", version, available=available)


def stocks(available: int, version: int) -> list[Stock]:
    return [of(product, available, version) for product in PRODUCTS]


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"waited {SECONDS} s for {what}"
        await asyncio.sleep(0.05)  # polling interval


class Kept:
    """A store in memory whose stocks a keeper copies to a cache, as the inventory does."""

    def __init__(self, cache: RunningCache, available: int, version: int) -> None:
        self.memory, self.client = Memory(), cache.client()
        self.sell(stocks(available, version))
        self.keeper = CacheKeeper(MemoryStore(self.memory), self.client)

    def sell(self, changed: list[Stock]) -> None:
        """What the store has from now on."""
        self.memory.aggregates |= {(Stock, stock.id): stock for stock in changed}

    async def agrees(self) -> bool:
        """Whether the cache says of each product what the store has, and knows that it has all."""
        told = await self.client.stocks(PRODUCTS)
        wanted = {one.id: one.available for one in self.memory.aggregates.values() if isinstance(one, Stock)}
        return told == wanted and await self.client.is_complete()


@contextlib.asynccontextmanager
async def kept(cache: RunningCache, available: int, version: int) -> AsyncIterator[Kept]:
    """A keeper at work."""
    made = Kept(cache, available, version)
    working = asyncio.create_task(made.keeper.run())
    try:
        await until(made.agrees, "the cache to be filled")
        yield made
    finally:
        await cancel(working)


def test_an_older_value_never_replaces_a_newer_one(cache: RunningCache) -> None:
    async def claim() -> None:
        client = cache.client()
        assert await client.put(stocks(7, 2))
        assert await client.put([of(PRODUCTS[0], 9, 1), of(PRODUCTS[1], 5, 3)])
        wanted = dict.fromkeys(PRODUCTS, 7) | {PRODUCTS[1]: 5}
        assert await client.stocks([*PRODUCTS, "f" * 24]) == wanted
        assert await client.stocks([]) == {}

    asyncio.run(claim())


def test_a_message_reaches_whoever_listens_on_any_node(cache: RunningCache) -> None:
    node = cache.shop.caches[-1]
    with cache.reader(node) as reader:
        listening = reader.pubsub()
        listening.subscribe(LOW_STOCK_CHANNEL)
        subscribed = wait_until(lambda: listening.get_message(timeout=1), "to be a subscriber", SECONDS)
        assert subscribed["type"] == "subscribe"
        asyncio.run(cache.client().hint(LOW_STOCK_CHANNEL, "few"))
        heard = wait_until(lambda: listening.get_message(timeout=1), "the message", SECONDS)
        assert heard["data"] == b"few"
        listening.close()


def test_services_may_neither_empty_nor_rebuild_it(cache: RunningCache) -> None:
    node = cache.shop.caches[0]
    with cache.reader(node) as known:
        for words in (("FLUSHALL",), ("CLUSTER", "FORGET", "x" * 40), ("CONFIG", "GET", "*")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                known.execute_command(*words)
    with cache.reader(node, username=None) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.get(f"stock:{PRODUCTS[0]}")


def test_a_server_that_comes_back_empty_is_filled_again(cache: RunningCache) -> None:
    victim = cache.shop.caches[-1].name

    async def claim() -> None:
        async with kept(cache, 20, 20) as shop:
            cache.kill(victim)
            shop.sell(stocks(19, 21))
            await until(lambda: _is(shop.keeper.away), "the keeper to notice")
            told = await shop.client.stocks(PRODUCTS)
            others = {one for one in PRODUCTS if cache.shop.cache_nodes and cache.holder(one) != victim}
            assert set(told) == others
            await until(lambda: _tells(shop, others, 19), "the others to go on")
            cache.start(victim)
            await until(shop.agrees, "the cache to be filled again")

    asyncio.run(claim())


def test_a_node_that_is_silent_for_a_moment_catches_up_while_another_is_away(cluster: RunningCache) -> None:
    gone, silent = (cluster.holder(product) for product in _of_two_nodes(cluster))
    rest = {one for one in PRODUCTS if cluster.holder(one) not in (gone, silent)}
    process = cluster.process(silent).running()
    assert process

    async def claim() -> None:
        async with kept(cluster, 20, 20) as shop:
            cluster.kill(gone)
            await until(lambda: _is(shop.keeper.away), "the keeper to notice")
            process.suspend()  # shorter than the cluster takes to call it failed
            try:
                shop.sell(stocks(19, 21))
                await until(lambda: _tell(cluster.client(), rest, 19), "the third node to have what changed")
            finally:
                process.resume()
            others = {one for one in PRODUCTS if cluster.holder(one) != gone}
            await until(lambda: _tells(shop, others, 19), "the silent one to catch up")
            cluster.start(gone)
            await until(shop.agrees, "the cache to be filled again")

    asyncio.run(claim())


def _of_two_nodes(cluster: RunningCache) -> tuple[str, str]:
    """The first product, and the first that another node has."""
    return PRODUCTS[0], next(one for one in PRODUCTS if cluster.holder(one) != cluster.holder(PRODUCTS[0]))


async def _tell(client: Any, products: set[str], available: int) -> bool:
    told = await client.stocks(PRODUCTS)
    await client.close()
    return {told.get(one) for one in products} == {available}


async def _is(value: bool) -> bool:
    return value


async def _tells(shop: Kept, products: set[str], available: int) -> bool:
    return await shop.client.stocks(PRODUCTS) == dict.fromkeys(products, available)


@pytest.mark.full
def test_a_cluster_is_formed_once_and_a_node_without_its_folder_joins_anew(cluster: RunningCache) -> None:
    assert cluster.converge() == []
    assert cluster.converge(check_mode=True) == []
    assert set(cluster.roles("cache-1").values()) == {"primary"}
    old = next(row[0] for row in cluster.rows("cache-3") if "myself" in row[2])
    cluster.kill("cache-3")
    data = cluster.process("cache-3").data_folder
    assert data
    (data / "nodes.conf").unlink()
    cluster.start("cache-3")
    plan = cluster.converge(check_mode=True)
    assert f"forget the node {old[:8]} of the cache" in plan
    done = cluster.converge()
    assert {f"forget the node {old[:8]} of the cache", "cache-3 meets cache-1"} < set(done)
    assert [line for line in done if line.startswith("give ")] == ["give 5462 slots to cache-3"]
    assert cluster.converge() == []
    cluster.must_be_whole()


@pytest.mark.full
def test_a_slot_moves_while_it_is_read_and_written(cluster: RunningCache) -> None:
    product = PRODUCTS[3]
    slot, giver = key_slot(f"stock:{product}".encode()), cluster.holder(product)
    taker = next(node for node in cluster.shop.cache_nodes if node.name != giver)
    nodes = [node.name for node in cluster.shop.cache_nodes]
    ids = {name: cluster.administrator(name).execute_command("CLUSTER", "MYID") for name in nodes}
    steps: list[Callable[[], Any]] = [
        lambda: cluster.administrator(taker.name).execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[giver]),
        lambda: cluster.administrator(giver).execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[taker.name]),
        lambda: cluster.administrator(giver).execute_command(
            "MIGRATE", taker.host, taker.port, "", 0, 5000, "AUTH2", "administrator",
            cluster.secret(configuration.CACHE_CLUSTER), "KEYS",
            *cluster.administrator(giver).execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100),
        ),
        lambda: cluster.administrator(taker.name).execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[taker.name]),
        lambda: cluster.administrator(giver).execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[taker.name]),
    ]  # fmt: skip

    async def claim() -> None:
        client, other = cluster.client(), cluster.client()
        assert await client.put([of(product, 1000, 1000)])
        await client.mark_complete()
        assert await client.is_complete()
        version = 1000
        for step in steps:
            await asyncio.to_thread(step)
            for _ in range(5):
                version += 1
                assert await client.put([of(product, version, version)])
                for reader in (client, other):
                    assert await reader.stocks([product]) == {product: version}
        assert cluster.holder(product) == taker.name
        assert not await client.is_complete(), "of a slot that moved nobody knows what the new owner was told"
        await client.mark_complete()
        assert await client.is_complete()

    asyncio.run(claim())


@pytest.mark.full
def test_a_replica_takes_over_and_what_it_lacks_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "NODE_TIMEOUT_MS", 1000)
    with running_cache(tmp_path / "cache", "redis-cluster", replicas=1) as cluster:
        assert cluster.converge() == []

        async def claim() -> None:
            victim = cluster.holder(PRODUCTS[0])
            async with kept(cluster, 20, 20) as shop:
                cluster.kill(victim)
                shop.sell(stocks(18, 22))
                begun = time.monotonic()
                await until(shop.agrees, "a replica to take over, and to be filled")
                print(f"a part of the cache was away for {time.monotonic() - begun:.1f} s")
                assert cluster.holder(PRODUCTS[0]) != victim
                cluster.start(victim)
                await until(lambda: asyncio.to_thread(_follows, cluster, victim), "the former primary to follow")
                shop.sell(stocks(17, 23))
                await until(shop.agrees, "the cache to follow the store")

        asyncio.run(claim())
        assert cluster.converge() == [], "roles stay as they are after a failover"


def _follows(cluster: RunningCache, name: str) -> bool:
    return cluster.roles("cache-1")[name] == "replica"
