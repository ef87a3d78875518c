"""What a ring costs and gives, both sides in one run, on servers of this machine that it starts and stops.

Throughput of puts and gets, single ones from many tasks and many at once: PyMongo's asynchronous client on one plain
server, and the ring's client, which uses the same, on one node and on three with one and two copies.  Time without an
answer after kill -9 and SIGSTOP of a node; moved ÷ minimum and the spread of keys; placement beside uhashring.

Usage: .venv/bin/python benchmarks/ring.py [--documents 4000] [--rounds 3] [--json]
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import command_line
from pymongo import AsyncMongoClient, ReplaceOne
from pymongo.write_concern import WriteConcern
from uhashring import HashRing  # type: ignore[import-untyped]

from shardmart.cluster.host import binaries
from shardmart.declare import versions
from shardmart.platforms.state import State
from shardmart.ring import Ring, RingClient, RingError
from shardmart.ring.moves import Mover, create
from shardmart.ring.node.nodes import Nodes
from shardmart.ring_command.demonstrations import VALUES
from shardmart.ring_command.servers import Servers

NODES = ("n1", "n2", "n3", "n4")
TASKS = 32
BATCH = 500
VALUE = {"name": "a document of a usual size", "tags": ["x"] * 20, "quantity": 7}
TIMEOUT_SECONDS = 1.0
PLACEMENTS = 100_000
Do = Callable[[str], Awaitable[Any]]


async def rate(keys: list[str], do: Do) -> float:
    """Operations a second of TASKS tasks that share the keys."""
    waiting = iter(keys)

    async def work() -> None:
        for key in waiting:
            await do(key)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(TASKS)))
    return len(keys) / (time.perf_counter() - began)


async def bulk_rate(keys: list[str], do: Callable[[list[str]], Awaitable[Any]]) -> float:
    """The same for requests of BATCH keys, one after the other."""
    began = time.perf_counter()
    for start in range(0, len(keys), BATCH):
        await do(keys[start : start + BATCH])
    return len(keys) / (time.perf_counter() - began)


async def plain(servers: Servers, keys: list[str]) -> dict[str, float]:
    """One server, no ring: PyMongo's asynchronous client, journalled writes."""
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(servers.uri("n1"), directConnection=True)
    collection = client[f"ring_{servers.ring}"].get_collection("plain", write_concern=WriteConcern(1, j=True))
    try:
        await collection.drop()

        async def put(key: str) -> None:
            await collection.replace_one({"_id": key}, {"x": VALUE}, upsert=True)

        async def put_many(some: list[str]) -> None:
            await collection.bulk_write([ReplaceOne({"_id": key}, {"x": VALUE}, upsert=True) for key in some])

        async def get(key: str) -> None:
            assert await collection.find_one({"_id": key})

        async def get_many(some: list[str]) -> None:
            assert len(await collection.find({"_id": {"$in": some}}).to_list()) == len(some)

        return await four(keys, put, get, put_many, get_many)
    finally:
        await client.close()


async def four(keys: list[str], put: Do, get: Do, put_many: Any, get_many: Any) -> dict[str, float]:
    """The four rates."""
    found = {"put/s": await rate(keys, put), "get/s": await rate(keys, get)}
    others = [f"many-{key}" for key in keys]
    return found | {"put_many/s": await bulk_rate(others, put_many), "get_many/s": await bulk_rate(others, get_many)}


async def new_ring(servers: Servers, names: Iterable[str], copies: int) -> None:
    """A ring of these nodes with nothing in it."""
    for name in ("store", *NODES):
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(servers.uri(name), directConnection=True)
        for collection in ("records", "hints", "membership", "leases"):
            await client[f"ring_{servers.ring}"][collection].drop()
        await client.close()
    nodes = Nodes(servers.settings(timeout_seconds=30.0))
    try:
        await create(nodes, dict.fromkeys(names, 1), copies=copies)
    finally:
        await nodes.close()


async def ringed(servers: Servers, keys: list[str], names: Iterable[str], copies: int) -> dict[str, float]:
    """The same through the ring's client."""
    await new_ring(servers, names, copies)
    async with RingClient(servers.settings(timeout_seconds=30.0), upkeep=False) as ring:

        async def put_many(some: list[str]) -> None:
            await ring.put_many((key, VALUE) for key in some)

        return await four(keys, lambda key: ring.put(key, VALUE), ring.get, put_many, ring.get_many)


async def without_answer(servers: Servers, number: int) -> dict[str, float]:
    """The longest time between two answers of one task that gets, and one that puts, keys of a node that is hit."""
    await new_ring(servers, NODES[:3], 2)
    async with RingClient(servers.settings(timeout_seconds=30.0), upkeep=False) as ring:
        keys = [key for n in range(2000) if ring.view.holders(key := f"key-{n}")[0] == "n2"][:200]
        await ring.put_many((key, VALUE) for key in keys)
    async with RingClient(servers.settings(timeout_seconds=TIMEOUT_SECONDS), upkeep=False) as ring:
        gaps = {"get": 0.0, "put": 0.0}
        stop = asyncio.Event()

        async def watch(kind: str, do: Do) -> None:
            last = time.perf_counter()
            while not stop.is_set():
                for key in keys:
                    with suppress(RingError):
                        await do(key)
                        now = time.perf_counter()
                        gaps[kind], last = max(gaps[kind], now - last), now

        tasks = [
            asyncio.create_task(watch("get", ring.get)),
            asyncio.create_task(watch("put", lambda key: ring.put(key, VALUE))),
        ]
        await asyncio.sleep(1)
        servers.kill("n2", number)
        await asyncio.sleep(4 * TIMEOUT_SECONDS)
        stop.set()
        await asyncio.gather(*tasks)
    if number == signal.SIGSTOP:
        servers.kill("n2", signal.SIGCONT)
    servers.start("n2")
    return gaps


