"""Customers: who they are, where they live, since when they shop.

A customer's region, locale, gender, name, address and mail address agree with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from . import draws, pools
from .identity import user_id

FIRST_DAY_MS = 1_672_531_200_000
"""2023-01-01T00:00Z: the shop opens. Fixed, as documents must not depend on when they are made."""

LAST_DAY_MS = 1_767_225_600_000
"""2026-01-01T00:00Z: nothing happens at or after it."""

SIGN_UP_ENDS_MS = LAST_DAY_MS - 30 * 86_400_000
"""The last customers have a month left to order something."""

GOLDEN = 0x9E37_79B9_7F4A_7C15
"""2^64 / golden ratio: its multiples fill [0, 2^64) evenly, so every region has its share of even ten customers."""

MASK = 2**64 - 1


class People:
    """The customers of one seed, by position. Keeps nothing but the pools."""

    def __init__(self, seed: int, regions: Sequence[str]) -> None:
        """`regions` in the order of the data model; KeyError when a region has no locales."""
        self._seed = seed
        self._draw = draws.stream(seed, "users", 11)
        self._offset = draws.stream(seed, "regions", 2)(0, 0)[0] << 32
        self._regions = [(region, pools.load().locales[region]) for region in regions]

    def basics(self, position: int) -> tuple[ObjectId, str, int]:
        """What an order needs to know of its customer: (`_id`, region, signed up in ms since 1970)."""
        words = self._draw(position, 0)
        return user_id(self._seed, position), self._region(position)[0], _signed_up(words)

    def document(self, position: int) -> dict[str, Any]:
        """The `users` document at `position`."""
        words = self._draw(position, 0)
        region, locales = self._region(position)
        locale = draws.choice(locales, words[0])
        first_names, last_names = locale.people[words[1] >> 31]
        first, first_mail = draws.choice(first_names, words[2])
        last, last_mail = draws.choice(last_names, words[3])
        before, after = draws.choice(locale.streets, words[4])
        city, postcode = draws.choice(locale.places, words[6])
        return {
            "_id": user_id(self._seed, position),
            "region": region,
            "name": f"{last} {first}" if locale.family_name_first else f"{first} {last}",
            # The position makes mail addresses unique within a data set, as a shop's sign-up form would.
            "email": f"{first_mail}.{last_mail}{position}@{draws.choice(locale.mail_hosts, words[7])}",
            "address": {
                "street": f"{before}{draws.between(1, 199, words[5])}{after}",
                "postcode": postcode,
                "city": city,
                "country": locale.country,
            },
            "created_at": DatetimeMS(_signed_up(words)),
        }

    def _region(self, position: int) -> tuple[str, Sequence[pools.Locale]]:
        place = ((position * GOLDEN + self._offset) & MASK) >> 32
        return draws.choice(self._regions, place)


def _signed_up(words: tuple[int, ...]) -> int:
    # The later of two moments: sign-ups grow steadily over the years, as those of a shop that does well.
    return FIRST_DAY_MS + (max(words[8], words[9]) * (SIGN_UP_ENDS_MS - FIRST_DAY_MS) >> 32)
