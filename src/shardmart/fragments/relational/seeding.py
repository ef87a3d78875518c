"""insert_random_data: the shop of a seed, on every node what belongs there, each row exactly once.

What is there already, in whatever fragment or region it is by now, is left alone; what a seeding that came to its end
wrote and somebody deleted stays away.  Rows go by COPY straight to the node that holds their fragment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg import sql

from ..configuration import APPLICATION, Configuration, Node
from ..connection import Connection, application, connect, one_line, reader, rows, scalar
from ..money import band_of
from ..rows import Batch, Row, Seeding, Shop, new_rows
from .products import COLUMNS

CUSTOMERS_AT_A_TIME = 1000
Before = Mapping[str, Sequence[Seeding]]
"""The name of a node, and the seedings that it remembers."""
KEEPS_SEEDINGS = "SELECT to_regclass('seedings') IS NOT NULL"
"""Not so in a schema of an earlier version, until `apply`."""
TABLES: dict[str, tuple[str, ...]] = {
    "customer": (
        "region", "customer_id", "customer_name", "email", "street", "postcode", "city", "country", "created_at",
    ),
    "orders": ("order_id", "order_sequence_id", "region", "customer_id", "total_cents", "status", "created_at"),
    "orderitems": ("order_id", "order_sequence_id", "product_id", "quantity", "unit_price_cents"),
    "payments": ("payment_id", "order_id", "order_sequence_id", "amount_cents", "method", "status", "paid_at"),
    "shipments": (
        "shipment_id", "order_id", "order_sequence_id", "carrier", "tracking_number", "status", "shipped_at",
        "customer_id", "customer_name", "street", "postcode", "city", "country",
    ),
}  # fmt: skip
"""The columns of each table, in the order in which rows refer to each other."""


@dataclass
class Seeded:
    """What was written, by table; which products no fragment holds, and how many order lines had them."""

    written: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    left_out: int = 0

    @property
    def changes(self) -> list[str]:
        """What was written, in lines."""
        return [f"{table}: {count} rows" for table, count in self.written.items() if count]


def insert_random_data(
    configuration: Configuration, shop: Shop, *, check: bool = False, notice: Callable[[str], None] = lambda line: None
) -> Seeded:
    """Write what is missing of `shop`, or with `check` only count it.  `notice` takes a line of progress.

    Killed at any moment, the next call finishes it: a customer and all that is his is one transaction.  Only what was
    deleted before it came to its end is written again.
    """
    done = Seeded(defaultdict(int), shop.refused)
    before = {node.name: _remembered(configuration, node, shop.seeding) for node in configuration.nodes}
    seed_products(configuration, shop.products(), done, before, check=check)
    for number, batch in enumerate(shop.batches(CUSTOMERS_AT_A_TIME), 1):
        _seed_customers(configuration, batch, done, before, check=check)
        if number % 10 == 0:
            notice(f"{number * CUSTOMERS_AT_A_TIME:,} customers")
    if not check:
        for node in configuration.nodes:
            _remember(configuration, node, shop.seeding)
    done.left_out = shop.left_out
    done.written = dict(done.written)
    return done


def _remembered(configuration: Configuration, node: Node, wanted: Seeding) -> list[Seeding]:
    """The seedings of this seed, over the same fragments, that a node has all of."""
    with reader(configuration, node) as connection:
        if not scalar(connection, KEEPS_SEEDINGS):
            return []
        query = """SELECT seed, catch_all, users, orders_per_user, products FROM Seedings
            WHERE seed = %s AND catch_all = %s"""
        return [Seeding(*row) for row in rows(connection, query, wanted.seed, wanted.catch_all)]


def _remember(configuration: Configuration, node: Node, done: Seeding) -> None:
    with application(configuration, node) as connection:
        if not scalar(connection, KEEPS_SEEDINGS):
            return
        connection.execute(
            "INSERT INTO Seedings VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (done.seed, done.catch_all, done.users, done.orders_per_user, done.products),
        )


def seed_products(
    configuration: Configuration, products: Sequence[Row], done: Seeded, before: Before, *, check: bool = False
) -> None:
    """Write the products that are in no fragment yet, and that nobody deleted."""
    query = "SELECT product_id FROM Products WHERE product_id = ANY(%s)"
    present = _present(configuration, configuration.nodes[0], query, [row["product_id"] for row in products])
    parts: dict[str, list[Row]] = defaultdict(list)
    for row in products:
        if row["product_id"] not in present:
            band = band_of(row["price_cents"], row["name"], catch_all=configuration.catch_all)
            if new_rows([row], "product_id", before[band.region]):
                parts[band.fragment].append(row)
    for band in configuration.bands:
        if part := parts.get(band.fragment):
            done.written[band.fragment] = len(part)
            if not check:
                with application(configuration, configuration.node(band.region)) as connection:
                    copy(connection, band.table, COLUMNS, part)


def _seed_customers(configuration: Configuration, batch: Batch, done: Seeded, before: Before, *, check: bool) -> None:
    keys = [customer["customer_id"] for customer in batch.customers]
    numbers = [order["order_id"] for order in batch.orders]
    for node in configuration.nodes:
        # Asked of the directory, which also knows those who moved away or were deleted.
        known = _present(
            configuration, node, "SELECT customer_id FROM Customer_Region WHERE customer_id = ANY(%s)", keys
        )
        live = _present(configuration, node, "SELECT customer_id FROM Customer WHERE customer_id = ANY(%s)", keys)
        placed = _present(configuration, node, "SELECT order_id FROM Orders WHERE order_id = ANY(%s)", numbers)
        new = new_rows(batch.customers, "customer_id", before[node.name])
        mine = {c["customer_id"] for c in new if c["region"] == node.name} - known
        asked = new_rows(batch.orders, "order_id", before[node.name])
        orders = [row for row in asked if row["customer_id"] in mine | live and row["order_id"] not in placed]
        orders = [row | {"region": node.name} for row in orders]
        here = {row["order_id"] for row in orders}
        tables: dict[str, list[Row]] = {
            "customer": [row for row in batch.customers if row["customer_id"] in mine],
            "orders": orders,
            "orderitems": [row for row in batch.items if row["order_id"] in here],
            "payments": [row for row in batch.payments if row["order_id"] in here],
            "shipments": [row for row in batch.shipments if row["order_id"] in here],
        }
        for table, part in tables.items():
            done.written[table] += len(part)
        if any(tables.values()) and not check:
            with application(configuration, node) as connection:
                for table, part in tables.items():
                    copy(connection, table, TABLES[table], part)


def _present(configuration: Configuration, node: Node, query: str, keys: Sequence[str]) -> set[str]:
    with one_line(node), connect(configuration, node, APPLICATION) as connection:
        return {key for (key,) in rows(connection, query, list(keys))}


def copy(connection: Connection, table: str, columns: Sequence[str], part: Iterable[Row]) -> None:
    """Append rows to a table."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with connection.cursor() as cursor, cursor.copy(statement) as target:
        for row in part:
            target.write_row([row[column] for column in columns])
