"""Products and their metadata in memory, as the catalogue reads them."""

from __future__ import annotations

from collections.abc import Sequence

from ...ports import Document
from .state import Memory

FIELDS = ("id", "name", "category", "price_cents")


class MemoryCatalogue:
    """See `services.catalogue.Products` and `Metadata`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def page(self, after: str | None, limit: int, text: str | None, category: str | None) -> list[Document]:
        """Products by id, after `after`; those whose name holds `text`, whatever its case."""
        self._memory.must_be_there()
        found = [
            {name: product.get(name) for name in FIELDS}
            for id_, product in sorted(self._memory.products_.items())
            if (after is None or id_ > after)
            and (not text or text.lower() in product["name"].lower())
            and (not category or product.get("category") == category)
        ]
        return found[:limit]

    async def product(self, id_: str) -> Document | None:
        """One product."""
        self._memory.must_be_there()
        product = self._memory.products_.get(id_)
        return {name: product.get(name) for name in FIELDS} if product else None

    async def metadata(self, ids: Sequence[str]) -> dict[str, Document]:
        """{"description", "tags", "specifications"} by product."""
        self._memory.must_be_there()
        return {id_: self._memory.metadata[id_] for id_ in ids if id_ in self._memory.metadata}

    async def metadata_page(self, after: str | None, limit: int) -> dict[str, Document]:
        """The same of the products that have metadata, by id."""
        self._memory.must_be_there()
        ids = [id_ for id_ in sorted(self._memory.metadata) if after is None or id_ > after]
        return {id_: self._memory.metadata[id_] for id_ in ids[:limit]}

    async def ping(self) -> None:
        """StoreError while the memory plays a store that is away."""
        self._memory.must_be_there()
