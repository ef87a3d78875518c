"""Fragments against one table, indexes against none, and the relational store against MongoDB, each pair in one run.

    python benchmarks/fragments.py [--rows 1000000] [--customers 3000] [--products 20000] [--copies 3]

It starts three region nodes and a small sharded cluster of its own, and prints the tables of docs/fragments.md.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import command_line
from bson import encode

sys.path.insert(0, str(Path(__file__).parents[1]))

from shardmart.cluster.protocol.connection import connect as connect_mongodb
from shardmart.fragments.configuration import ADMIN, Configuration
from shardmart.fragments.connection import administrator, application, connect, scalar
from shardmart.fragments.money import BANDS
from shardmart.fragments.mongodb import aggregations
from shardmart.fragments.mongodb.connection import database
from shardmart.fragments.mongodb.shop import MongoShop
from shardmart.fragments.relational import details, plans
from shardmart.fragments.relational.shop import RelationalShop
from shardmart.fragments.rows import Shop
from shardmart.fragments.store import Row, Store
from shardmart.loader.generation.dataset import Counts
from tests.support.both_stores import both_stores
from tests.support.clusters import EmbeddedCluster, embedded_cluster
from tests.support.region_nodes import REGIONS, RegionNodes, region_nodes

REPEATS = 5
COPIES = 3
"""Also how often it is counted what a question reads."""
SETTLE_SECONDS = 0.3


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def load(nodes: RegionNodes, count: int, copies: int) -> None:
    """So many products by COPY: into one table of one node, and over the fragments of three."""
    configuration = nodes.configuration
    span = BANDS[-1].high - BANDS[0].low
    lines = [
        (
            BANDS[0].low + n * 7919 % span,
            f"p{n:09}\tProduct {n}\tHome\t{BANDS[0].low + n * 7919 % span}\t{n % 100}\n".encode(),
        )
        for n in range(count)
    ]
    single = """CREATE TABLE one_table (product_id text PRIMARY KEY, name text NOT NULL CHECK (name <> ''),
        category text NOT NULL, price_cents integer NOT NULL, stock integer NOT NULL CHECK (stock >= 0));
        CREATE INDEX one_table_by_price ON one_table (price_cents)"""
    nodes.run("APJ", single)

    def copy(name: str, table: str, parts: list[bytes]) -> None:
        statement = f"COPY {table} FROM STDIN".encode()
        with (
            connect(configuration, nodes.node(name), ADMIN) as connection,
            connection.cursor() as cursor,
            cursor.copy(statement) as target,
        ):
            for start in range(0, len(parts), 1000):
                target.write(b"".join(parts[start : start + 1000]))

    def fragments() -> None:
        parts: dict[str, list[bytes]] = defaultdict(list)
        for price, line in lines:
            parts[next(band.table for band in BANDS if price < band.high)].append(line)
        with ThreadPoolExecutor(len(BANDS)) as pool:
            list(pool.map(lambda band: copy(band.region, band.table, parts[band.table]), BANDS))

    plain, cut = [], []
    for _ in range(copies):
        nodes.run("APJ", "TRUNCATE one_table")
        for band in BANDS:
            nodes.run(band.region, f"TRUNCATE {band.table}", "CHECKPOINT")
        plain.append(timed(lambda: copy("APJ", "one_table", [line for _, line in lines])))
        cut.append(timed(fragments))
    with administrator(configuration, nodes.node("EMEA")) as connection:
        assert scalar(connection, "SELECT count(*) FROM Products") == count
    for band in BANDS:
        nodes.run(band.region, f"TRUNCATE {band.table}")
    nodes.run("APJ", "DROP TABLE one_table")
    print(f"| {count:,} products by COPY, median of {copies} | rows/s | ratio |\n|---|---:|---:|")
    print(f"| one table of one node, same keys and checks | {count / median(plain):,.0f} | 1 |")
    print(f"| over the fragments of three nodes, each row routed | {count / median(cut):,.0f} "
          f"| {median(plain) / median(cut):.2f} |\n")  # fmt: skip


def indexes(nodes: RegionNodes, count: int) -> None:
    """Each index of names, and the same query with indexes forbidden."""
    for region in REGIONS:
        nodes.run(
            region,
            f"""INSERT INTO Customer_Region (region, customer_id, customer_name, email, city, country)
            SELECT '{region}', 'bench-' || n, 'Name ' || n, 'a', 'b', 'IT' FROM generate_series(1, {count}) n""",
        )
    print(f"| {3 * count:,} customers, one name | index used | with it (ms) | without any (ms) |\n|---|---|---:|---:|")
    with administrator(nodes.configuration, nodes.node("APJ")) as connection:
        end = time.monotonic() + 120
        while scalar(connection, "SELECT count(*) FROM Customer_Region WHERE customer_id LIKE 'bench-%%'") < 3 * count:
            assert time.monotonic() < end, "waited 120 s for the rows of the peers"
            time.sleep(0.2)
        connection.execute("VACUUM ANALYZE Customer_Region")
        for where in (*(f"region = '{region}' AND " for region in REGIONS), ""):
            query = f"SELECT * FROM Customer_Region WHERE {where}customer_name = 'Name 77'"
            times: dict[str, float] = {}
            used = ""
            for setting in ("on", "off"):
                for kind in ("indexscan", "bitmapscan", "indexonlyscan"):
                    connection.execute(f"SET enable_{kind} = {setting}".encode())
                readings = [plans.read(connection, query, run=True) for _ in range(REPEATS)]
                times[setting] = median(reading.milliseconds or 0 for reading in readings)
                used = ", ".join(readings[0].indexes) if setting == "on" else used
            print(
                f"| {where.removesuffix(' AND ') or 'all regions'} | {used} | {times['on']:.3f} | {times['off']:.2f} |"
            )
    for region in REGIONS:
        statement = "DELETE FROM Customer_Region WHERE customer_id LIKE 'bench-%'"
        nodes.run(region, "SET session_replication_role = replica", statement)
    print()


def beside(nodes: RegionNodes, cluster: EmbeddedCluster, customers: int, products: int) -> None:
    """The ten queries on both stores."""
    counts = Counts(customers, 4, products)
    stores, shop = both_stores(nodes, cluster, counts), Shop(1, counts, REGIONS)
    for region in REGIONS:
        nodes.run(region, "ANALYZE")
    relational, mongodb = RelationalShop(stores), MongoShop.connect(stores)
    compare(stores, relational, mongodb, shop, (lambda: read_by_postgres(stores), lambda: read_by_mongodb(cluster)))
    mongodb.close()


def read_by_postgres(stores: Configuration) -> int:
    """Rows that all nodes have read of tables so far; a session's are counted when it has ended."""
    query = "SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_user_tables"
    before, total = -1, 0
    while total != before:  # the sessions of the last question may still be ending
        before, total = total, 0
        time.sleep(SETTLE_SECONDS)
        for node in stores.nodes:
            with administrator(stores, node) as connection:
                total += int(scalar(connection, query))
    return total


