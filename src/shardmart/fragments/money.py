"""Prices, exactly: text into cents, and cents into the price band whose fragment holds the product.  Pure.

Both stores take a price through here, so what one refuses the other refuses with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from shardmart.errors import RefusedError

PLAIN = re.compile(r"([0-9]{1,7})(?:\.([0-9]{1,2}))?")
"""Digits of ASCII alone: `\\d` would let the full-width ones of other scripts through."""


class PriceError(RefusedError):
    """This is not a price, or no fragment holds it."""


@dataclass(frozen=True)
class Band:
    """A price band: `low` <= cents < `high`, the fragment (table) that holds it, the region whose node has that."""

    fragment: str
    low: int
    high: int
    region: str

    @property
    def table(self) -> str:
        """The fragment's name as PostgreSQL folds it."""
        return self.fragment.lower()


BANDS = (
    Band("Products_10_to_100", 1_000, 10_100, "APJ"),
    Band("Products_101_to_250", 10_100, 25_100, "EMEA"),
    Band("Products_251_to_500", 25_100, 50_100, "LATAM"),
)
"""Without a gap: 100.00 to 100.99 belong to the first.  The names are older than the cents."""

CATCH_ALL = Band("Products_other", -1, -1, "APJ")
"""The fragment of every other price, where it is switched on."""


def cents(price: object, product: str = "the product") -> int:
    """The cents of a price: text like "12.50", a whole number of currency units, or a Decimal.

    Raises PriceError that names `product` for everything else: None, NaN, a third decimal place, a float (it has no
    exact decimal value), digits that are not ASCII, a negative price.
    """
    if price is None:
        raise PriceError(f"{product}: it has no price")
    if isinstance(price, bool) or not isinstance(price, str | int | Decimal):
        raise PriceError(f'{product}: price {price!r} is a {type(price).__name__}, give it as text, like "12.50"')
    text = str(price)
    if not (found := PLAIN.fullmatch(text)):
        raise PriceError(
            f'{product}: {text!r} is not a price: write digits and at most two decimal places, like "12.50"'
        )
    return int(found[1]) * 100 + int((found[2] or "").ljust(2, "0"))


def text(value: int) -> str:
    """Cents as people write them."""
    return f"{value // 100}.{value % 100:02}"


def band_of(
    value: int, product: str = "the product", *, catch_all: bool = False, bands: Sequence[Band] = BANDS
) -> Band:
    """The band of so many cents.  Raises PriceError that names `product` where no fragment holds it."""
    for band in bands:
        if band.low <= value < band.high:
            return band
    if catch_all:
        return CATCH_ALL
    ranges = ", ".join(f"{band.fragment} [{text(band.low)}, {text(band.high)})" for band in bands)
    raise PriceError(f"{product}: no fragment holds the price {text(value)}; there are {ranges}")
