"""Random numbers that depend on nothing but the seed, what they are for, and a position.

BLAKE2b of the position, keyed by the seed, gives each document its own words: no state is carried from one document
to the next, so any document can be made alone, by any worker, in any order, on any machine and Python version
(`random.Random` promises none of that for its derived methods, and costs 5 µs to seed against 0.5 µs here).
Everything is integer arithmetic; no result depends on a floating point library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from struct import Struct
from typing import TypeVar

T = TypeVar("T")
_POSITION = Struct("<QQ").pack
Draw = Callable[[int, int], tuple[int, ...]]
"""(position, number) -> words of 32 bits."""


def stream(seed: int, purpose: str, words: int) -> Draw:
    """The draws of one purpose: `words` (at most 16) numbers of 32 bits for each (position, number)."""
    base = hashlib.blake2b(key=seed.to_bytes(8, "little"), person=purpose.encode(), digest_size=4 * words)
    copy, unpack = base.copy, Struct(f"<{words}I").unpack

    def draw(position: int, number: int = 0) -> tuple[int, ...]:
        state = copy()
        state.update(_POSITION(position, number))
        return unpack(state.digest())

    return draw


def choice(values: Sequence[T], word: int) -> T:
    """The value a 32-bit word picks, all equally likely."""
    return values[word * len(values) >> 32]


def between(low: int, high: int, word: int) -> int:
    """The integer in [`low`, `high`] a 32-bit word picks, all equally likely."""
    return low + (word * (high - low + 1) >> 32)
