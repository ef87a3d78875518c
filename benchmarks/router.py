"""Figures of the development router beside the same work straight on one primary, both measured in one run.

    python benchmarks/router.py [--documents 50000] [--json]

Starts a cluster of its own (one config server, two shards of one member) on free ports and ends it afterwards. Prints
a Markdown table: insert_many of 1,000-document batches, point finds, and the router's memory with 100 clients.
Exit code 1 when a figure misses its bound.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import command_line
import psutil
from pymongo import MongoClient, WriteConcern

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.clusters import EmbeddedCluster, embedded_cluster

BATCH = 1000
RATE_BOUND, FIND_BOUND_MS, MEMORY_BOUND_MB = 0.5, 2.0, 120.0


def document(number: int) -> dict[str, Any]:
    """An order such as the loader writes."""
    return {
        "_id": number,
        "region": ("APJ", "EMEA", "LATAM")[number % 3],
        "user_id": number % 5000,
        "items": [{"product_id": number % 97 + i, "quantity": 1 + i, "unit_price_cents": 1999} for i in range(3)],
        "total_cents": 11994,
        "status": "paid",
    }


def insert(collection: Any, start: int, count: int) -> float:
    """Documents per second of unordered batches."""
    batches = [[document(i) for i in range(at, at + BATCH)] for at in range(start, start + count, BATCH)]
    began = time.perf_counter()
    for batch in batches:
        collection.insert_many(batch, ordered=False)
    return count / (time.perf_counter() - began)


def finds(collection: Any, count: int, queries: int = 2000) -> list[float]:
    """Milliseconds of each point find."""
    times = []
    for i in range(queries):
        wanted = document(i * 7919 % count)
        query = {key: wanted[key] for key in ("_id", "region", "user_id")}
        began = time.perf_counter()
        assert collection.find_one(query)
        times.append((time.perf_counter() - began) * 1000)
    return times


def memory_with_clients(cluster: EmbeddedCluster, count: int = 100) -> float:
    """Resident megabytes of the router while `count` clients are connected and have worked."""
    clients: list[MongoClient[dict[str, Any]]] = [cluster.client(maxPoolSize=1) for _ in range(count)]
    try:
        for i, client in enumerate(clients):
            client.bench.orders.find_one({"region": "APJ", "user_id": i})
        process = cluster.processes["mongos1"].running()
        assert process
        return psutil.Process(process.pid).memory_info().rss / 2**20
    finally:
        for client in clients:
            client.close()


def measure(cluster: EmbeddedCluster, count: int) -> dict[str, Any]:
    """All figures."""
    shard = cluster.description.shards[0].members[0].address
    majority = WriteConcern("majority")
    rates: dict[str, list[float]] = {"direct": [], "router": []}
    with (
        cluster.client() as through,
        MongoClient(shard, directConnection=True, **cluster.members_credentials.options()) as direct,
    ):
        through.admin.command("balancerStop")
        through.admin.command("shardCollection", "bench.orders", key={"user_id": "hashed"})
        direct.straight.orders.create_index([("user_id", "hashed")])
        sides = {
            "direct": direct.straight.get_collection("orders", write_concern=majority),
            "router": through.bench.get_collection("orders", write_concern=majority),
        }
        for side in sides.values():
            insert(side, 10**9, BATCH)
        for start in range(0, count, BATCH):  # batch by batch in turns, so that a slow moment hits both
            for name, side in sides.items():
                rates[name].append(insert(side, start, BATCH))
        latencies = {name: finds(side, count) for name, side in sides.items()}
    return {
        "insert_direct": statistics.median(rates["direct"]),
        "insert_router": statistics.median(rates["router"]),
        "insert_ratio": statistics.median(rates["router"]) / statistics.median(rates["direct"]),
        "find_direct_ms": statistics.median(latencies["direct"]),
        "find_router_ms": statistics.median(latencies["router"]),
        "find_router_p95_ms": statistics.quantiles(latencies["router"], n=20)[-1],
        "memory_mb": memory_with_clients(cluster),
        "load_average": os.getloadavg()[0],
        "router": "development router" if "shardmart.router" in cluster.processes["mongos1"].command else "mongos",
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    rows = [
        ("insert_many, 1,000 documents a batch, w: majority (documents/s)", f"{figures['insert_direct']:,.0f}",
         f"{figures['insert_router']:,.0f}", f"ratio {figures['insert_ratio']:.2f}, at least {RATE_BOUND}"),
        ("point find by shard key, median (ms)", f"{figures['find_direct_ms']:.2f}",
         f"{figures['find_router_ms']:.2f} (p95 {figures['find_router_p95_ms']:.2f})", f"at most {FIND_BOUND_MS:g}"),
        ("memory with 100 clients (MB)", "-", f"{figures['memory_mb']:.0f}", f"at most {MEMORY_BOUND_MB:g}"),
    ]  # fmt: skip
    head = f"| | straight to one primary | through the {figures['router']} | bound |\n|---|---|---|---|"
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, *lines, f"\nLoad average of the machine at the end: {figures['load_average']:.1f}."])


def main() -> int:
    """Measure and print; 1 when a bound is missed."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--documents", type=int, default=50_000, help="documents per side (default 50,000)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, embedded_cluster(Path(folder) / "state") as cluster:
        figures = measure(cluster, max(options.documents // BATCH, 5) * BATCH)
    print(json.dumps(figures, indent=2) if options.json else table(figures))
    met = (
        figures["insert_ratio"] >= RATE_BOUND
        and figures["find_router_ms"] <= FIND_BOUND_MS
        and figures["memory_mb"] <= MEMORY_BOUND_MB
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
