"""The catalogue: articles with plausible prices, and how often each is bought (Zipf).

Position and popularity rank are the same thing: article 0 sells best.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from decimal import Context, Decimal
from itertools import accumulate
from typing import Any

from . import draws, pools
from .identity import product_id

# Articles are our own words, Faker has none: category, cheapest and dearest in cents, nouns.
CATEGORIES: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("Books", 600, 6_000, ("Novel", "Cookbook", "Atlas", "Field Guide", "Biography")),
    ("Clothing", 900, 18_000, ("T-Shirt", "Jacket", "Jeans", "Sweater", "Raincoat", "Scarf")),
    ("Electronics", 1_500, 160_000, ("Headphones", "Tablet", "Monitor", "Keyboard", "Camera", "Speaker")),
    ("Garden", 500, 45_000, ("Watering Can", "Hose", "Lantern", "Deck Chair", "Spade")),
    ("Grocery", 150, 4_000, ("Coffee", "Olive Oil", "Chocolate", "Tea", "Honey")),
    ("Health", 300, 9_000, ("Toothbrush", "Sunscreen", "Vitamins", "Hand Cream")),
    ("Home", 800, 70_000, ("Lamp", "Rug", "Cushion", "Bookshelf", "Kettle", "Towel Set")),
    ("Office", 200, 40_000, ("Notebook", "Desk Lamp", "Stapler", "Office Chair", "Pen Set")),
    ("Sports", 700, 90_000, ("Yoga Mat", "Football", "Tent", "Bicycle Helmet", "Running Shoes")),
    ("Toys", 500, 15_000, ("Puzzle", "Kite", "Board Game", "Building Blocks", "Plush Bear")),
)

WEIGHT_ONE = 2**40
"""The weight of rank 1. Weights are integers, so that popularity is the same on every machine."""


class Catalogue:
    """`size` articles of one seed. Holds 4 bytes of price and 8 of popularity an article."""

    def __init__(self, seed: int, size: int, zipf: Decimal) -> None:
        """`zipf` is the exponent: 0 sells all articles alike, 1 is what shops see, more is steeper."""
        self.size = size
        self._seed = seed
        self._draw = draws.stream(seed, "products", 8)
        self.prices = array("I", map(self._price, range(size)))
        self.cumulated = array("Q", accumulate(weights(size, zipf)))
        """Weight of the articles 0..i."""

    def position(self, word: int, size: int) -> int:
        """The article a 32-bit word buys from the first `size` articles."""
        return bisect_right(self.cumulated, word * self.cumulated[size - 1] >> 32)

    def document(self, position: int) -> dict[str, Any]:
        """The `products` document at `position`."""
        words = self._draw(position, 0)
        category, _, _, nouns = draws.choice(CATEGORIES, words[0])
        return {
            "_id": product_id(self._seed, position),
            "name": " ".join(
                (
                    draws.choice(pools.load().makers, words[1]),
                    draws.choice(pools.load().colours, words[2]),
                    draws.choice(nouns, words[3]),
                )
            ),
            "category": category,
            "price_cents": self.prices[position],
            "stock": draws.between(0, 5_000, words[6]),
        }

    def _price(self, position: int) -> int:
        words = self._draw(position, 0)
        _, low, high, _ = draws.choice(CATEGORIES, words[0])
        # The cube favours the cheap end: dear articles are rare in every category.
        cents = low + ((high - low) * words[4] ** 3 >> 96)
        ending = draws.choice((99, 99, 99, 95, 50, 0), words[5])
        return cents // 100 * 100 + ending


def weights(size: int, zipf: Decimal) -> list[int]:
    """How often each rank is bought, against WEIGHT_ONE for the first: rank ** -zipf, rounded down, at least 1."""
    if zipf == zipf.to_integral_value() and zipf >= 0:
        exponent = int(zipf)
        return [max(1, WEIGHT_ONE // rank**exponent) for rank in range(1, size + 1)]
    # Decimal and not float: pow() may differ in its last bit from one C library to the next.
    context = Context(prec=16)
    one = Decimal(WEIGHT_ONE)
    return [max(1, int(one * context.power(Decimal(rank), -zipf))) for rank in range(1, size + 1)]
