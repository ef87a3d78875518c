"""A data set: every document as a pure function of (seed, position), in ranges of positions.

It never talks to a server and holds nothing
that grows with the number of users or orders.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from . import draws, identity
from .catalogue import Catalogue
from .people import LAST_DAY_MS, People

Document = dict[str, Any]

COLLECTIONS = ("users", "products", "orders")
"""In the order they are loaded: an order's customer and articles are there before it."""

# Of 64 orders this many have 1, 2, 3, 4 and 5 draws of an article; of 64 lines this many have 1, 2 and 3 pieces.
LINES = (1,) * 29 + (2,) * 18 + (3,) * 10 + (4,) * 5 + (5,) * 2
QUANTITIES = (1,) * 48 + (2,) * 11 + (3,) * 5

SETTLED = ("delivered",) * 29 + ("cancelled",) * 2 + ("returned",)
OPEN = ("pending", "paid", "paid", "shipped", "shipped", "delivered", "delivered", "cancelled")
SETTLED_AFTER_MS = 14 * 86_400_000
"""Orders older than two weeks at the end of the data set's time are no longer on their way."""

CHANGING_FIELDS: Mapping[str, frozenset[str]] = {
    "users": frozenset(),
    "products": frozenset({"stock"}),
    "orders": frozenset({"status"}),
}
"""What a shop that runs on the data changes: a different value there is the shop's, not a fault."""


@dataclass(frozen=True)
class Counts:
    """How much to load."""

    users: int = 10
    orders_per_user: int = 3
    products: int = 20

    @property
    def orders(self) -> int:
        """Orders of all users together."""
        return self.users * self.orders_per_user

    def of(self, collection: str) -> int:
        """Documents of `collection`."""
        return {"users": self.users, "products": self.products, "orders": self.orders}[collection]


class DataSet:
    """The documents of one seed, counts and Zipf exponent."""

    def __init__(
        self, seed: int, counts: Counts, zipf: Decimal, regions: Sequence[str], *, known_products: int = 0
    ) -> None:
        """`known_products`: how many articles earlier loads of this seed may have chosen from, if more than now."""
        self.seed = seed
        self.counts = counts
        self._people = People(seed, regions)
        self._catalogue = Catalogue(seed, max(counts.products, known_products), zipf)
        self._draw = draws.stream(seed, "orders", 9)

    def documents(self, collection: str, start: int, stop: int) -> Iterator[Document]:
        """The documents of `collection` at positions [`start`, `stop`), in the order of their `_id`."""
        if collection == "users":
            return map(self._people.document, range(start, stop))
        if collection == "products":
            return map(self._catalogue.document, range(start, stop))
        return self._orders(start, stop)

    def identifier(self, collection: str, position: int) -> ObjectId:
        """The `_id` of the document at `position`; one past the end is greater than the last."""
        if collection == "users":
            return identity.user_id(self.seed, position)
        if collection == "products":
            return identity.product_id(self.seed, position)
        return identity.order_id(self.seed, *divmod(position, self.counts.orders_per_user))

    def order_of_any_catalogue(self, found: Document) -> Document:
        """The order at the place of `found`, made from the catalogue size `found` was made from.

        An order loaded when the catalogue was smaller or larger chose from other articles and is as right as one
        of today.  The size is solved from the articles in it; without a solution the order of today's size is given.
        """
        _, _, user, number = identity.parse(found["_id"])
        words = self._draw(user, number)
        draws_made = words[1 : 1 + LINES[words[0] >> 26]]
        bought = {identity.parse(item["product_id"])[2] for item in found["items"]}
        basics = self._people.basics(user)
        for size in self._possible_sizes(draws_made, bought):
            order = self._order(user, number, *basics, size)
            if order["items"] == found["items"]:
                return order
        return self._order(user, number, *basics, self.counts.products)

    def _possible_sizes(self, draws_made: Sequence[int], bought: set[int]) -> Iterator[int]:
        """One catalogue size for each different order these draws can make of articles in `bought`.

        A draw's article moves up as the catalogue grows, so the sizes at which it moves onto or off an article in
        `bought` are the only ones at which the order changes.
        """
        known, seen = range(1, self._catalogue.size + 1), set()
        for word in draws_made:
            for article in bought:
                for target in (article, article + 1):
                    size = 1 + bisect_left(known, target, key=lambda s: self._catalogue.position(word, s))
                    if size <= self._catalogue.size and size not in seen:
                        seen.add(size)
                        yield size

    def _orders(self, start: int, stop: int) -> Iterator[Document]:
        per_user = self.counts.orders_per_user
        size, order, position = self.counts.products, self._order, start
        while position < stop:
            user, number = divmod(position, per_user)
            basics = self._people.basics(user)
            last = min(per_user, number + stop - position)
            position += last - number
            for number in range(number, last):  # noqa: B020 - the first number is where the range starts
                yield order(user, number, *basics, size)

    def _order(self, user: int, number: int, user_id: ObjectId, region: str, signed_up: int, size: int) -> Document:
        words = self._draw(user, number)
        catalogue, quantities = self._catalogue, words[6]
        pieces: dict[int, int] = {}
        for word in words[1 : 1 + LINES[words[0] >> 26]]:
            article = catalogue.position(word, size)
            # An article drawn twice is one line with more pieces.
            pieces[article] = pieces.get(article, 0) + QUANTITIES[quantities & 63]
            quantities >>= 6
        total = 0
        items = []
        for article, quantity in pieces.items():
            price = catalogue.prices[article]
            total += price * quantity
            items.append(
                {
                    "product_id": identity.product_id(self.seed, article),
                    "quantity": quantity,
                    "unit_price_cents": price,
                }
            )
        ordered = signed_up + ((LAST_DAY_MS - signed_up) * words[7] >> 32)
        return {
            "_id": identity.order_id(self.seed, user, number),
            "region": region,
            "user_id": user_id,
            "items": items,
            "total_cents": total,
            "status": draws.choice(SETTLED if LAST_DAY_MS - ordered > SETTLED_AFTER_MS else OPEN, words[8]),
            "created_at": DatetimeMS(ordered),
        }
