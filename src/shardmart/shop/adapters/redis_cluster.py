"""The copy of stocks in a Redis Cluster: the keys of `redis_cache`, spread over its nodes.

A node that is away takes its part of the stocks along and nothing else; who asks for them gets nothing and asks the
store.  A value and its version lie in one slot, so that both move together when a slot does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

from ..domain.stock import Stock
from .redis_cache import PUT
from .redis_nodes import UNANSWERED, Nodes, Question, tags

logger = logging.getLogger(__name__)
OWED_AT_MOST = 1000
"""Stocks kept for nodes that did not answer.  One that stays away lacks more, and is filled again when it is back."""


class RedisClusterCache:
    """See `ports.Cache`."""

    def __init__(self, url: str, seconds: float = 0.5) -> None:
        self._nodes = Nodes(url, seconds)
        self._moves_seen = self._moves_filled = 0
        self._owed: dict[str, Stock] = {}

    async def stocks(self, products: Sequence[str]) -> dict[str, int]:
        """See `ports.Cache`."""
        keys = [f"stock:{product}" for product in products]
        values = await self._nodes.ask([Question(key, ("GET", key)) for key in keys])
        if UNANSWERED in values:
            logger.warning("a part of the cache does not answer", extra={"products": values.count(UNANSWERED)})
        known = zip(products, values, strict=True)
        return {product: int(value) for product, value in known if value not in (None, UNANSWERED)}

    async def put(self, stocks: Sequence[Stock]) -> bool:
        """See `ports.Cache`.  False, too, where a node is away that these do not lie on: it will lack the next ones.

        What a node did not take is put again with what comes next: it may have been silent for a moment only, while
        another stays away, and nobody fills the cache again before that one is back.
        """
        wanted = [*(self._owed | {stock.id: stock for stock in stocks}).values()]
        if not wanted:
            return await self._nodes.ping()
        answers = await self._nodes.ask([_put(stock) for stock in wanted])
        left = [stock for stock, answer in zip(wanted, answers, strict=True) if answer is UNANSWERED]
        self._owed = {stock.id: stock for stock in left[-OWED_AT_MOST:]}
        if left:
            logger.warning("a part of the cache does not answer", extra={"stocks": len(left)})
            return False
        return self._nodes.is_whole

    async def is_complete(self) -> bool:
        """See `ports.Cache`.  Not since a slot has another owner: of a replica nobody knows what it had been told."""
        await self._nodes.look()
        self._moves_seen, marks = self._nodes.moves, self._marks()
        answers = await self._nodes.ask([Question(mark, ("EXISTS", mark)) for mark in marks])
        return bool(marks) and self._moves_seen == self._moves_filled and all(answer == 1 for answer in answers)

    async def mark_complete(self) -> None:
        """See `ports.Cache`.  Each owner has a mark of its own, or an emptied one would go unnoticed."""
        self._moves_filled = self._moves_seen  # as of before it was filled: what moved since may have taken no part
        await self._nodes.ask([Question(mark, ("SET", mark, "1")) for mark in self._marks()])

    async def hint(self, channel: str, message: str) -> None:
        """See `ports.Cache`.  Whichever node has a subscriber, it is told."""
        await self._nodes.tell_one("PUBLISH", channel, message)

    async def close(self) -> None:
        """Give back the connections."""
        await self._nodes.close()

    def _marks(self) -> list[str]:
        return [f"stock:complete:{{{tag}}}" for tag in _tags(tuple(self._nodes.first_slots()))]


def _put(stock: Stock) -> Question:
    key = f"stock:{stock.id}"
    # In braces stands what decides the slot: the version is where its value is.
    return Question(key, ("EVAL", PUT, 2, key, f"stock-version:{{{key}}}", stock.available, stock.version))


@lru_cache(maxsize=64)
def _tags(slots: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(tags(slots).values())
