"""Random commands on a sharded database and on an unsharded copy: what the one answers, the other has to answer.

`commands` makes a case (a list of commands) from a seed and nothing else; `pair` runs it on both sides and compares
replies and contents; `shrink` finds the fewest commands that still differ.  What may differ is written in
`pair.ALLOWED`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .commands import Generator
from .pair import Difference, Pair, prepare

__all__ = ["Difference", "Generator", "Pair", "prepare", "search", "shrink"]


def search(
    pair: Pair, seeds: Any, length: int, done: Callable[[], bool], log: Callable[[str], None]
) -> list[Difference]:
    """Run a case for each seed until `done`; differences, shrunk."""
    found = []
    for seed in seeds:
        if done():
            break
        if difference := pair.run(seed, Generator(seed).case(length)):
            difference = shrink(pair, difference)
            log(str(difference))
            found.append(difference)
    return found


def shrink(pair: Pair, difference: Difference) -> Difference:
    """The same difference with as few commands as can be had by leaving some out."""
    best = difference
    step = max(1, len(best.commands) // 2)
    while True:
        at = 0
        while at < len(best.commands) - 1:
            fewer = best.commands[:at] + best.commands[at + step :]
            if fewer and (found := pair.run(best.seed, fewer)):
                best = found
            else:
                at += step
        if step == 1:
            return best
        step //= 2
