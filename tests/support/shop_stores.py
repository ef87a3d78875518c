"""A store with its lanes and its event log, in memory or on a cluster: the contract suite asks both the same things."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from shardmart.shop.adapters.memory import Memory, MemoryLanes, MemoryLog, MemoryStore
from shardmart.shop.adapters.mongodb import client as mongodb
from shardmart.shop.adapters.mongodb import documents
from shardmart.shop.adapters.mongodb.lanes import MongoLanes
from shardmart.shop.adapters.mongodb.log import MongoLog
from shardmart.shop.adapters.mongodb.store import MongoStore
from shardmart.shop.domain.order import Line, Order
from shardmart.shop.ports import EventLog, Lanes, Store, Unit

T = TypeVar("T")
REGIONS, LANES = ("APJ", "EMEA", "LATAM"), 2
ADDRESS = {"street": "High Street 1", "postcode": "N1 9GU", "city": "London", "country": "GB"}


def now() -> datetime:
    """The time as stores keep it: whole milliseconds."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass
class Kit:
    """One store.  Every coroutine runs in the one loop that its driver belongs to."""

    name: str
    store: Store
    log: EventLog
    runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def run(self, body: Coroutine[Any, Any, T], seconds: float = 120) -> T:
        """What `body` returns."""
        return self.runner.run(asyncio.wait_for(body, seconds))

    def lanes(self, service: str, instance: str, lease_seconds: float = 60) -> Lanes:
        """The lanes of a service as an instance sees them."""
        raise NotImplementedError

    async def add_product(self, id_: str, stock: int, price_cents: int = 100) -> None:
        """A product as others write it."""
        raise NotImplementedError

    async def add_customer(self, region: str, user: str) -> None:
        """A customer as others write him."""
        raise NotImplementedError

    def unique(self, kind: str) -> str:
        """A name that no other test has."""
        return f"{kind}-{secrets.token_hex(6)}"

    def order(self, region: str = "EMEA", user: str | None = None, **parts: Any) -> Order:
        """A new order of a customer, pending, not stored."""
        customer = f"{region}.{user or self.unique('u')}"
        made = Order(f"{customer}.{secrets.token_hex(12)}", region, customer=customer, address=dict(ADDRESS), **parts)
        made.place([Line("tea", 2, 300)], parts.get("created_at") or now())
        return made

    async def save(self, aggregate: Any, seen: int = 0) -> None:
        """Store it in a transaction of its own."""

        async def work(unit: Unit) -> None:
            await unit.put(aggregate, seen)

        await self.store.transact(work)


class MemoryKit(Kit):
    """In this process."""

    def __init__(self) -> None:
        self.memory = Memory()
        super().__init__("memory", MemoryStore(self.memory), MemoryLog(self.memory, LANES))

    def lanes(self, service: str, instance: str, lease_seconds: float = 60) -> Lanes:
        return MemoryLanes(self.memory, service, instance, REGIONS, LANES, lease_seconds)

    async def add_product(self, id_: str, stock: int, price_cents: int = 100) -> None:
        self.memory.products_[id_] = {"id": id_, "name": "Tea", "price_cents": price_cents, "stock": stock}

    async def add_customer(self, region: str, user: str) -> None:
        self.memory.customers[f"{region}.{user}"] = {"name": "Ann", "email": "ann@shop.example"}

    def close(self) -> None:
        """End its loop."""
        self.runner.close()


class MongoKit(Kit):
    """On a cluster, through its router."""

    def __init__(self, uri: str) -> None:
        self.client = mongodb.connect(uri, 30, "contract")
        self.database = mongodb.database(self.client, "ecommerce")
        store = MongoStore(self.client, self.database, LANES, seconds=30)
        super().__init__("mongodb", store, MongoLog(self.database, seconds=30))

    def lanes(self, service: str, instance: str, lease_seconds: float = 60) -> Lanes:
        return MongoLanes(self.database, service, instance, REGIONS, LANES, lease_seconds)

    async def add_product(self, id_: str, stock: int, price_cents: int = 100) -> None:
        key = {"_id": documents.stored_id(id_)}
        fields = {"name": "Tea", "category": "Food", "price_cents": price_cents, "stock": stock}
        await self.database["products"].replace_one(key, key | fields, upsert=True)

    async def add_customer(self, region: str, user: str) -> None:
        key = {"region": region, "_id": documents.stored_id(user)}
        fields = {"name": "Ann", "email": "ann@shop.example", "address": ADDRESS, "created_at": now()}
        await self.database["users"].replace_one(key, key | fields, upsert=True)

    def close(self) -> None:
        """Give back its connections and end its loop."""
        self.run(self.client.close())
        self.runner.close()
