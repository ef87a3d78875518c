"""The shop on the relational store: what touches one node is an ordinary transaction, what touches more is two-phase.

Every node answers for all products (the foreign partitions); writes go straight to the node whose fragment it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import errors, sql
from psycopg.rows import dict_row

from .. import money, store
from ..configuration import Configuration
from ..connection import Connection, application, reader, scalar
from ..money import Band
from ..store import Row
from . import coordinator, details
from .coordinator import Observer
from .products import COLUMNS
from .seeding import TABLES

BETWEEN_PRICES = "SELECT * FROM Products WHERE price_cents >= %s AND price_cents < %s ORDER BY price_cents, product_id"


class RelationalShop:
    """See `store.Store`."""

    def __init__(self, configuration: Configuration, observe: Observer = lambda step: None) -> None:
        """`observe` is told each step of a two-phase commit."""
        self._configuration, self._observe = configuration, observe
        self._any = configuration.nodes[0]

    def close(self) -> None:
        """See Store: a connection lives as long as its operation."""

    def create_product(self, product_id: str, name: str, category: str, price: object, stock: int) -> Row:
        """See Store."""
        band = self._band(price, name)
        store.check_product(product_id, name, category, stock)
        row = dict(zip(COLUMNS, (product_id, name, category, money.cents(price, name), stock), strict=True))

        def put(connection: Connection) -> None:
            try:
                insert(connection, band.table, [row])
            except errors.UniqueViolation:
                raise store.taken("product", product_id) from None

        guard = self._alone_with(product_id, new=True)
        coordinator.commit(self._configuration, [(band.region, put)], guard=guard, observe=self._observe)
        return row

    def _alone_with(self, product_id: str, *, new: bool = False) -> coordinator.Guard:
        """No unique index spans the fragments: whoever makes a product or moves it to another fragment has a lock of
        its id on one node, and has looked where it is after that."""

        def lock(connection: Connection) -> None:
            statement = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
            if not scalar(connection, statement, f"product {product_id}"):
                raise store.changed_meanwhile("product", product_id)
            if new and self.product(product_id):
                raise store.taken("product", product_id)

        return self._any.name, lock

    def product(self, product_id: str) -> Row | None:
        """See Store: by its id alone every fragment is asked."""
        with reader(self._configuration, self._any) as connection:
            return _one(connection, "SELECT * FROM Products WHERE product_id = %s", product_id)

    def products_between(self, low: object, high: object) -> list[Row]:
        """See Store."""
        with reader(self._configuration, self._any) as connection:
            return _all(connection, BETWEEN_PRICES, money.cents(low), money.cents(high))

    def change_price(self, product_id: str, price: object) -> Row:
        """See Store.  An UPDATE cannot leave a foreign partition: another band is a move."""
        found = self.product(product_id)
        if not found:
            raise store.missing_product(product_id)
        new, value = self._band(price, found["name"]), money.cents(price, found["name"])
        old = self._held_by(found)
        moved: list[Row] = []

        def take(connection: Connection) -> None:
            statement = sql.SQL("DELETE FROM {} WHERE product_id = %s RETURNING *").format(sql.Identifier(old.table))
            gone = _one(connection, statement, product_id)
            if not gone:
                raise store.changed_meanwhile("product", product_id)
            moved.append(gone | {"price_cents": value})

        def put(connection: Connection) -> None:
            insert(connection, new.table, moved)

        if old == new:
            statement = sql.SQL("UPDATE {} SET price_cents = %s WHERE product_id = %s RETURNING *")
            with application(self._configuration, self._configuration.node(old.region)) as connection:
                changed = _one(connection, statement.format(sql.Identifier(old.table)), value, product_id)
            if not changed:
                raise store.changed_meanwhile("product", product_id)
            return changed

        def take_and_put(connection: Connection) -> None:
            take(connection)
            put(connection)

        # The catch-all lives beside a fragment.
        work = [(old.region, take_and_put)] if old.region == new.region else [(old.region, take), (new.region, put)]
        coordinator.commit(self._configuration, work, guard=self._alone_with(product_id), observe=self._observe)
        return moved[0]

    def delete_product(self, product_id: str) -> None:
        """See Store."""
        found = self.product(product_id)
        if not found:
            raise store.missing_product(product_id)
        band = self._held_by(found)
        statement = sql.SQL("DELETE FROM {} WHERE product_id = %s").format(sql.Identifier(band.table))
        with application(self._configuration, self._configuration.node(band.region)) as connection:
            if not connection.execute(statement, (product_id,)).rowcount:
                raise store.changed_meanwhile("product", product_id)

    def create_customer(self, customer: Row) -> Row:
        """See Store."""
        store.check_customer(customer)
        with application(self._configuration, self._configuration.node(customer["region"])) as connection:
            try:
                insert(connection, "customer", [customer])
            except errors.UniqueViolation:
                raise store.taken("customer", customer["customer_id"]) from None
        return customer

    def customer(self, region: str, customer_id: str) -> Row | None:
        """See Store."""
        with reader(self._configuration, self._configuration.node(region)) as connection:
            return _one(
                connection, "SELECT * FROM Customer WHERE region = %s AND customer_id = %s", region, customer_id
            )

    def rename_customer(self, region: str, customer_id: str, name: str) -> Row:
        """See Store: the peers are told by the trigger on Customer."""
        store.check_customer({"customer_name": name})
        statement = "UPDATE Customer SET customer_name = %s WHERE region = %s AND customer_id = %s RETURNING *"
        with application(self._configuration, self._configuration.node(region)) as connection:
            changed = _one(connection, statement, name, region, customer_id)
        if not changed:
            raise store.missing_customer(region, customer_id)
        return changed

    def move_customer(self, region: str, customer_id: str, to: str) -> Row:
        """See Store."""
        home, target = self._configuration.node(region), self._configuration.node(to)
        taken: dict[str, list[Row]] = {}
        if home == target:
            return self.customer(region, customer_id) or _raise(store.missing_customer(region, customer_id))

        def take(connection: Connection) -> None:
            customer = "SELECT * FROM Customer WHERE region = %s AND customer_id = %s FOR UPDATE"
            taken["customer"] = _all(connection, customer, region, customer_id)
            if not taken["customer"]:
                raise store.missing_customer(region, customer_id)
            taken["orders"] = _all(connection, "SELECT * FROM Orders WHERE customer_id = %s FOR UPDATE", customer_id)
            orders = [row["order_id"] for row in taken["orders"]]
            for table in ("orderitems", "payments", "shipments"):
                query = sql.SQL("DELETE FROM {} WHERE order_id = ANY(%s) RETURNING *").format(sql.Identifier(table))
                taken[table] = _all(connection, query, orders)
            connection.execute("DELETE FROM Orders WHERE order_id = ANY(%s)", (orders,))
            connection.execute("DELETE FROM Customer WHERE region = %s AND customer_id = %s", (region, customer_id))

        def put(connection: Connection) -> None:
            try:
                for table in TABLES:
                    moved = [row | ({"region": to} if "region" in row else {}) for row in taken[table]]
                    insert(connection, table, moved)
            except errors.UniqueViolation:
                raise store.taken("customer", customer_id) from None

        coordinator.commit(self._configuration, [(region, take), (to, put)], observe=self._observe)
        return taken["customer"][0] | {"region": to}

    def delete_customer(self, region: str, customer_id: str) -> None:
        """See Store."""
        with application(self._configuration, self._configuration.node(region)) as connection:
            try:
                gone = connection.execute(
                    "DELETE FROM Customer WHERE region = %s AND customer_id = %s", (region, customer_id)
                ).rowcount
            except errors.ForeignKeyViolation:
                raise store.has_orders(customer_id) from None
        if not gone:
            raise store.missing_customer(region, customer_id)

    def place_order(self, region: str, customer_id: str, items: Mapping[str, int], method: str = "card") -> Row:
        """See Store.  Prices are read with the stock, in the same transaction."""
        store.check_order(items, method)
        customer = self.customer(region, customer_id) or _raise(store.missing_customer(region, customer_id))
        bands: dict[str, Band] = {}
        for product_id in items:
            found = self.product(product_id) or _raise(store.missing_product(product_id))
            bands[product_id] = self._held_by(found)
        lines: dict[str, Row] = {}
        written: list[dict[str, Any]] = []

        def reserve_at(here: str) -> coordinator.Work:
            def reserve(connection: Connection) -> None:
                for product_id in sorted(product for product, band in bands.items() if band.region == here):
                    lines[product_id] = _reserve(connection, bands[product_id], product_id, items[product_id])

            return reserve

        def write(connection: Connection) -> None:
            written.append(store.new_order(region, customer, list(lines.values()), method))
            try:
                _write_order(connection, written[0])
            except errors.ForeignKeyViolation:
                raise store.changed_meanwhile("customer", customer_id) from None

        # In one order of nodes for everybody; the order last, when every price is known.
        held = {band.region for band in bands.values()}
        work = [(node.name, reserve_at(node.name)) for node in self._configuration.nodes if node.name in held]
        coordinator.commit(self._configuration, [*work, (region, write)], observe=self._observe)
        order: Row = written[0]["order"]
        return order

    def order(self, region: str, order_id: str) -> Row | None:
        """See Store."""
        with reader(self._configuration, self._configuration.node(region)) as connection:
            found = _one(connection, "SELECT * FROM Orders WHERE order_id = %s", order_id)
            if not found:
                return None
            for key, table, order in (
                ("items", "orderitems", "product_id"), ("payments", "payments", "payment_id"),
                ("shipments", "shipments", "shipment_id"),
            ):  # fmt: skip
                query = sql.SQL("SELECT * FROM {} WHERE order_id = %s ORDER BY {}")
                found[key] = _all(connection, query.format(sql.Identifier(table), sql.Identifier(order)), order_id)
        return found

    def names(self, region: str | None, prefix: str) -> list[tuple[str, str]]:
        """See Store: asked of one node, which knows the customers of every region."""
        where, values = ("", []) if region is None else ("region = %s AND ", [self._configuration.node(region).name])
        query = f"""SELECT region, customer_name FROM Customer_Region
            WHERE {where}customer_name >= %s AND customer_name < %s AND NOT deleted ORDER BY customer_name, region"""  # noqa: S608
        with reader(self._configuration, self._any) as connection:
            found = _all(connection, query, *values, prefix, prefix + "\U0010ffff")
        return [(row["region"], row["customer_name"]) for row in found]

    def get_customers_detail_location(self, region: str | None = None, country: str | None = None) -> list[Row]:
        """See Store."""
        return details.get_customers_detail_location(self._configuration, region, country)

    def get_customers_detail_name(self, name: str, region: str | None = None) -> list[Row]:
        """See Store."""
        return details.get_customers_detail_name(self._configuration, name, region)

    def _band(self, price: object, name: str) -> Band:
        return money.band_of(money.cents(price, name), name, catch_all=self._configuration.catch_all)

    def _held_by(self, product: Row) -> Band:
        return money.band_of(product["price_cents"], product["name"], catch_all=True)


def insert(connection: Connection, table: str, part: Sequence[Row]) -> None:
    """Insert rows that all have the same columns."""
    if not part:
        return
    columns = list(part[0])
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, [[row[column] for column in columns] for row in part])


def _reserve(connection: Connection, band: Band, product_id: str, pieces: int) -> Row:
    """Take pieces from the stock; returns the line of the order."""
    table = sql.Identifier(band.table)
    taken = "UPDATE {} SET stock = stock - %s WHERE product_id = %s AND stock >= %s RETURNING price_cents"
    found = _one(connection, sql.SQL(taken).format(table), pieces, product_id, pieces)
    if not found:
        left = _one(connection, sql.SQL("SELECT stock FROM {} WHERE product_id = %s").format(table), product_id)
        raise (
            store.sold_out(product_id, pieces, left["stock"])
            if left
            else store.changed_meanwhile("product", product_id)
        )
    return {"product_id": product_id, "quantity": pieces, "unit_price_cents": found["price_cents"]}


def _write_order(connection: Connection, rows: Mapping[str, Any]) -> None:
    insert(connection, "orders", [rows["order"]])
    insert(connection, "orderitems", rows["items"])
    insert(connection, "payments", [rows["payment"]])
    insert(connection, "shipments", [rows["shipment"]])


def _all(connection: Connection, query: str | sql.Composed, *values: object) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query.encode() if isinstance(query, str) else query, values or None).fetchall()


def _one(connection: Connection, query: str | sql.Composed, *values: object) -> Row | None:
    found = _all(connection, query, *values)
    return found[0] if found else None


def _raise(error: Exception) -> Any:
    raise error
