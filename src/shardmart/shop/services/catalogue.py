"""The catalogue: products, their metadata and their stock, each from its own source, in one answer.

A source that is away leaves its part null and is named; the rest is served.  An answer is made once and given to
everybody for a fraction of a second, so that a busy page costs the stores little.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ..ports import AwayError, Cache, StoreError
from .circuit import CLOSED, Circuit, Watcher

T = TypeVar("T")
PRODUCTS, METADATA, STOCK = SOURCES = ("products", "metadata", "stock")
REMEMBERED = 500
logger = logging.getLogger(__name__)


class Products(Protocol):
    """The structured part.  Each raises StoreError when it does not answer."""

    async def page(self, after: str | None, limit: int, text: str | None, category: str | None) -> list[dict[str, Any]]:
        """Products by id: {"id", "name", "price_cents"}."""

    async def product(self, id_: str) -> dict[str, Any] | None:
        """One product."""

    async def ping(self) -> None:
        """StoreError unless it answers."""


class Metadata(Protocol):
    """Descriptions, tags and specifications.  Each raises StoreError when it does not answer."""

    async def metadata(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Metadata by product."""

    async def metadata_page(self, after: str | None, limit: int) -> dict[str, dict[str, Any]]:
        """Metadata of the products that have it, in the order of their ids."""

    async def ping(self) -> None:
        """StoreError unless it answers."""


class Stocks(Protocol):
    """Pieces of products.  Each raises StoreError when it does not answer."""

    async def stocks(self, products: Sequence[str]) -> dict[str, int]:
        """Pieces by product, for those it knows."""

    async def ping(self) -> None:
        """StoreError unless it answers."""


class Inventory(Protocol):
    """Who knows stock where the cache does not."""

    async def stocks(self, products: Sequence[str]) -> dict[str, int] | None:
        """Pieces by product; None when it does not answer."""


class CachedStocks:
    """Stock from the cache, and from the inventory service what the cache does not know."""

    def __init__(self, cache: Cache | None, inventory: Inventory) -> None:
        self._cache, self._inventory = cache, inventory

    async def stocks(self, products: Sequence[str]) -> dict[str, int]:
        """See `Stocks`."""
        known = await self._cache.stocks(products) if self._cache else {}
        unknown = [id_ for id_ in products if id_ not in known]
        if not unknown:
            return known
        asked = await self._inventory.stocks(unknown)
        if asked is None and not known:
            raise StoreError("neither cache nor inventory answer")
        return known | (asked or {})

    async def ping(self) -> None:
        """See `Stocks`: it is asked when it is needed."""


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
    until: float = 0.0
    """How long it is fresh, by this process's monotonic clock."""


def price(cents: int) -> str:
    """A price in whole units, with two decimals where it needs them."""
    return f"{cents // 100}" if cents % 100 == 0 else f"{cents // 100}.{cents % 100:02d}"


