"""Measure a running shop (`make shop`): orders, pages of the catalogue, event lag and memory.

Both sides of each comparison in one run, one after the other, with as many clients:

- event lag while orders come at paces that are kept (from the services' histograms), and memory of all processes
- orders confirmed a second, placed over HTTP and counted once confirmed, against a bare loop of the same three
  transactions (the order with its key and event, its stock and reservation, its payment and confirmation) on a database
  of its own through the same router
- `GET /api/products` of 20 products from an instance of the catalogue, against the same bytes that uvicorn serves
  without a framework

Usage: .venv/bin/python benchmarks/shop.py [--seconds 15] [--clients 16] [--paces 1 3 5] [--json]
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import command_line
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from shardmart.cluster.protocol.connection import Deadline
from shardmart.errors import ShardmartError
from shardmart.ledger.shop import ShopSystem
from shardmart.ledger.shop.http import RequestError
from shardmart.ledger.system import Target
from shardmart.platforms.embedded import EmbeddedPlatform
from shardmart.platforms.state import State

DATABASE = "shop_benchmark"
KEYS = {
    "orders": "region",
    "events": "region",
    "keys": "_id",
    "stock": "_id",
    "reservations": "region",
    "payments": "region",
}
REGIONS = ("APJ", "EMEA", "LATAM")
PRODUCTS = 20
CONFIRM_SECONDS = 120
LAG = re.compile(r'^shop_event_lag_seconds_bucket\{le="([^"]+)",[^}]*\} (\S+)$', re.MULTILINE)


def many(clients: int, seconds: float, once: Callable[[int], object]) -> tuple[list[float], float]:
    """Let `clients` threads call `once` for so long: the seconds each call took, and how long it was in all."""
    took: list[list[float]] = [[] for _ in range(clients)]
    begun = time.perf_counter()
    end = begun + seconds

    def loop(number: int) -> None:
        while (before := time.perf_counter()) < end:
            once(number)
            took[number].append(time.perf_counter() - before)

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(itertools.chain(*took)), time.perf_counter() - begun


def through_the_shop(system: ShopSystem, clients: int, seconds: float, pace: float = 0.0) -> float:
    """Orders a second from the first that was placed to the last that was confirmed; `pace`: so many, 0: all it can."""
    customers, products = system.stores.customers(), system.stores.products(PRODUCTS)
    url, tokens = f"{system.place.urls['order']}/orders", {c: system.place.token(c) for c in customers}
    operator = system.place.token(None)
    for product in products:
        restock = f"{system.place.urls['inventory']}/stock/{product}/restock"
        system.http.until_answered("POST", restock, operator, str(uuid.uuid4()), {"quantity": 100_000})
    placed: list[tuple[str, str]] = []
    turns = itertools.count()
    begun = time.perf_counter()

    def place(number: int) -> None:
        if pace:
            time.sleep(max(0.0, begun + next(turns) / pace - time.perf_counter()))  # the pace is what is measured
        turn = len(placed) + number
        customer, product = customers[turn % len(customers)], products[turn % PRODUCTS]
        body = {"items": [{"product_id": product, "quantity": 1}]}
        answer = system.http.until_answered("POST", url, tokens[customer], str(uuid.uuid4()), body)
        if answer.status != 201:
            raise RequestError("failed", answer.words)
        placed.append((customer, answer.document["id"]))

    many(clients, seconds, place)
    waiting, deadline = dict.fromkeys(placed), Deadline(CONFIRM_SECONDS)
    while waiting:
        # The newest last: those before it are confirmed by then, and asking takes no part of what is measured.
        for customer, order in reversed(list(waiting)):
            found = system.http.until_answered("GET", f"{url}/{order}", tokens[customer])
            if found.document["status"] != "confirmed":
                break
            del waiting[customer, order]
        if waiting:
            deadline.pause("the orders to be confirmed")
    return len(placed) / (time.perf_counter() - begun)


def bare_loop(state: State, clients: int, seconds: float) -> float:
    """The same transactions a second, three of them one order, without services or events."""
    client: MongoClient[dict[str, Any]] = MongoClient(state.uri("admin"))
    with client:
        database = client[DATABASE]
        for name, first in KEYS.items():
            key: dict[str, Any] = {"_id": "hashed"} if first == "_id" else {"region": 1, "_id": "hashed"}
            client.admin.command("shardCollection", f"{DATABASE}.{name}", key=key)
        database["stock"].insert_many([{"_id": str(n), "available": 10**9} for n in range(PRODUCTS)])
        number = itertools.count()

        def order(_: int) -> None:
            n = next(number)
            region, id_ = REGIONS[n % 3], str(uuid.uuid4())
            with client.start_session() as session:
                session.with_transaction(lambda s: _placed(database, s, region, id_))
                session.with_transaction(lambda s: _reserved(database, s, region, id_, str(n % PRODUCTS)))
                session.with_transaction(lambda s: _paid(database, s, region, id_))

        try:
            took, elapsed = many(clients, seconds, order)
        finally:
            client.drop_database(DATABASE)
    return len(took) / elapsed


def _event(database: Any, session: Any, region: str, key: str, kind: str) -> None:
    event = {"_id": f"{key}/{kind}", "region": region, "key": key, "type": kind, "data": {"total_cents": 100}}
    database["events"].insert_one(event, session=session)


def _placed(database: Any, session: Any, region: str, id_: str) -> None:
    order = {"_id": id_, "region": region, "status": "pending", "items": [{"product_id": "1", "quantity": 1}]}
    database["orders"].insert_one(order | {"total_cents": 100, "history": [{"status": "pending"}]}, session=session)
    database["keys"].insert_one({"_id": str(uuid.uuid4()), "body": json.dumps(order)}, session=session)
    _event(database, session, region, id_, "order-placed")


def _reserved(database: Any, session: Any, region: str, id_: str, product: str) -> None:
    database["stock"].update_one({"_id": product}, {"$inc": {"available": -1}}, session=session)
    reservation = {"_id": id_, "region": region, "state": "held", "pieces": [{"product": product, "quantity": 1}]}
    database["reservations"].insert_one(reservation, session=session)
    _event(database, session, region, id_, "stock-reserved")


def _paid(database: Any, session: Any, region: str, id_: str) -> None:
    payment = {"_id": id_, "region": region, "state": "captured", "amount_cents": 100}
    database["payments"].insert_one(payment, session=session)
    database["orders"].update_one({"region": region, "_id": id_}, {"$set": {"status": "confirmed"}}, session=session)
    _event(database, session, region, id_, "order-confirmed")


def pages(host: str, port: int, path: str, clients: int, seconds: float) -> tuple[float, float]:
    """Median milliseconds of one client, and requests a second of many."""
    connections = [http.client.HTTPConnection(host, port, timeout=30) for _ in range(clients)]

    def get(number: int) -> None:
        connections[number].request("GET", path)
        answer = connections[number].getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise SystemExit(f"{path} answers {answer.status}")

    alone, _ = many(1, seconds / 3, get)
    took, elapsed = many(clients, seconds, get)
    for connection in connections:
        connection.close()
    return statistics.median(alone) * 1000, len(took) / elapsed


def serve(port: int) -> None:
    """uvicorn, as the services run it, with the bytes of standard input and nothing else."""
    import uvicorn

    body = sys.stdin.buffer.read()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off")


def catalogue_and_static(system: ShopSystem, state: State, clients: int, seconds: float) -> dict[str, float]:
    """The catalogue's page and the same bytes, from one process each."""
    shop = state.description().shop
    assert shop
    service = shop.service("catalogue")
    assert service
    instance, path = service.instances[0], f"/api/products?limit={PRODUCTS}"
    body = json.dumps(system.http.until_answered("GET", f"{instance.url}{path}", "").document).encode()
    port = free_port()
    with subprocess.Popen([sys.executable, __file__, "--serve", str(port)], stdin=subprocess.PIPE) as server:
        assert server.stdin
        server.stdin.write(body)
        server.stdin.close()
        deadline = Deadline(30)
        while True:
            try:
                system.http.until_answered("GET", f"http://127.0.0.1:{port}/", "")
                break
            except RequestError:
                deadline.pause("uvicorn to listen")
        p50, rate = pages(instance.host, instance.port, path, clients, seconds)
        static_p50, static_rate = pages("127.0.0.1", port, "/", clients, seconds)
        server.terminate()
    return {
        "page_p50_ms": p50,
        "page_rate": rate,
        "static_p50_ms": static_p50,
        "static_rate": static_rate,
        "page_ratio": rate / static_rate,
    }


