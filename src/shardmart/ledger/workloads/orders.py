"""Orders: a client places orders and moves its own ones along; every step leaves its token in the order's history."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from ..checks.staging import Staging
from ..journal import Operation
from ..mongodb import MongoSystem
from ..system import Document
from .workload import Checker, Client, Effect, Generator, Seen, Workload, demand

STATUSES = ("paid", "packed", "shipped", "delivered")
REMEMBERED = 64
USERS = 5000


class OrdersGenerator(Generator):
    """Half new orders, half steps of orders the same client placed."""

    def __init__(self) -> None:
        self._open: defaultdict[int, deque[list[Any]]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """`place` with {order, user, cents}, or `advance` with {order, user, status}."""
        mine = self._open[client]
        if mine and dice.random() < 0.5:
            order = dice.choice(mine)
            key, user, step = order
            if step < len(STATUSES):
                order[2] += 1
                return "advance", {"order": key, "user": user, "status": STATUSES[step]}
        user = dice.randrange(USERS)
        mine.append([token, user, 0])
        return "place", {"order": token, "user": user, "cents": dice.randrange(100, 100_000)}


class OrdersClient(Client[MongoSystem]):
    """`place` inserts an order with history [{op, status}]; `advance` sets and pushes the next status."""

    def __init__(self, system: MongoSystem, run: str) -> None:
        super().__init__(system, run)
        self._orders = system.collection("orders")

    def invoke(self, function: str, value: Document, token: int) -> Any:
        """Insert the order, or push a status if the order is there; returns how many orders were changed."""
        key = {"_id": self.id(value["order"]), "user_id": value["user"]}
        if function == "place":
            entry = {"op": token, "status": "placed"}
            self._orders.insert_one(key | {"total_cents": value["cents"], "status": "placed", "history": [entry]})
            return 1
        status = value["status"]
        done = self._orders.update_one(
            key, {"$set": {"status": status}, "$push": {"history": {"op": token, "status": status}}}
        )
        return done.modified_count


class OrdersChecker(Checker):
    """Every step once; a client's next step finds the order it placed; an order's status is the last of its history."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._placed: dict[int, None] = {}

    def look_at(self, operation: Operation) -> None:
        """A client's own acknowledged order must be found by its next update, not only at the end."""
        if operation.outcome != "ok":
            return
        if operation.function == "place":
            self._placed[operation.token] = None
            if len(self._placed) > 2 * REMEMBERED:
                self._placed.pop(next(iter(self._placed)))
        elif operation.result == 0 and operation.value["order"] in self._placed:
            self.found("stale", "an update did not find an order acknowledged before", operation.describe())

    def expect(self, operation: Operation) -> Effect:
        """An entry in the order's history: its amount, or its status."""
        value = operation.value
        amount = f"{value['cents']} cents" if operation.function == "place" else value["status"]
        return Effect(demand(operation), f"order {value['order']}", amount)

    def seen(self, staging: Staging) -> Iterator[Seen]:
        """The entries of every order's history."""
        for document in self.documents("orders"):
            history = document["history"]
            for entry in history:
                placed = entry["status"] == "placed"
                yield (
                    entry["op"],
                    f"order {document['_id']}",
                    f"{document['total_cents']} cents" if placed else entry["status"],
                )
            if not history or history[-1]["status"] != document["status"]:
                self.found(
                    "tampered",
                    f"order {document['_id']} is {document['status']}, but its history ends with"
                    f" {history[-1]['status'] if history else 'nothing'}",
                )


WORKLOAD = Workload(
    name="orders",
    system=MongoSystem,
    collections={"orders": {"user_id": "hashed"}},
    generator=OrdersGenerator,
    client=OrdersClient,
    checker=OrdersChecker,
    writes=frozenset({"place", "advance"}),
    resubmittable=frozenset({"advance"}),  # a second insert of an order is refused by its _id
)
