"""What a transaction has read and what it changed: each aggregate once, whichever store it is in.

A store says how it reads and how it writes; this says what is asked of it.  Nothing here is written before the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from ..domain.events import Aggregate
from ..domain.stock import Stock
from ..ports import AggregateT


class IdentityMap(ABC):
    """The part of `ports.Unit` that knows aggregates."""

    def __init__(self) -> None:
        self._known: dict[tuple[type[Aggregate], str], Aggregate | None] = {}
        self._changed: dict[tuple[type[Aggregate], str], int] = {}
        """What is to be written, and the version it had when it was read."""

    @abstractmethod
    async def _read(self, kind: type[Aggregate], region: str, ids: Sequence[str]) -> Sequence[Aggregate]:
        """Those of these that the store has."""

    @abstractmethod
    async def _read_stocks(self, products: Sequence[str]) -> Mapping[str, Stock]:
        """Stock by product, and the first stock (version 0) of products that have none yet."""

    async def get(self, kind: type[AggregateT], region: str, id_: str) -> AggregateT | None:
        """See `ports.Unit`."""
        if (kind, id_) not in self._known:
            await self.fetch(kind, region, [id_])
        found = self._known[kind, id_]
        assert found is None or isinstance(found, kind)
        return found

    async def fetch(self, kind: type[Aggregate], region: str, ids: Sequence[str]) -> None:
        """See `ports.Unit`."""
        if wanted := [id_ for id_ in dict.fromkeys(ids) if (kind, id_) not in self._known]:
            found = {aggregate.id: aggregate for aggregate in await self._read(kind, region, wanted)}
            self._known |= {(kind, id_): found.get(id_) for id_ in wanted}

    async def get_stocks(self, products: Sequence[str]) -> dict[str, Stock]:
        """See `ports.Unit`."""
        if wanted := [product for product in dict.fromkeys(products) if (Stock, product) not in self._known]:
            found = await self._read_stocks(wanted)
            self._known |= {(Stock, product): found.get(product) for product in wanted}
        known = {product: self._known[Stock, product] for product in products}
        return {product: stock for product, stock in known.items() if isinstance(stock, Stock)}

    async def put(self, aggregate: Aggregate, seen: int) -> None:
        """See `ports.Unit`."""
        key = (type(aggregate), aggregate.id)
        self._known[key] = aggregate
        self._changed.setdefault(key, seen)

    def _put_of(self, kind: type[Aggregate]) -> Iterator[tuple[Aggregate, int]]:
        """What was put of one kind, with the version that was read.

        In one order, or two transactions would wait for each other.
        """
        for (changed, id_), seen in sorted(self._changed.items(), key=lambda item: item[0][1]):
            if changed is kind:
                aggregate = self._known[kind, id_]
                assert aggregate
                yield aggregate, seen
