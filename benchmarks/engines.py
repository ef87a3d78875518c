"""Compare the engines that the shop runs on: the same shop, the same paces, one after the other in one run.

Each gets a cluster of its own with one instance of every service, which site.yml makes and destroys. Measured are:

- orders confirmed a second, placed by as many clients as there may be
- event lag while orders come at a pace that is kept (the buckets of the services' histograms)
- memory (PSS) of the services and of what holds their data
- the longest time between two orders that were taken while the server that leads was killed and was away for so long
- lines of code: what speaks to the engine, and what runs it on one machine

MongoDB's shard has three members and Kafka three brokers, so that each engine but the single PostgreSQL may lose one.

Usage: .venv/bin/python benchmarks/engines.py [--seconds 15] [--clients 8] [--pace 2] [--away 30] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import command_line
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from shop import event_lag_ms, lags, many, through_the_shop

from shardmart.chaos.faults.kinds import kind_of
from shardmart.chaos.targets import databases
from shardmart.chaos.targets.selectors import Targets
from shardmart.errors import ShardmartError
from shardmart.ledger.shop import ShopSystem
from shardmart.ledger.shop.http import RequestError
from shardmart.ledger.system import Target
from shardmart.platforms.embedded import EmbeddedPlatform
from shardmart.platforms.state import State
from tests.support.plays import Site
from tests.support.postgres_home import postgres_home
from tests.support.shop_sites import declared

ROOT = Path(__file__).parents[1] / "src" / "shardmart"
ADAPTERS, PLATFORMS = ROOT / "shop" / "adapters", ROOT / "platforms"
KILL, STORE_KILL = "kill", "store-kill"
SHARD = "primary:shard1ReplSet"
ENGINES: dict[str, tuple[str, dict[str, Any], dict[str, tuple[str, str]], tuple[Path, ...], tuple[Path, ...]]] = {
    "mongodb": ("MongoDB", {}, {"store": (KILL, SHARD)}, (ADAPTERS / "mongodb",), ()),
    "kafka": (
        "MongoDB, events on Kafka",
        {"event_log": "kafka", "kafka_brokers": 3},
        {"store": (KILL, SHARD), "broker": (KILL, "kafka-1")},
        (ADAPTERS / "mongodb", ADAPTERS / "kafka"),
        (PLATFORMS / "embedded_kafka",),
    ),
    "postgres": (
        "PostgreSQL",
        {"store": "postgres"},
        {"store": (STORE_KILL, databases.LEADER)},
        (ADAPTERS / "postgres",),
        (PLATFORMS / "postgres",),
    ),
    "patroni": (
        "PostgreSQL under Patroni",
        {"store": "postgres", "postgres_nodes": 3},
        {"store": (STORE_KILL, databases.LEADER)},
        (ADAPTERS / "postgres",),
        (PLATFORMS / "postgres", PLATFORMS / "patroni"),
    ),
}
"""Name → what it is called, its backends, what is killed by what kind of fault, its adapters, what runs it."""


@contextmanager
def running(backends: dict[str, Any]) -> Iterator[Site]:
    """A cluster with the shop on these backends, made by site.yml, and destroyed at the end."""
    with tempfile.TemporaryDirectory(prefix="shardmart-engines-") as folder, postgres_home("engines"):
        relational = backends.get("store") == "postgres"
        site = Site(Path(folder), shards=1, members=1 if relational else 3)
        site.document["shards"][0]["zones"] = ["APJ", "EMEA", "LATAM"]
        document = declared("postgres_port" if relational else "kafka_port", spare=20)
        keys = {"postgres_port"} if relational else {"kafka_port"} if "event_log" in backends else set()
        first = document["backends"].pop("postgres_port" if relational else "kafka_port")
        document["backends"] |= backends | dict.fromkeys(keys, first)
        if backends.get("postgres_nodes"):
            document["backends"]["etcd_port"] = first + 3
        site.write(**document)
        os.environ["SHARDMART_STATE"] = str(site.state)
        try:
            played = site.play("site.yml")
            if played.code:
                raise SystemExit(played.output[-2000:])
            yield site
        finally:
            site.play("playbooks/destroy.yml", "-e", "destroy_data=true")


def longest_gap(system: ShopSystem, pace: float, away: float, kind: str, selector: str) -> float:
    """Seconds between two orders that were taken, at most, from the moment at which the target is killed."""
    targets = Targets(State.find())
    customer, products = system.stores.customers()[0], system.stores.products(20)
    token, url = system.place.token(customer), f"{system.place.urls['order']}/orders"
    fault = kind_of(targets, kind)(targets, targets.resolve(selector), away)
    fault.prepare()
    taken: list[float] = []
    turns = count()
    begun = time.monotonic()

    def place(_: int) -> None:
        turn = next(turns)
        time.sleep(max(0.0, begun + turn / pace - time.monotonic()))  # the pace is what is measured
        body = {"items": [{"product_id": products[turn % len(products)], "quantity": 1}]}
        if system.http.until_answered("POST", url, token, str(uuid.uuid4()), body).status == 201:
            taken.append(time.monotonic())

    clients = threading.Thread(target=many, args=(4, away + 30, place))
    clients.start()
    time.sleep(3)  # orders before the kill, which the gap begins with
    try:
        fault.begin()
        hit = time.monotonic()
        time.sleep(away)  # what is measured happens meanwhile
    finally:
        fault.end()
    clients.join()
    times = sorted(taken)
    points = [*[at for at in times if at <= hit][-1:], *(at for at in times if at > hit)]
    return max((later - earlier for earlier, later in pairwise(points)), default=-1.0)


def memory_mb(site: Site) -> tuple[float, float]:
    """PSS of the services, and of the servers that hold data for them, MiB."""
    state = State(site.state)
    cluster = state.description()
    platform, shop = EmbeddedPlatform(state, cluster), cluster.shop
    assert shop
    services = [platform.shop_process(one.name).running() for one in shop.instances]
    servers = [platform.process(node).running() for node in cluster.nodes]
    servers += [platform.shop_process(one.name).running() for one in shop.kafka]
    for node in databases.stores(cluster):
        servers += databases.family(databases.store_process(state, node))
    if store := databases.under_patroni(cluster, state):
        servers += [store.place(one).process().running() for one in (*store.nodes, *store.etcd)]
    return _pss(services), _pss(servers)


def _pss(found: list[psutil.Process | None]) -> float:
    return sum(one.memory_full_info().pss for one in found if one) / (1 << 20)


def lines(folders: tuple[Path, ...]) -> int:
    """Lines of Python in these folders, docstrings included; not those of the catalogue and of pins."""
    files = (file for folder in folders for file in folder.glob("*.py"))
    left_out = {"catalogue.py", "schema.py", "carts.py", "pins.py", "go_modules.py"}
    return sum(len(file.read_text().splitlines()) for file in files if file.name not in left_out)


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures of one engine."""
    words, backends, kills, adapters, platforms = ENGINES[name]
    with running(backends) as site:
        system = ShopSystem.connect(Target("ledger", state=site.state, operation_seconds=180))
        found: dict[str, Any] = {"engine": words}
        found["orders_per_s"] = through_the_shop(system, arguments.clients, arguments.seconds)
        before = lags(State(site.state))
        through_the_shop(system, 4, 2 * arguments.seconds, arguments.pace)
        after = lags(State(site.state))
        found["lag_p50_ms"] = event_lag_ms(before, after, 0.5)
        found["lag_p99_ms"] = event_lag_ms(before, after)
        found["services_mb"], found["servers_mb"] = memory_mb(site)
        for what, (kind, selector) in kills.items():
            found[f"gap_{what}_s"] = longest_gap(system, 5, arguments.away, kind, selector)
        system.close()
    found["adapter_lines"], found["platform_lines"] = lines(adapters), lines(platforms)
    return found


