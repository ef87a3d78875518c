"""Somebody's endpoint: told at least once, each time with the same event id."""

from __future__ import annotations

import json
import time

import aiohttp

from ..domain.notification import Notification
from .signature import signature


class WebhookChannel:
    """A POST to somebody's endpoint, signed: `Shop-Signature: t=SECONDS,v1=HEX`."""

    name = "webhook"

    def __init__(self, url: str, secret: str, seconds: float = 5.0) -> None:
        self._url, self._secret = url, secret
        self._timeout = aiohttp.ClientTimeout(total=seconds)

    async def send(self, notification: Notification, to: str | None) -> None:
        """See `ports.Channel`."""
        document = {"id": notification.id, "type": notification.type, "key": notification.key}
        body = json.dumps(document | {"data": notification.data}).encode()
        at = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "Shop-Signature": f"t={at},v1={signature(self._secret, at, body)}",
        }
        async with (
            aiohttp.ClientSession(timeout=self._timeout) as session,
            session.post(self._url, data=body, headers=headers) as response,
        ):
            response.raise_for_status()
