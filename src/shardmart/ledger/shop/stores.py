"""What the shop's stores hold of a run, as plain data: the database and the cache by URI, the provider by HTTP.

Read by a user that may change nothing.  An order of a run is known by its address, which the workload wrote into it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pymongo import MongoClient, ReadPreference
from pymongo.read_concern import ReadConcern

from shardmart.cluster.protocol.connection import Deadline
from shardmart.errors import BadUseError, UnreachableError

from ..system import Document, PrepareError
from .http import HttpClient, RequestError
from .place import ShopPlace

ORDERS, RESERVATIONS, PAYMENTS, NOTIFICATIONS = (
    "shop-orders",
    "shop-reservations",
    "shop-payments",
    "shop-notifications",
)
EVENTS, PARKED, STOCK, PROVIDER, CACHE = "shop-events", "shop-parked", "shop-stock", "shop-provider", "shop-cache"
KINDS = (ORDERS, RESERVATIONS, PAYMENTS, NOTIFICATIONS, EVENTS, PARKED, STOCK, PROVIDER, CACHE)
"""What the final documents of a run are kept as; not `orders` and `stock`, which other workloads have."""

BATCH = 200
PAGE = 1000
COUNT_SECONDS = 30
CUSTOMERS_PER_REGION, ORDERS_LOOKED_AT = 8, 400

Final = dict[str, list[Document]]


class Stores:
    """The stores of one shop whose database is MongoDB."""

    def __init__(self, place: ShopPlace, client: MongoClient[Document], http: HttpClient) -> None:
        self._place, self._http = place, http
        self._database = client.get_database(
            place.database, read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY
        )

    def customers(self) -> list[str]:
        """Some customers of every region (REGION.USER), as the orders there are name them: nobody's data is read."""
        found: list[str] = []
        for region in self._place.regions:
            some = self._database["orders"].find({"region": region}, {"user_id": 1}).limit(ORDERS_LOOKED_AT)
            users = dict.fromkeys(str(order["user_id"]) for order in some)
            found += [f"{region}.{user}" for user in list(users)[:CUSTOMERS_PER_REGION]]
        return found

    def products(self, count: int) -> list[str]:
        """The first products by id."""
        return [str(one["_id"]) for one in self._database["products"].find({}, {"_id": 1}).sort("_id", 1).limit(count)]

    def pieces(self) -> dict[str, int]:
        """Pieces of each product that are in stock or that orders hold or took: only a restock changes this number.

        Raises PrepareError when others change the stock so fast that it cannot be counted.
        """
        deadline = Deadline(COUNT_SECONDS)
        while True:
            before = self._stock()
            held = self._held()
            if self._stock() == before:
                break
            if not deadline.remaining:
                raise PrepareError(f"the stock changed all the time for {COUNT_SECONDS} s: others are using this shop")
            deadline.pause("the stock to stand still")
        known = {product: found[0] + held[product] for product, found in before.items()}
        return self._first_pieces() | known

    def _first_pieces(self) -> dict[str, int]:
        """Pieces that a product had before anything was ordered."""
        first = self._database["products"].find({}, {"stock": 1})
        return {str(one["_id"]): int(one["stock"]) for one in first}

    def read(self, run: str) -> Final:
        """Everything that the stores hold of a run."""
        orders = list(self._orders(run))
        keys = [order["_id"] for order in orders]
        own = set(keys)
        events = [_event(one) for one in self._of("events", "key", keys)]
        held, stock = self._held(), self._stock()
        return {
            ORDERS: orders,
            RESERVATIONS: [_reservation(one) for one in self._of("reservations", "_id", keys)],
            PAYMENTS: [_plain(one, _PAYMENT) for one in self._of("payments", "_id", keys)],
            NOTIFICATIONS: [
                _plain(one, _NOTIFICATION)
                for one in self._of("notifications", "_id", [event["_id"] for event in events])
            ],
            EVENTS: events,
            PARKED: [
                {"_id": one["_id"], "key": one["key"], "service": one["service"], "reason": one["reason"]}
                for one in self._parked()
                if one["key"] in own
            ],
            STOCK: [
                {"_id": product, "available": available, "version": version, "held": held[product]}
                for product, (available, version) in stock.items()
            ],
            PROVIDER: [entry for entry in self._provider() if entry["order"] in own],
            CACHE: self._cached(stock),
        }

    def _parked(self) -> Iterator[Document]:
        """Every parked event."""
        yield from self._database["parked_events"].find()

    def _orders(self, run: str) -> Iterator[Document]:
        mark = {"address.street": {"$gte": f"{run}:", "$lt": f"{run};"}}
        for one in self._database["orders"].find(mark):
            customer = f"{one['region']}.{one['user_id']}"
            yield {
                "_id": f"{customer}.{one['_id']}",
                "op": int(one["address"]["street"].split(":", 1)[1]),
                "customer": customer,
                "status": one["status"],
                "total_cents": one["total_cents"],
                "items": [[str(i["product_id"]), i["quantity"], i["unit_price_cents"]] for i in one["items"]],
                "city": one["address"]["city"],
                "version": one["version"],
                "revision": one["revision"],
                "told": one["told"],
                "inbox": one["inbox"],
                "history": [entry["status"] for entry in one["history"]],
                "reason": one["reason"],
            }

    def _of(self, collection: str, field: str, keys: Sequence[str]) -> Iterator[Document]:
        """The documents whose `field` is one of `keys`, asked of every shard: one that is on two is found twice."""
        for start in range(0, len(keys), BATCH):
            yield from self._database[collection].find({field: {"$in": list(keys[start : start + BATCH])}})

    def _stock(self) -> dict[str, tuple[int, int]]:
        """Pieces that can still be sold, and the version of that number, by product."""
        return {one["_id"]: (one["available"], one["version"]) for one in self._database["stock"].find()}

    def _held(self) -> Counter[str]:
        """Pieces that all reservations hold or have taken, by product."""
        stages: list[Mapping[str, Any]] = [
            {"$match": {"state": {"$in": ["held", "taken"]}}},
            {"$unwind": "$pieces"},
            {"$group": {"_id": "$pieces.product", "quantity": {"$sum": "$pieces.quantity"}}},
        ]
        return Counter({one["_id"]: one["quantity"] for one in self._database["reservations"].aggregate(stages)})

    def _provider(self) -> Iterator[Document]:
        """The provider's own ledger, which the shop cannot write."""
        after = 0
        while True:
            url = f"{self._place.urls['provider']}/ledger?after={after}&limit={PAGE}"
            try:
                answer = self._http.until_answered("GET", url, self._place.provider_key)
            except RequestError as error:
                raise UnreachableError(f"the payment provider does not show its ledger: {error}") from None
            if not isinstance(answer.document, dict) or "items" not in answer.document:
                raise UnreachableError(f"the payment provider does not show its ledger: {answer.words}")
            page = answer.document["items"]
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1]["number"]

    def _cached(self, stock: Iterable[str]) -> list[Document]:
        """What the cache says of each product; None for what it does not know."""
        if self._place.cache_url is None:
            return []
        try:
            import redis
        except ModuleNotFoundError:
            raise BadUseError("to read the shop's cache: pip install 'shardmart[shop]'") from None
        products = sorted(stock)
        try:
            values = _of_cache(redis, self._place.cache_url, [f"stock:{product}" for product in products])
        except redis.RedisError as error:
            raise UnreachableError(f"the shop's cache does not answer: {type(error).__name__}") from None
        return [
            {"_id": product, "cached": None if value is None else int(value)}
            for product, value in zip(products, values, strict=True)
        ]


