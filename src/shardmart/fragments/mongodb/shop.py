"""The shop on MongoDB: products lie where their price says, all else where the customer lives; transactions over both.

The price is the head of the products' shard key, as it is the key of the relational fragments: a query that names one
asks one shard, and a product that changes its price may change its shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure
from pymongo.read_concern import ReadConcern

from .. import money, store
from ..configuration import Configuration
from ..store import Row
from . import aggregations
from .connection import MAJORITY, Document, connect, database, one_line

T = TypeVar("T")
DUPLICATE_KEY = 11000
KEYS = {
    "products": "product_id",
    "customers": "customer_id",
    "orders": "order_id",
    "payments": "payment_id",
    "shipments": "shipment_id",
}
"""What the `_id` of each collection is called in rows."""
WOULD_CHANGE_OWNING_SHARD = 283
"""A router that does not move a document to another shard by itself (MongoDB's error_codes.yml)."""


class MongoShop:
    """See `store.Store`."""

    def __init__(self, configuration: Configuration, client: MongoClient[Document]) -> None:
        self._configuration, self._client = configuration, client
        self._database = database(client)

    @classmethod
    def connect(cls, configuration: Configuration) -> MongoShop:
        """The shop of a configuration."""
        return cls(configuration, connect(configuration))

    def close(self) -> None:
        """See Store."""
        self._client.close()

    def create_product(self, product_id: str, name: str, category: str, price: object, stock: int) -> Row:
        """See Store."""
        value = self._price(price, name)
        store.check_product(product_id, name, category, stock)
        row = {"product_id": product_id, "name": name, "category": category, "price_cents": value, "stock": stock}

        def create(session: ClientSession) -> None:
            self._alone_with(product_id, session)
            if self._database.products.find_one({"_id": product_id}, session=session):
                raise store.taken("product", product_id)
            self._database.products.insert_one(document("products", row), session=session)

        with one_line():
            try:
                self._transaction(create)
            except DuplicateKeyError:
                raise store.taken("product", product_id) from None
        return row

    def _alone_with(self, product_id: str, session: ClientSession) -> None:
        """The shard key makes `_id` unique for one price alone: whoever makes a product or gives it another price
        writes one document of its id, so that the transactions of two conflict, and the later one sees the other."""
        guards, here = self._database.product_guards, {"_id": product_id}
        guards.update_one(here, {"$inc": {"writes": 1}}, upsert=True, session=session)

    def product(self, product_id: str) -> Row | None:
        """See Store: by its id alone every shard is asked."""
        return self._one("products", {"_id": product_id})

    def products_between(self, low: object, high: object) -> list[Row]:
        """See Store."""
        prices = {"$gte": money.cents(low), "$lt": money.cents(high)}
        with one_line():
            found = self._database.products.find({"price_cents": prices}).sort([("price_cents", 1), ("_id", 1)])
            return [row("products", each) for each in found]

    def change_price(self, product_id: str, price: object) -> Row:
        """See Store.  An update in a transaction; where the router refuses to move it, a deletion and an insertion in
        one."""
        found = self.product(product_id)
        if not found:
            raise store.missing_product(product_id)
        value = self._price(price, found["name"])
        here = {"_id": product_id, "price_cents": found["price_cents"]}

        def update(session: ClientSession) -> None:
            self._alone_with(product_id, session)
            done = self._database.products.update_one(here, {"$set": {"price_cents": value}}, session=session)
            if not done.matched_count:
                raise store.changed_meanwhile("product", product_id)

        def move(session: ClientSession) -> None:
            self._alone_with(product_id, session)
            gone = self._database.products.find_one(here, session=session)
            if not gone or not self._database.products.delete_one(here, session=session).deleted_count:
                raise store.changed_meanwhile("product", product_id)
            self._database.products.insert_one(gone | {"price_cents": value}, session=session)

        with one_line():
            try:
                self._transaction(update)
            except OperationFailure as error:
                if error.code != WOULD_CHANGE_OWNING_SHARD:
                    raise
                self._transaction(move)
        return found | {"price_cents": value}

    def delete_product(self, product_id: str) -> None:
        """See Store."""
        found = self.product(product_id)
        if not found:
            raise store.missing_product(product_id)
        here = {"_id": product_id, "price_cents": found["price_cents"]}
        with one_line():
            if not self._database.products.delete_one(here).deleted_count:
                raise store.changed_meanwhile("product", product_id)

    def create_customer(self, customer: Row) -> Row:
        """See Store."""
        store.check_customer(customer)
        self._configuration.node(customer["region"])
        with one_line():
            try:
                self._database.customers.insert_one(document("customers", customer))
            except DuplicateKeyError:
                raise store.taken("customer", customer["customer_id"]) from None
        return customer

    def customer(self, region: str, customer_id: str) -> Row | None:
        """See Store."""
        self._configuration.node(region)
        return self._one("customers", {"region": region, "_id": customer_id})

    def rename_customer(self, region: str, customer_id: str, name: str) -> Row:
        """See Store."""
        store.check_customer({"customer_name": name})
        here = {"region": region, "_id": customer_id}
        with self._of(region):
            done = self._database.customers.update_one(here, {"$set": {"customer_name": name}})
        if not done.matched_count:
            raise store.missing_customer(region, customer_id)
        return self.customer(region, customer_id) or _raise(store.missing_customer(region, customer_id))

    def move_customer(self, region: str, customer_id: str, to: str) -> Row:
        """See Store.  Many documents change their shard key, and an update of many cannot do that: delete and
        insert."""
        for name in (region, to):
            self._configuration.node(name)
        customer = self.customer(region, customer_id) or _raise(store.missing_customer(region, customer_id))
        if region == to:
            return customer

        def move(session: ClientSession) -> None:
            owned = {"region": region, "customer_id": customer_id}
            orders = list(self._database.orders.find(owned, session=session))
            numbers = {"region": region, "order_id": {"$in": [order["_id"] for order in orders]}}
            self._carry("customers", {"region": region, "_id": customer_id}, to, session)
            if orders:
                self._carry("orders", owned, to, session)
                self._carry("payments", numbers, to, session)
                self._carry("shipments", numbers, to, session)

        with one_line():
            try:
                self._transaction(move)
            except DuplicateKeyError:
                raise store.taken("customer", customer_id) from None
            except BulkWriteError as error:
                if all(each["code"] == DUPLICATE_KEY for each in error.details["writeErrors"]):
                    raise store.taken("customer", customer_id) from None
                raise
        return customer | {"region": to}

    def _carry(self, collection: str, query: Document, to: str, session: ClientSession) -> None:
        found = list(self._database[collection].find(query, session=session))
        gone = self._database[collection].delete_many(query, session=session).deleted_count
        if gone != len(found) or (collection == "customers" and not found):
            raise store.changed_meanwhile("customer", str(query.get("customer_id", query.get("_id", ""))))
        if found:
            self._database[collection].insert_many([each | {"region": to} for each in found], session=session)

    def delete_customer(self, region: str, customer_id: str) -> None:
        """See Store."""

        def delete(session: ClientSession) -> None:
            # The customer is touched first: an order that is placed now conflicts with it.
            gone = self._database.customers.delete_one({"region": region, "_id": customer_id}, session=session)
            if not gone.deleted_count:
                raise store.missing_customer(region, customer_id)
            if self._database.orders.find_one({"region": region, "customer_id": customer_id}, session=session):
                raise store.has_orders(customer_id)

        with self._of(region):
            self._transaction(delete)

    def place_order(self, region: str, customer_id: str, items: Mapping[str, int], method: str = "card") -> Row:
        """See Store."""
        store.check_order(items, method)
        self._configuration.node(region)
        prices = {}
        for product_id in items:
            found = self.product(product_id) or _raise(store.missing_product(product_id))
            prices[product_id] = found["price_cents"]

        def order(session: ClientSession) -> Row:
            # No document says that there is a customer but his own: written to, so that a deletion conflicts with it.
            here = {"region": region, "_id": customer_id}
            customer = self._database.customers.find_one_and_update(here, {"$inc": {"orders": 1}}, session=session)
            if not customer:
                raise store.missing_customer(region, customer_id)
            lines = [self._reserve(product, prices[product], items[product], session) for product in sorted(items)]
            rows = store.new_order(region, row("customers", customer), lines, method)
            bought = [
                {key: line[key] for key in ("product_id", "quantity", "unit_price_cents")} for line in rows["items"]
            ]
            self._database.orders.insert_one(document("orders", rows["order"] | {"items": bought}), session=session)
            self._database.payments.insert_one(
                document("payments", rows["payment"] | {"region": region}), session=session
            )
            self._database.shipments.insert_one(
                document("shipments", rows["shipment"] | {"region": region}), session=session
            )
            placed: Row = rows["order"]
            return placed

        with one_line():
            return self._transaction(order)

    def _reserve(self, product_id: str, price: int, pieces: int, session: ClientSession) -> Row:
        here = {"_id": product_id, "price_cents": price}
        enough = here | {"stock": {"$gte": pieces}}
        if not self._database.products.update_one(enough, {"$inc": {"stock": -pieces}}, session=session).matched_count:
            left = self._database.products.find_one(here, session=session)
            raise (
                store.sold_out(product_id, pieces, left["stock"])
                if left
                else store.changed_meanwhile("product", product_id)
            )
        return {"product_id": product_id, "quantity": pieces, "unit_price_cents": price}

    def order(self, region: str, order_id: str) -> Row | None:
        """See Store."""
        self._configuration.node(region)
        found = self._one("orders", {"region": region, "_id": order_id})
        if not found:
            return None
        part = {key: found[key] for key in ("order_id", "order_sequence_id")}
        found["items"] = [part | item for item in sorted(found["items"], key=lambda item: str(item["product_id"]))]
        with one_line():
            for collection in ("payments", "shipments"):
                query = {"region": region, "order_id": order_id}
                rows = [row(collection, each) for each in self._database[collection].find(query).sort("_id", 1)]
                found[collection] = [{key: value for key, value in each.items() if key != "region"} for each in rows]
        return found

    def names(self, region: str | None, prefix: str) -> list[tuple[str, str]]:
        """See Store."""
        query: Document = {"customer_name": {"$gte": prefix, "$lt": prefix + "\U0010ffff"}}
        with self._of(region):
            found = self._database.customers.find(query | ({} if region is None else {"region": region}))
            ordered = found.sort([("customer_name", 1), ("region", 1)])
            return [(each["region"], each["customer_name"]) for each in ordered]

    def get_customers_detail_location(self, region: str | None = None, country: str | None = None) -> list[Row]:
        """See Store."""
        with self._of(region):
            return aggregations.get_customers_detail_location(self._database, region, country)

    def get_customers_detail_name(self, name: str, region: str | None = None) -> list[Row]:
        """See Store."""
        with self._of(region):
            return aggregations.get_customers_detail_name(self._database, name, region)

    @contextmanager
    def _of(self, region: str | None) -> Iterator[None]:
        """A question about a region, which has to be there, or about all."""
        if region is not None:
            self._configuration.node(region)
        with one_line():
            yield

    def _price(self, price: object, name: str) -> int:
        value = money.cents(price, name)
        money.band_of(value, name, catch_all=self._configuration.catch_all)
        return value

    def _one(self, collection: str, query: Document) -> Row | None:
        with one_line():
            found = self._database[collection].find_one(query)
        return row(collection, found) if found else None

    def _transaction(self, body: Callable[[ClientSession], T]) -> T:
        """Run it in a transaction, again where the server says that this may help."""
        with self._client.start_session() as session:
            return session.with_transaction(body, ReadConcern("snapshot"), MAJORITY)


def document(collection: str, row: Row) -> Document:
    """A row as the document of a collection."""
    key = KEYS[collection]
    return {"_id": row[key]} | {name: value for name, value in row.items() if name != key}


def row(collection: str, document: Document) -> Row:
    """A document as a row; what only this store needs is left out."""
    return {KEYS[collection]: document["_id"]} | {
        name: value
        for name, value in document.items()
        if name != "_id" and (collection, name) != ("customers", "orders")
    }


def _raise(error: Exception) -> Any:
    raise error