class Catalogue:
    """The use cases.  A source of `circuits` is asked through its circuit; the others have limits of their own."""

    def __init__(
        self,
        products: Products,
        metadata: Metadata,
        stocks: Stocks,
        fresh_seconds: float,
        circuits: Mapping[str, Circuit] | None = None,
        watcher: Watcher | None = None,
    ) -> None:
        self._products, self._metadata, self._stocks, self._fresh = products, metadata, stocks, fresh_seconds
        self._circuits, self._watcher = circuits or {}, watcher
        self._made: dict[Wanted, tuple[float, asyncio.Future[Page]]] = {}

    async def page(self, wanted: Wanted) -> Page:
        """A page of products; StoreError when neither products nor metadata can be read."""
        now = time.monotonic()
        known = self._made.get(wanted)
        if known is None or known[0] < now:
            if len(self._made) >= REMEMBERED:
                self._made.clear()
            until = now + self._fresh
            known = (until, asyncio.ensure_future(self._make(wanted, until)))
            self._made[wanted] = known
        try:
            # Shielded: the answer is everybody's who waits for it, not only of who asked first and may go away.
            return await asyncio.shield(known[1])
        except StoreError:
            self._made.pop(wanted, None)
            raise

    async def product(self, id_: str) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
        """One product, and the sources that were away; None when there is none.  StoreError when nobody knows."""
        products, metadata, stocks = await asyncio.gather(
            self._ask(PRODUCTS, lambda: self._products.product(id_)),
            self._ask(METADATA, lambda: self._metadata.metadata([id_])),
            self._ask(STOCK, lambda: self._stocks.stocks([id_])),
            return_exceptions=True,
        )
        if isinstance(products, BaseException):
            if not isinstance(metadata, dict) or id_ not in metadata:
                raise products
            found: dict[str, Any] | None = _unknown(id_)
        else:
            found = products
        if found is None:
            return None, ()
        merged, missing = self._merged([found], _or_none(products), _or_none(metadata), _or_none(stocks))
        return merged[0], missing

    async def ping(self) -> None:
        """StoreError when there is nothing to show: neither products nor metadata answer."""
        products, metadata, _ = await asyncio.gather(
            self._ask(PRODUCTS, self._products.ping),
            self._ask(METADATA, self._metadata.ping),
            self._ask(STOCK, self._stocks.ping),
            return_exceptions=True,
        )
        for error in (products, metadata):
            if isinstance(error, BaseException) and not isinstance(error, StoreError):
                raise error
        if isinstance(products, StoreError) and isinstance(metadata, StoreError):
            raise products

    def away(self) -> list[str]:
        """Sources that are known to be away now."""
        return [name for name, circuit in self._circuits.items() if circuit.state != CLOSED]

    async def _make(self, wanted: Wanted, until: float) -> Page:
        """Metadata are asked beside the products for the page that these will be; what the guess missed, afterwards."""
        limit, filtered = wanted.limit + 1, bool(wanted.text or wanted.category)
        guess = None if filtered else asyncio.ensure_future(self._metadata_page(wanted.after, limit))
        try:
            products: list[dict[str, Any]] | None = await self._ask(
                PRODUCTS, lambda: self._products.page(wanted.after, limit, wanted.text, wanted.category)
            )
            found = list(products or ())
        except StoreError:
            # With a filter only products know which; without metadata there is nothing to show either.
            guessed = await guess if guess else None
            if guessed is None:
                raise
            products, found = None, [_unknown(id_) for id_ in guessed]
        except BaseException:
            if guess:
                guess.cancel()
            raise
        following = found[wanted.limit - 1]["id"] if len(found) > wanted.limit else None
        found = found[: wanted.limit]
        ids = [product["id"] for product in found]
        stocks, metadata = await asyncio.gather(self._stocks_of(ids), self._metadata_of(ids, guess))
        document, missing = self._merged(found, products, metadata, stocks)
        return Page(json.dumps(document, separators=(",", ":")).encode(), missing, following, until)

    def _merged(
        self, found: Sequence[Mapping[str, Any]], products: Any, metadata: Any, stocks: dict[str, int] | None
    ) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        """One answer of all parts, and whose parts are null in it."""
        document = [
            {
                "id": product["id"],
                "name": product["name"],
                "price": None if product["price_cents"] is None else price(product["price_cents"]),
                "metadata": _metadata_of(product["id"], metadata),
                "stock": None if stocks is None or product["id"] not in stocks else str(stocks[product["id"]]),
            }
            for product in found
        ]
        # A source that answers and does not know the stock of a product (it was emptied) is named as well.
        unknown = stocks is None or any(product["stock"] is None for product in document)
        parts = ((PRODUCTS, products is None), (METADATA, metadata is None), (STOCK, unknown))
        missing = tuple(name for name, is_missing in parts if is_missing)
        if self._watcher:
            for name in missing:
                self._watcher.missing(name)
        return document, missing

    async def _ask(self, source: str, question: Callable[[], Awaitable[T]]) -> T:
        circuit = self._circuits.get(source)
        return await (circuit.ask(question) if circuit else question())

    async def _metadata_page(self, after: str | None, limit: int) -> dict[str, dict[str, Any]] | None:
        return await _if_there(METADATA, self._ask(METADATA, lambda: self._metadata.metadata_page(after, limit)))

    async def _metadata_of(
        self, ids: Sequence[str], guess: asyncio.Future[dict[str, dict[str, Any]] | None] | None
    ) -> dict[str, dict[str, Any]] | None:
        known: dict[str, dict[str, Any]] | None = await guess if guess else {}
        if known is None:
            return None
        rest = [id_ for id_ in ids if id_ not in known]
        if not rest:
            return known
        more = await _if_there(METADATA, self._ask(METADATA, lambda: self._metadata.metadata(rest)))
        return None if more is None else known | more

    async def _stocks_of(self, ids: Sequence[str]) -> dict[str, int] | None:
        return await _if_there(STOCK, self._ask(STOCK, lambda: self._stocks.stocks(ids))) if ids else {}


async def _if_there(source: str, asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except AwayError:
        return None  # its circuit has said so
    except StoreError as error:
        logger.warning("a source is away", extra={"source": source, "reason": str(error)})
        return None


def _or_none(part: T | BaseException) -> T | None:
    """A part, None where its source was away; a mistake of ours is raised."""
    if not isinstance(part, BaseException):
        return part
    if isinstance(part, StoreError):
        return None
    raise part


def _unknown(id_: str) -> dict[str, Any]:
    return {"id": id_, "name": None, "price_cents": None}


def _metadata_of(id_: str, metadata: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    found = metadata.get(id_, {})
    return {
        "description": found.get("description", ""),
        "tags": found.get("tags", []),
        "specifications": found.get("specifications", {}),
    }
