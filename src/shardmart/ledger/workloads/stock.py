"""Stock: many clients reserve units of few products on condition that enough are left; nothing may be oversold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from ..checks.staging import Staging
from ..journal import Operation
from ..mongodb import MongoSystem
from ..system import Document
from .workload import Checker, Client, Effect, Generator, Rotation, Seen, Workload, demand

INITIAL = 100
PRODUCTS, USES = 20, 80


class StockGenerator(Generator):
    """Reserve from a product that is on sale; the first client to meet a product stocks it."""

    def __init__(self) -> None:
        self._rotation = Rotation(PRODUCTS, USES)

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """`stock` or `reserve`, with {product, units}."""
        product, new = self._rotation.pick(dice)
        if new:
            return "stock", {"product": product, "units": INITIAL}
        return "reserve", {"product": product, "units": dice.randrange(1, 4)}


class StockClient(Client[MongoSystem]):
    """`stock` creates a product; `reserve` takes units if `available` allows, leaving {op, units}."""

    def __init__(self, system: MongoSystem, run: str) -> None:
        super().__init__(system, run)
        self._stock = system.collection("stock")

    def invoke(self, function: str, value: Document, token: int) -> Any:
        """Returns 1 if the product was stocked or the units reserved, 0 if there was not enough."""
        key = self.id(value["product"])
        units = value["units"]
        if function == "stock":
            self._stock.insert_one({"_id": key, "initial": units, "available": units, "sold": 0, "reservations": []})
            return 1
        done = self._stock.update_one(
            {"_id": key, "available": {"$gte": units}},
            {"$inc": {"available": -units, "sold": units}, "$push": {"reservations": {"op": token, "units": units}}},
        )
        return done.modified_count


class StockChecker(Checker):
    """Every reservation once, and initial - available = sold = the sum of the reservations, never more than initial."""

    kinds = {"oversold": "more units were sold than there were"}  # noqa: RUF012 - ClassVar in the base

    def expect(self, operation: Operation) -> Effect | None:
        """A reservation in its product; the stocking itself leaves no token."""
        if operation.function != "reserve":
            return None
        value = operation.value
        return Effect(demand(operation), f"product {value['product']}", f"{value['units']} units")

    def seen(self, staging: Staging) -> Iterator[Seen]:
        """The reservations of every product."""
        for document in self.documents("stock"):
            name = f"product {document['_id']}"
            units = sum(entry["units"] for entry in document["reservations"])
            initial, available, sold = document["initial"], document["available"], document["sold"]
            if available < 0 or sold > initial:
                self.found("oversold", f"{name}: {available} available, {sold} of {initial} sold")
            if not initial - available == sold == units:
                self.found(
                    "unbalanced",
                    f"{name}: initial {initial} - available {available} = {initial - available}, sold {sold},"
                    f" reservations add up to {units}",
                )
            for entry in document["reservations"]:
                yield entry["op"], name, f"{entry['units']} units"


WORKLOAD = Workload(
    name="stock",
    system=MongoSystem,
    collections={"stock": {"_id": "hashed"}},
    generator=StockGenerator,
    client=StockClient,
    checker=StockChecker,
    writes=frozenset({"reserve"}),
    resubmittable=frozenset({"reserve"}),
)
