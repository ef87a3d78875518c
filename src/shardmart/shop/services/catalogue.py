"""The catalogue: products, their metadata and their stock, each from its own source, in one answer.

A source that is away leaves its part null and is named; the rest is served.  An answer is made once and given to
everybody for a fraction of a second, so that a busy page costs the stores little.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..ports import Cache, StoreError

REMEMBERED = 500
logger = logging.getLogger(__name__)


class Products(Protocol):
    """The structured part, and metadata."""

    async def page(self, after: str | None, limit: int, text: str | None, category: str | None) -> list[dict[str, Any]]:
        """Products by id."""

    async def product(self, id_: str) -> dict[str, Any] | None:
        """One product."""

    async def metadata(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Metadata by product."""

    async def metadata_page(self, after: str | None, limit: int) -> list[str]:
        """Ids of products that have metadata."""


class StockSource(Protocol):
    """Who knows stock where the cache does not."""

    async def stocks(self, products: Sequence[str]) -> dict[str, int] | None:
        """Pieces by product; None when it does not answer."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    after: str | None = None
    limit: int = 20
    text: str | None = None
    category: str | None = None


@dataclass(frozen=True)
class Page:
    """An answer: its bytes, the sources that were away, and the id after which the next page begins."""

    body: bytes
    missing: tuple[str, ...]
    following: str | None


def price(cents: int) -> str:
    """A price in whole units, with two decimals where it needs them."""
    return f"{cents // 100}" if cents % 100 == 0 else f"{cents // 100}.{cents % 100:02d}"


class Catalogue:
    """The use cases."""

    def __init__(self, products: Products, cache: Cache | None, stock: StockSource, fresh_seconds: float) -> None:
        self._products, self._cache, self._stock, self._fresh = products, cache, stock, fresh_seconds
        self._made: dict[Wanted, tuple[float, asyncio.Future[Page]]] = {}

    async def page(self, wanted: Wanted) -> Page:
        """A page of products; StoreError when neither products nor metadata can be read."""
        now = time.monotonic()
        known = self._made.get(wanted)
        if known is None or known[0] < now:
            if len(self._made) >= REMEMBERED:
                self._made.clear()
            known = (now + self._fresh, asyncio.ensure_future(self._make(wanted)))
            self._made[wanted] = known
        try:
            # Shielded: the answer is everybody's who waits for it, not only of who asked first and may go away.
            return await asyncio.shield(known[1])
        except StoreError:
            self._made.pop(wanted, None)
            raise

    async def product(self, id_: str) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """One product, and the sources that were away; None when there is no such product."""
        missing: list[str] = []
        found = await self._products.product(id_)
        if found is None:
            return None, ()
        return (await self._merge([found], missing))[0], tuple(missing)

    async def _make(self, wanted: Wanted) -> Page:
        missing: list[str] = []
        try:
            found = await self._products.page(wanted.after, wanted.limit + 1, wanted.text, wanted.category)
        except StoreError:
            if wanted.text or wanted.category:
                raise
            ids = await self._products.metadata_page(wanted.after, wanted.limit + 1)
            found = [{"id": id_, "name": None, "price_cents": None} for id_ in ids]
            missing.append("products")
        following = found[wanted.limit - 1]["id"] if len(found) > wanted.limit else None
        document = await self._merge(found[: wanted.limit], missing)
        return Page(json.dumps(document, separators=(",", ":")).encode(), tuple(missing), following)

    async def _merge(self, found: Sequence[Mapping[str, Any]], missing: list[str]) -> list[dict[str, Any]]:
        ids = [product["id"] for product in found]
        metadata, stocks = await asyncio.gather(self._metadata(ids), self._stocks(ids))
        missing += [name for name, part in (("metadata", metadata), ("stock", stocks)) if part is None]
        return [
            {
                "id": product["id"],
                "name": product["name"],
                "price": None if product["price_cents"] is None else price(product["price_cents"]),
                "metadata": _metadata_of(product["id"], metadata),
                "stock": None if stocks is None or product["id"] not in stocks else str(stocks[product["id"]]),
            }
            for product in found
        ]

    async def _metadata(self, ids: Sequence[str]) -> dict[str, dict[str, Any]] | None:
        try:
            return await self._products.metadata(ids) if ids else {}
        except StoreError as error:
            logger.warning("metadata is away", extra={"reason": str(error)})
            return None

    async def _stocks(self, ids: Sequence[str]) -> dict[str, int] | None:
        known = await self._cache.stocks(ids) if self._cache else {}
        unknown = [id_ for id_ in ids if id_ not in known]
        if not unknown:
            return known
        asked = await self._stock.stocks(unknown)
        if asked is None:
            return known or None
        return known | asked


def _metadata_of(id_: str, metadata: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    found = metadata.get(id_, {})
    return {
        "description": found.get("description", ""),
        "tags": found.get("tags", []),
        "specifications": found.get("specifications", {}),
    }
