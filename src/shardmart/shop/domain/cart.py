"""A cart: lines, each put there at once by somebody, and the rule by which two clients of one cart lose nothing.

The merge rule: a cart is the union of its lines.  A line has an id that its client chose; the same id again is the same
line, its newest content counts, and a line that was taken out is gone.  A product on two lines is added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

MAXIMUM_LINES = 50


@dataclass(frozen=True)
class CartLine:
    """So many pieces of a product."""

    id: str
    product: str
    quantity: int


def pieces(lines: Iterable[CartLine]) -> dict[str, int]:
    """Product → pieces, in the order in which products come first."""
    found: Counter[str] = Counter()
    for line in lines:
        found[line.product] += line.quantity
    return dict(found)