def free_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def lags(state: State) -> Counter[float]:
    """Events so far that had their effect within so many seconds, by the buckets of the services' histograms."""
    shop = state.description().shop
    assert shop
    found: Counter[float] = Counter()
    for name in ("order", "inventory", "payment", "notification"):
        service = shop.service(name)
        assert service
        for instance in service.instances:
            with urllib.request.urlopen(f"{instance.url}/metrics", timeout=30) as answer:
                text = answer.read().decode()
            for bound, count in LAG.findall(text):
                found[float(bound)] += int(float(count))
    return found


def event_lag_ms(before: Counter[float], after: Counter[float], share: float = 0.99) -> float:
    """The bucket that this share of the events of between is in: its upper bound."""
    between = {bound: after[bound] - before[bound] for bound in sorted(after)}
    total = max(between.values())
    return next(bound for bound, count in between.items() if count >= share * total) * 1000


def memory_mb(state: State) -> float:
    """What the processes of the shop take together, shared pages counted once (PSS), MiB."""
    cluster = state.description()
    platform, total = EmbeddedPlatform(state, cluster), 0
    for one in cluster.shop.processes if cluster.shop else ():
        if process := platform.shop_process(one.name).running():
            total += process.memory_full_info().pss
    return total / (1 << 20)


def main() -> int:
    """Measure and print; 3 when there is no shop."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument(
        "--paces", type=float, nargs="+", default=[1, 3, 5], help="orders a second while the event lag is measured"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return 0
    state, clients, seconds = State.find(), arguments.clients, arguments.seconds
    try:
        system = ShopSystem.connect(Target("ledger", state=state.folder, operation_seconds=30))
        bare = bare_loop(state, clients, seconds)
        confirmed = through_the_shop(system, clients, seconds)
        found = {"orders_per_s": confirmed, "bare_orders_per_s": bare, "orders_ratio": confirmed / bare}
        for pace in arguments.paces:
            before = lags(state)
            through_the_shop(system, 4, 2 * seconds, pace)
            found[f"event_lag_p99_ms_at_{pace:g}"] = event_lag_ms(before, lags(state))
        found["memory_mb"] = memory_mb(state)
        found |= catalogue_and_static(system, state, clients, seconds)
        system.close()
    except (ShardmartError, PyMongoError, RequestError) as error:
        print(f"shop.py: {error}", file=sys.stderr)
        return 3
    found = {name: round(value, 2) for name, value in found.items()}
    if arguments.json:
        print(json.dumps(found))
        return 0
    print("| | measured | beside it | ratio |\n|---|--:|--:|--:|")
    print(
        f"| orders confirmed a second, {clients} clients; bare loop |"
        f" {found['orders_per_s']} | {found['bare_orders_per_s']} | {found['orders_ratio']} |"
    )
    print(
        f"| `GET /api/products` a second, {PRODUCTS} products; static bytes |"
        f" {found['page_rate']} | {found['static_rate']} | {found['page_ratio']} |"
    )
    print(f"| the same, p50 of one client, ms | {found['page_p50_ms']} | {found['static_p50_ms']} | |")
    for pace in arguments.paces:
        lag = found[f"event_lag_p99_ms_at_{pace:g}"]
        print(f"| event lag at {pace:g} orders a second, 99 of 100 within, ms | {lag:g} | | |")
    print(f"| memory of the shop's processes, PSS, MiB | {found['memory_mb']} | | |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
