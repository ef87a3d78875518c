"""The payment provider as the payment service asks it: HTTP, every request under a key of the order."""

from __future__ import annotations

import logging
import secrets
from typing import Any

import aiohttp

from ..domain.payment import charge_key, refund_key
from ..ports import ProviderAnswer

logger = logging.getLogger(__name__)
_ANSWERS = frozenset({"captured", "declined", "refunded", "voided", "refund-declined"})


class HttpProvider:
    """See `ports.Provider`.  `without_keys` is a negative control: each request looks new to the provider."""

    def __init__(self, url: str, api_key: str, seconds: float, *, without_keys: bool = False) -> None:
        self._url, self._without_keys = url.rstrip("/"), without_keys
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._timeout = aiohttp.ClientTimeout(total=seconds)
        self._session: aiohttp.ClientSession | None = None

    async def capture(self, order: str, amount_cents: int, trace: str) -> ProviderAnswer:
        """See `ports.Provider`."""
        body = {"order": order, "amount_cents": amount_cents}
        return await self._post("/charges", charge_key(order), body, trace)

    async def refund(self, order: str, trace: str) -> ProviderAnswer:
        """See `ports.Provider`."""
        return await self._post("/refunds", refund_key(order), {"order": order, "charge_key": charge_key(order)}, trace)

    async def close(self) -> None:
        """Give back its connections."""
        if self._session:
            await self._session.close()

    async def _post(self, path: str, key: str, body: dict[str, Any], trace: str) -> ProviderAnswer:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        headers = {"Idempotency-Key": f"{key}:{secrets.token_hex(8)}" if self._without_keys else key}
        if trace:
            headers["traceparent"] = f"00-{trace}-{trace[:16]}-01"
        try:
            async with self._session.post(self._url + path, json=body, headers=headers) as response:
                if response.status != 200:
                    logger.warning("the provider did not answer", extra={"reason": response.status, "path": path})
                    return ProviderAnswer(None)
                document = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            logger.warning("the provider did not answer", extra={"reason": type(error).__name__, "path": path})
            return ProviderAnswer(None)
        answer = document.get("answer")
        return ProviderAnswer(answer if answer in _ANSWERS else None, document.get("reference"))