def main() -> int:
    """Measure and print; 3 when an engine does not come up or the shop does not answer."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pace", type=float, default=2, help="orders a second while the event lag is measured")
    parser.add_argument("--away", type=float, default=30, help="seconds until what was killed is started again")
    parser.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    try:
        for name in arguments.only:
            load = os.getloadavg()[0]
            rows.append(measure(name, arguments) | {"load": load})
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    except (ShardmartError, RequestError) as error:
        print(f"engines.py: {error}", file=sys.stderr)
        return 3
    if arguments.json:
        print(json.dumps(rows))
        return 0
    print(
        "| engine | orders confirmed a second | event lag p50, p99 within, ms | memory of services, of servers, MiB |"
        " s without an answer: store killed, broker killed | lines: adapters, what runs it | load before |\n"
        "|---|--:|--:|--:|--:|--:|--:|"
    )
    for row in rows:
        broker = f"{row['gap_broker_s']:.1f}" if "gap_broker_s" in row else "-"
        print(
            f"| {row['engine']} | {row['orders_per_s']:.1f} | {row['lag_p50_ms']:g}, {row['lag_p99_ms']:g} |"
            f" {row['services_mb']:.0f}, {row['servers_mb']:.0f} | {row['gap_store_s']:.1f}, {broker} |"
            f" {row['adapter_lines']}, {row['platform_lines']} | {row['load']:.0f} |"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