def _of_cache(driver: Any, url: str, keys: list[str]) -> list[Any]:
    """The values of these keys, in one server or in a cluster, whose URL has several addresses."""
    parts = urlsplit(url)
    addresses = [address.rpartition(":") for address in parts.netloc.rpartition("@")[2].split(",")]
    if not keys:
        return []
    if len(addresses) == 1:
        with driver.Redis.from_url(url, decode_responses=True, socket_timeout=5) as one:
            return list(one.mget(keys))
    tls = {"ssl": True, "ssl_ca_certs": parse_qs(parts.query)["ssl_ca_certs"][0]} if parts.scheme == "rediss" else {}
    with driver.RedisCluster(
        startup_nodes=[driver.cluster.ClusterNode(host, int(port)) for host, _, port in addresses],
        username=unquote(parts.username or "") or None, password=unquote(parts.password or "") or None,
        decode_responses=True, socket_timeout=5,
        require_full_coverage=False, **tls,
    ) as cluster:  # fmt: skip
        return list(cluster.mget_nonatomic(keys))


_EVENT = ("_id", "key", "producer", "number", "type")
_PAYMENT = ("_id", "state", "amount_cents", "charge", "refund", "told", "inbox")
_NOTIFICATION = ("_id", "key", "type", "state")


def _plain(document: Document, names: Iterable[str]) -> Document:
    return {name: document[name] for name in names}


def _event(document: Document) -> Document:
    return _plain(document, _EVENT) | {"revision": document["data"].get("revision")}


def _reservation(document: Document) -> Document:
    pieces = {piece["product"]: piece["quantity"] for piece in document["pieces"]}
    return _plain(document, ("_id", "state", "revision", "told", "inbox")) | {"pieces": pieces}
