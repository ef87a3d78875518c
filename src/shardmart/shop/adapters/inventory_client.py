"""Stock as the inventory service tells it over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import quote

import aiohttp

logger = logging.getLogger(__name__)


class HttpInventory:
    """See `services.catalogue.Inventory`."""

    def __init__(self, url: str, seconds: float = 1.5) -> None:
        self._url, self._timeout = url.rstrip("/"), aiohttp.ClientTimeout(total=seconds)
        self._session: aiohttp.ClientSession | None = None

    async def stocks(self, products: Sequence[str]) -> dict[str, int] | None:
        """See `Inventory`."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        found: dict[str, int] = {}
        for start in range(0, len(products), 100):
            ids = ",".join(quote(product, safe="") for product in products[start : start + 100])
            try:
                async with self._session.get(f"{self._url}/stock?ids={ids}") as response:
                    if response.status != 200:
                        return None
                    document = await response.json()
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                logger.warning("inventory does not answer", extra={"reason": type(error).__name__})
                return None
            found |= {item["product_id"]: item["available"] for item in document["items"]}
        return found

    async def close(self) -> None:
        """Give back its connections."""
        if self._session:
            await self._session.close()