def read_by_mongodb(cluster: EmbeddedCluster) -> int:
    """Documents that the primaries of all shards have examined so far."""
    total = 0
    for shard in cluster.description.shards:
        name = cluster.primary_of(shard.name)
        address = next(member.address for member in shard.members if member.name == name)
        with connect_mongodb(address, cluster.members_credentials) as client:
            status = client.admin.command("serverStatus")
            total += int(status["metrics"]["queryExecutor"]["scannedObjects"])
    return total


def touched(counter: Callable[[], int], ask: Callable[[], object]) -> int:
    """Rows (documents) that a question reads: the least of some, as others may read, too."""
    found = []
    for _ in range(COPIES):
        before = counter()
        ask()
        found.append(counter() - before)
    return min(found)


def compare(
    stores: Configuration,
    relational: RelationalShop,
    mongodb: MongoShop,
    shop: Shop,
    counters: tuple[Callable[[], int], Callable[[], int]],
) -> None:
    """Print the table: rows (documents) that came back and their bytes, rows that were read for it, and time."""
    documents = database(mongodb._client)
    batch = next(iter(shop.batches(1000)))
    someone, bought = batch.customers[0], batch.orders[0]
    product = shop.products()[0]
    key = someone["region"], someone["customer_id"]

    def on_both(ask: Callable[[Store], Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
        return lambda: ask(relational), lambda: ask(mongodb)

    name, region = someone["customer_name"], someone["region"]

    def nothing() -> list[Row]:
        """What each other question begins with: the relational shop keeps no connection, MongoDB's client does."""
        with application(stores, stores.nodes[0]) as connection:
            connection.execute("SELECT 1")
        return []

    def ping() -> list[Row]:
        documents.client.admin.command("ping")
        return []

    queries: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "(nothing: a connection, and an answer)": (nothing, ping),
        "a product by its id (all fragments)": on_both(lambda s: s.product(product["product_id"])),
        "products of one price": on_both(lambda s: s.products_between("19.99", "20.00")),
        "products in one band": on_both(lambda s: s.products_between("101.00", "120.00")),
        "products over two bands": on_both(lambda s: s.products_between("90.00", "120.00")),
        "every product": on_both(lambda s: s.products_between("10.00", "501.00")),
        "a customer by region and id": on_both(lambda s: s.customer(*key)),
        "an order with lines, payment, shipment": on_both(lambda s: s.order(bought["region"], bought["order_id"])),
        "names of a region by prefix": on_both(lambda s: s.names(region, name[:2])),
        "get_customers_detail_location, one region": (
            lambda: details.get_customers_detail_location(stores, region),
            lambda: aggregations.get_customers_detail_location(documents, region),
        ),
        "get_customers_detail_name, all regions": (
            lambda: details.get_customers_detail_name(stores, name),
            lambda: aggregations.get_customers_detail_name(documents, name),
        ),
    }
    print(f"| {len(shop.products()):,} products, {shop.counts.users:,} customers, {shop.counts.orders:,} orders "
          "| rows | bytes | read by PostgreSQL | by MongoDB | PostgreSQL (ms) | MongoDB (ms) |\n"
          "|---|---:|---:|---:|---:|---:|---:|")  # fmt: skip
    for title, asks in queries.items():
        answers = [ask() for ask in asks]
        assert answers[0] == answers[1], title
        rows = answers[0] if isinstance(answers[0], list) else [answers[0]]
        size = sum(len(encode(row if isinstance(row, dict) else {"row": list(row)})) for row in rows)
        times = [median(timed(ask) for _ in range(REPEATS)) * 1000 for ask in asks]
        read = [touched(counter, ask) for counter, ask in zip(counters, asks, strict=True)]
        print(f"| {title} | {len(rows):,} | {size:,} | {read[0]:,} | {read[1]:,} | {times[0]:.1f} | {times[1]:.1f} |")
    print()


def main() -> None:
    """Print the tables; the load average says how busy the machine was."""
    parser = command_line.parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--copies", type=int, default=COPIES, help="how often each side loads all rows")
    parser.add_argument("--customers", type=int, default=3_000)
    parser.add_argument("--products", type=int, default=20_000, help="of the queries; some are in no band")
    parser.add_argument("--only-queries", action="store_true", help="the last table alone")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.0f}\n")
    with region_nodes() as nodes:
        if not options.only_queries:
            load(nodes, options.rows, options.copies)
            indexes(nodes, max(1, options.rows // 30))
        with tempfile.TemporaryDirectory() as folder, embedded_cluster(Path(folder) / "state") as cluster:
            beside(nodes, cluster, options.customers, options.products)


if __name__ == "__main__":
    main()
