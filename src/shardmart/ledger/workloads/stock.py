"""Stock: many clients reserve units of few products on condition that enough are left; nothing may be oversold."""

from __future__ import annotations

import random
from typing import Any

from .workload import Context, Document, Rotation, Workload

INITIAL = 100
PRODUCTS, USES = 20, 80


class Stock(Workload):
    """`stock` creates a product with INITIAL units; `reserve` takes 1..3 if `available` allows, leaving {op, units}."""

    name = "stock"
    shard_keys = {"stock": {"_id": "hashed"}}  # noqa: RUF012
    effect_functions = frozenset({"reserve"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._stock = context.collection("stock")
        self._rotation = Rotation(PRODUCTS, USES)

    def choose(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """Reserve from a product that is on sale; the first client to meet a product stocks it."""
        product, new = self._rotation.pick(dice)
        if new:
            return "stock", {"product": product, "units": INITIAL}
        return "reserve", {"product": product, "units": dice.randrange(1, 4)}

    def execute(self, function: str, value: Document, token: int) -> Any:
        """Returns 1 if the product was stocked or the units reserved, 0 if there was not enough."""
        key = self.context.id(value["product"])
        units = value["units"]
        if function == "stock":
            self._stock.insert_one({"_id": key, "initial": units, "available": units, "sold": 0, "reservations": []})
            return 1
        done = self._stock.update_one(
            {"_id": key, "available": {"$gte": units}},
            {"$inc": {"available": -units, "sold": units}, "$push": {"reservations": {"op": token, "units": units}}},
        )
        return done.modified_count
