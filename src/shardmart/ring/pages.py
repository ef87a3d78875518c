"""Everything on a ring, each key once, page by page in the order of places.

A key never changes its place, only its holders, so a page asks all nodes for one stretch of the circle.  If the ring
changed while a page was read, the page is read again: between two epochs a copy may have gone from a node that was
asked late to one that was asked early.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from functools import partial

from .errors import NodeAwayError, StaleRingError
from .node.nodes import Nodes
from .node.record import Record
from .placement.keys import canonical, hash_of
from .placement.ring import HIGHEST, LOWEST
from .reading import Found, again, found, keep_newest

ATTEMPTS = 20


async def iterate(nodes: Nodes, page: int, without: Collection[str]) -> AsyncIterator[Found]:
    """See `RingClient.iterate`.  UnavailableError."""
    place = LOWEST
    while place <= HIGHEST:
        records, last = await again(nodes, partial(_read, nodes, place, page, without), ATTEMPTS)
        for record in records:
            if value := found(record):
                yield value
        place = last + 1


async def _read(nodes: Nodes, first: int, limit: int, without: Collection[str]) -> tuple[list[Record], int]:
    view = nodes.view
    names = [name for name in view.nodes if name not in without]
    answers, silent = await nodes.ask(names, lambda node: node.page(first, limit))
    nodes.refuse_uncertain(silent)
    last = HIGHEST
    for records in answers.values():
        if len(records) == limit:  # the last place may go on
            last = min(last, hash_of(records[-1].key) - 1)
    if last < first:
        return await _read(nodes, first, limit * 2, without)
    hints, more = await nodes.ask(answers, lambda node: node.hints_between(first, last))
    if silent:  # a hint that was delivered since its holder was asked, and removed, is in that holder's records now
        answers, lost = await nodes.ask(answers, lambda node: node.between(first, last))
        more |= lost
    epochs, late = await nodes.ask(answers, lambda node: node.serves())
    nodes.refuse_uncertain(_all(silent, more, late))
    if any(epoch > view.epoch for epoch in epochs.values()):
        raise StaleRingError("the ring changed while a page was read")
    newest: dict[bytes, Record] = {}
    for records in (*answers.values(), *hints.values()):
        keep_newest(newest, (record for record in records if hash_of(record.key) <= last))
    return sorted(newest.values(), key=lambda record: (hash_of(record.key), canonical(record.key))), last


def _all(*silent: dict[str, NodeAwayError]) -> dict[str, NodeAwayError]:
    return {name: error for part in silent for name, error in part.items()}
