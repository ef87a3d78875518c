"""The loader against insert_many of one ready-made document: same cluster, router, collection, size, workers, batches.

    SHARDMART_STATE=... python benchmarks/loader_end_to_end.py [--orders 100000] [--rounds 3] [--workers 2]

Needs a running cluster; adds data sets of seeds of its own and, without --keep, deletes all orders at the end.  Each
round measures, in turn, with w: majority and worker
processes that have started:

- the loader writing orders nobody has written before (making them included, verification apart);
- insert_many of one ready-made order of the mean size. It has one region and one user, so it all lands on one shard;
- the same with the user of each document picked from those of the load, so that it spreads over the shards.

Prints Markdown; ratios are of medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from decimal import Decimal
from multiprocessing import get_context
from typing import Any

import bson
import command_line
from pymongo import MongoClient
from rich.console import Console

from shardmart.declare import data_model
from shardmart.loader.batches import WRITE_CONCERN, Job
from shardmart.loader.connection import connect
from shardmart.loader.generation.dataset import Counts, DataSet
from shardmart.loader.progress import LineReporter
from shardmart.loader.run import Options, Run
from shardmart.loader.survey import empty
from shardmart.platforms.state import resolve_uri

MODEL = data_model.load()
PER_USER = 10
Document = dict[str, Any]
_client: MongoClient[Document]


def start_worker(uri: str) -> None:
    """Connect once per process."""
    global _client
    _client = connect(uri)


def ping(_: int) -> None:
    """Open this process's connection."""
    _client.admin.command("ping")


def insert(ready_made: Document, users: list[Document], count: int) -> int:
    """Insert `count` copies, each as another of `users` when there are some."""
    orders = _client.get_database(MODEL.database, write_concern=WRITE_CONCERN)["orders"]
    if users:
        documents = [{**ready_made, **users[i % len(users)]} for i in range(count)]
    else:
        documents = [dict(ready_made) for _ in range(count)]
    return len(orders.insert_many(documents, ordered=False).inserted_ids)


def baseline(uri: str, ready_made: Document, users: list[Document], orders: int, workers: int, batch: int) -> float:
    """Orders per second of plain insert_many."""
    context = get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker, initargs=(uri,)) as pool:
        list(pool.map(ping, range(workers * 10)))
        started = time.monotonic()
        futures = [pool.submit(insert, ready_made, users, min(batch, orders - at)) for at in range(0, orders, batch)]
        inserted = sum(future.result() for future in futures)
        seconds = time.monotonic() - started
    assert inserted == orders
    return orders / seconds


def loaded(job: Job, workers: int, batch: int) -> tuple[float, float]:
    """Orders per second of the loader: (written, written and verified)."""
    run = Run(Options(job, workers, batch, merge=True), MODEL, LineReporter(Console(stderr=True)))
    result = run.load()
    assert result.as_document()["verified"]
    orders = result.collections["orders"]
    assert orders.tally.written == job.counts.orders
    # Users and products come before the orders and have a time of their own.
    seconds = orders.write_seconds
    return job.counts.orders / seconds, job.counts.orders / (seconds + orders.verify_seconds)


def mean_order(dataset: DataSet) -> tuple[Document, float]:
    """The order nearest to the mean BSON size of the first 10,000, and that mean."""
    sizes = [(len(bson.encode(order)), order) for order in dataset.documents("orders", 0, 10_000)]
    mean = statistics.fmean(size for size, _ in sizes)
    order = min(sizes, key=lambda pair: abs(pair[0] - mean))[1]
    del order["_id"]
    return order, mean


def main() -> None:
    """Measure and print."""
    arguments = command_line.parser(__doc__)
    arguments.add_argument("--orders", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--batch", type=int, default=1000)
    arguments.add_argument("--keep", action="store_true", help="leave the documents in the cluster")
    options = arguments.parse_args()
    uri = resolve_uri(user="loader")
    rates: dict[str, list[float]] = {"loader": [], "verified": [], "one": [], "spread": []}
    mean = 0.0
    with connect(uri) as client:
        counts = Counts(options.orders // PER_USER, PER_USER, 1000)
        first_seed = int(time.time())
        for seed in range(first_seed, first_seed + options.rounds):
            job = Job(uri, MODEL.database, seed, counts, Decimal(1), MODEL.regions)
            dataset = job.dataset()
            ready_made, mean = mean_order(dataset)
            users = [{"region": u["region"], "user_id": u["_id"]} for u in dataset.documents("users", 0, counts.users)]
            written, verified = loaded(job, options.workers, options.batch)
            rates["loader"].append(written)
            rates["verified"].append(verified)
            sizes = (options.orders, options.workers, options.batch)
            rates["one"].append(baseline(uri, ready_made, [], *sizes))
            rates["spread"].append(baseline(uri, ready_made, users, *sizes))
            print(f"round {seed - first_seed + 1}:", {n: round(v[-1]) for n, v in rates.items()}, file=sys.stderr)
        if not options.keep:
            sum(empty(client, MODEL))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{options.orders:,} orders of {mean:.0f} bytes, {options.workers} workers, batches of {options.batch:,},")
    print(f"w: majority, medians of {options.rounds} rounds\n")
    print("| orders per second | median | all rounds | loader / this |")
    print("|---|---:|---|---:|")
    for name, what in (
        ("loader", "`shardmart load`"),
        ("one", "insert_many of one ready-made order (one shard)"),
        ("spread", "the same, users of all regions (all shards)"),
        ("verified", "`shardmart load`, read back and compared"),
    ):
        ratio = middle["loader"] / middle[name]
        every = ", ".join(f"{value:,.0f}" for value in rates[name])
        print(f"| {what} | {middle[name]:,.0f} | {every} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