async def moved(servers: Servers, count: int) -> dict[str, float]:
    """Spread of keys over three nodes, and what a fourth and its leaving move, over the least possible."""
    await new_ring(servers, NODES[:3], 1)
    async with RingClient(servers.settings(timeout_seconds=30.0), upkeep=False) as ring:
        await ring.put_many((f"key-{n}", n) for n in range(count))

        async def counts() -> dict[str, int]:
            return {name: await ring.nodes[name].records.count_documents(VALUES) for name in NODES}

        first = await counts()
        mean = count / 3
        deviation = (sum((first[name] - mean) ** 2 for name in NODES[:3]) / 3) ** 0.5 / mean
        result = {"sigma of keys per node (%)": 100 * deviation}
        for title, after in (("add", NODES), ("remove", NODES[:3])):
            before = await counts()
            mover = Mover(ring.nodes)
            await mover.begin(dict.fromkeys(after, 1))
            copied = (await mover.run()).copied
            least = (await counts())["n4"] if title == "add" else before["n4"]
            result[f"moved / minimum, {title}"] = copied / least
        assert await counts() == first
    return result


def placement(nodes: int) -> dict[str, float]:
    """Placements a second of CPU: owner and backup here, owner of uhashring (ketama's points, its default)."""
    names = {f"n{i}": 1 for i in range(nodes)}
    keys = [f"key-{n}" for n in range(PLACEMENTS)]
    ours, theirs = Ring(names), HashRing(nodes=list(names))
    found = {}
    for title, place in (("shardmart.ring", ours.holders), ("uhashring", theirs.get_node)):
        place("warm")
        began = time.process_time()
        for key in keys:
            place(key)
        found[f"{title}, {nodes} nodes (placements/CPU s)"] = PLACEMENTS / (time.process_time() - began)
    return found


async def measure(servers: Servers, documents: int, rounds: int) -> dict[str, Any]:
    """Everything, throughput in rounds that take turns."""
    keys = [f"document-{n}" for n in range(documents)]
    sides: dict[str, Callable[[], Awaitable[dict[str, float]]]] = {
        "one plain server, PyMongo": lambda: plain(servers, keys),
        "ring of one node, 1 copy": lambda: ringed(servers, keys, NODES[:1], 1),
        "ring of three nodes, 1 copy": lambda: ringed(servers, keys, NODES[:3], 1),
        "ring of three nodes, 2 copies": lambda: ringed(servers, keys, NODES[:3], 2),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, side in sides.items():
            runs[name].append(await side())
            print(f"round {number + 1}, {name}: {_row(runs[name][-1])}", flush=True)
    throughput = {
        name: {rate: statistics.median(run[rate] for run in found) for rate in found[0]} for name, found in runs.items()
    }
    gaps = {}
    for title, number in (("kill -9", signal.SIGKILL), ("SIGSTOP", signal.SIGSTOP)):
        found = [await without_answer(servers, number) for _ in range(rounds)]
        gaps[title] = {kind: max(gap[kind] for gap in found) for kind in found[0]}
        print(f"{title}: longest time without an answer {gaps[title]}", flush=True)
    return {
        "throughput": throughput,
        "seconds without an answer": gaps,
        "moves": await moved(servers, documents),
        "placement": placement(3) | placement(100),
    }


def _row(rates: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.0f}" for name, value in rates.items())


def main() -> None:
    """Start servers, measure, print tables."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    arguments = parser.parse_args()
    pins = versions.load()
    found = binaries.locate(State.find().folder / "binaries", pins.sources(pins.mongodb)).binaries
    assert found
    with tempfile.TemporaryDirectory(prefix="ring-bench-") as folder:
        servers = Servers(Path(folder), str(found.mongod), "bench", NODES)
        try:
            servers.start()
            results = asyncio.run(measure(servers, arguments.documents, arguments.rounds))
        finally:
            servers.destroy()
    if arguments.json:
        print(json.dumps(results, indent=2))
        return
    print(f"\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}\n")
    print("| median of rounds | put/s | get/s | put_many/s | get_many/s |\n|---|--:|--:|--:|--:|")
    for name, rates in results["throughput"].items():
        print(f"| {name} | {' | '.join(f'{value:,.0f}' for value in rates.values())} |")
    print(f"\n| longest time without an answer, timeout {TIMEOUT_SECONDS:g} s | get (s) | put (s) |\n|---|--:|--:|")
    for title, gaps in results["seconds without an answer"].items():
        print(f"| {title} of a node | {gaps['get']:.2f} | {gaps['put']:.2f} |")
    print("\n| | |\n|---|--:|")
    for name, value in (results["moves"] | results["placement"]).items():
        print(f"| {name} | {value:,.2f} |" if value < 1000 else f"| {name} | {value:,.0f} |")


if __name__ == "__main__":
    main()
