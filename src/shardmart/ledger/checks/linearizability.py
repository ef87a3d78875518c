"""Is there an order of the operations on one register that explains every answer?

The algorithm of Wing and Gong (1993) with Lowe's memory of visited configurations (2017), for a register with read,
write and compare-and-set.  No maintained Python library does this (docs/decisions/041).  Pure: it knows neither
journals nor databases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

BUDGET = 2_000_000
"""Configurations visited before giving up; about 10 s and 400 MB on the laboratory machine."""


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on the register.  `end` None = no answer, it may take effect at any time later, or never.

    read: `value` is what was read.  write: `value` was written.  cas: `expected` → `value`; `done` says whether the
    server said so (irrelevant when there was no answer).
    """

    kind: Literal["read", "write", "cas"]
    start: int
    end: int | None
    value: int | None
    expected: int | None = None
    done: bool = True


@dataclass(frozen=True)
class Result:
    """`linearizable` None = undecided.  When False: the longest order found, and the calls that cannot follow it."""

    linearizable: bool | None
    visited: int
    prefix: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()
    state: int | None = None


def _step(call: Call, state: int | None) -> tuple[bool, int | None]:
    if call.kind == "read":
        return call.value == state, state
    if call.kind == "write":
        return True, call.value
    if call.end is None:
        return state == call.expected, call.value
    if call.done:
        return state == call.expected, call.value
    return state != call.expected, state


def _worth_trying(calls: Sequence[Call]) -> list[int]:
    """Indices in order of start, without calls that cannot matter: unanswered reads, and unanswered writes nobody saw.

    A write nobody saw may as well never have happened - unless a later refused compare-and-set could owe its refusal
    to it.
    """
    observed = {c.value for c in calls if c.kind == "read" and c.end is not None}
    observed |= {c.expected for c in calls if c.kind == "cas"}
    last_refusal = max((c.end for c in calls if c.kind == "cas" and c.end is not None and not c.done), default=-1)
    kept = [
        i
        for i, c in enumerate(calls)
        if c.end is not None or (c.kind != "read" and (c.value in observed or c.start <= last_refusal))
    ]
    return sorted(kept, key=lambda i: calls[i].start)


def check(calls: Sequence[Call], initial: int | None = None, budget: int = BUDGET) -> Result:
    """Search for a linearization of `calls`, the calls of one register that starts as `initial`."""
    order = _worth_trying(calls)
    done_mask = sum(1 << p for p, i in enumerate(order) if calls[i].end is not None)
    visited: set[tuple[int, int | None]] = {(0, initial)}
    # Each frame: configuration and the candidates that are still to be tried from it.
    frames: list[tuple[int, int | None, list[int]]] = [(0, initial, _candidates(calls, order, 0))]
    path: list[int] = []
    best: tuple[tuple[int, ...], tuple[int, ...], int | None] = ((), (), initial)
    while frames:
        mask, state, candidates = frames[-1]
        if mask & done_mask == done_mask:
            return Result(True, len(visited))
        if len(path) >= len(best[0]):
            best = (tuple(path), tuple(order[p] for p in _candidates(calls, order, mask)), state)
        advanced = False
        while candidates:
            position = candidates.pop()
            possible, after = _step(calls[order[position]], state)
            configuration = (mask | 1 << position, after)
            if possible and configuration not in visited:
                if len(visited) >= budget:
                    return Result(None, len(visited), *best)
                visited.add(configuration)
                path.append(order[position])
                frames.append((*configuration, _candidates(calls, order, configuration[0])))
                advanced = True
                break
        if not advanced:
            frames.pop()
            if path:
                path.pop()
    return Result(False, len(visited), *best)


def _candidates(calls: Sequence[Call], order: list[int], mask: int) -> list[int]:
    """Positions that may come next: not yet placed, and begun before every unplaced call's end.

    In reverse, so that `pop` tries the call that ended first; unanswered calls come last.
    """
    earliest_end: int | None = None
    open_positions = []
    for position, index in enumerate(order):
        if mask >> position & 1:
            continue
        call = calls[index]
        if earliest_end is not None and call.start > earliest_end:
            break
        open_positions.append(position)
        if call.end is not None and (earliest_end is None or call.end < earliest_end):
            earliest_end = call.end
    allowed = [p for p in open_positions if earliest_end is None or calls[order[p]].start <= earliest_end]
    return sorted(allowed, key=lambda p: -(calls[order[p]].end or 1 << 62))
