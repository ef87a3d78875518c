"""Orders: a client places orders and moves its own ones along; every step leaves its token in the order's history."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from typing import Any

from .workload import Context, Document, Workload

STATUSES = ("paid", "packed", "shipped", "delivered")
REMEMBERED = 64
USERS = 5000


class Orders(Workload):
    """`place` inserts an order with history [{op, status}]; `advance` sets and pushes the next status."""

    name = "orders"
    shard_keys = {"orders": {"user_id": "hashed"}}  # noqa: RUF012 - ClassVar in the base
    effect_functions = frozenset({"place", "advance"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._orders = context.collection("orders")
        self._open: defaultdict[int, deque[list[Any]]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def choose(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """Half new orders, half steps of orders this client placed."""
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

    def execute(self, function: str, value: Document, token: int) -> Any:
        """Insert the order, or push a status if the order is there; returns how many orders were changed."""
        key = {"_id": self.context.id(value["order"]), "user_id": value["user"]}
        if function == "place":
            entry = {"op": token, "status": "placed"}
            self._orders.insert_one(key | {"total_cents": value["cents"], "status": "placed", "history": [entry]})
            return 1
        status = value["status"]
        done = self._orders.update_one(
            key, {"$set": {"status": status}, "$push": {"history": {"op": token, "status": status}}}
        )
        return done.modified_count
