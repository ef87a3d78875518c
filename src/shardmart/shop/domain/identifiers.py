"""Identifiers as callers see them: text that says where the thing is, so that every read goes to one shard.

A customer is `REGION.USER`, an order `REGION.USER.ORDER`.  Ids stay text from end to end: JavaScript would round
numbers beyond 2^53.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from .errors import NotFoundError

MAXIMUM_LENGTH = 200


@dataclass(frozen=True)
class Customer:
    """A customer: the region he lives in and his id there."""

    region: str
    user: str

    @classmethod
    def parse(cls, text: str) -> Customer:
        """`REGION.USER`; NotFoundError for anything else."""
        return cls(*_parts(text, 2, "customer"))

    def __str__(self) -> str:
        return f"{self.region}.{self.user}"


@dataclass(frozen=True)
class OrderId:
    """An order: whose it is, and its id."""

    customer: Customer
    order: str

    @classmethod
    def parse(cls, text: str) -> OrderId:
        """`REGION.USER.ORDER`; NotFoundError for anything else."""
        region, user, order = _parts(text, 3, "order")
        return cls(Customer(region, user), order)

    @property
    def region(self) -> str:
        """The region whose shards hold the order and everything about it."""
        return self.customer.region

    def __str__(self) -> str:
        return f"{self.customer}.{self.order}"


def _parts(text: str, number: int, what: str) -> list[str]:
    """The parts between the dots, none of them empty; NotFoundError when it is another number of them."""
    parts = text.split(".")
    if len(parts) != number or not all(parts) or len(text) > MAXIMUM_LENGTH:
        raise NotFoundError(f"there is no such {what}")
    return parts


def region_of(order: str) -> str:
    """The region in the text of an order's id."""
    return order.partition(".")[0]


def lane_of(key: str, lanes: int) -> int:
    """Which of a region's `lanes` handles the events of `key`: the same for every service and for ever."""
    return zlib.crc32(key.encode()) % lanes
