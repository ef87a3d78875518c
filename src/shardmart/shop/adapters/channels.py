"""Ways to tell somebody: a mail server, and somebody's endpoint.

Both are told at least once, a mail under the same Message-ID and a webhook under the same event id each time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import smtplib
import time
from email.message import EmailMessage

import aiohttp

from ..domain.notification import SUBJECTS, Notification


class MailChannel:
    """E-mail through one SMTP server."""

    name = "mail"

    def __init__(self, host: str, port: int, sender: str, seconds: float = 5.0) -> None:
        self._host, self._port, self._sender, self._seconds = host, port, sender, seconds

    async def send(self, notification: Notification, to: str | None) -> None:
        """See `ports.Channel`; a customer who has no address is not told."""
        if to is not None:
            await asyncio.to_thread(self._send, self.message(notification, to))

    def message(self, notification: Notification, to: str) -> EmailMessage:
        """The mail."""
        message = EmailMessage()
        message["Message-ID"] = notification.message_id
        message["From"], message["To"] = self._sender, to
        message["Subject"] = SUBJECTS[notification.type]
        lines = [f"{SUBJECTS[notification.type]}: {notification.key}"]
        if "total_cents" in notification.data:
            lines.append(f"Total: {notification.data['total_cents'] / 100:.2f}")
        if "amount_cents" in notification.data:
            lines.append(f"Amount: {notification.data['amount_cents'] / 100:.2f}")
        if "reason" in notification.data:
            lines.append(f"Reason: {notification.data['reason']}")
        if "available" in notification.data:
            lines.append(f"Pieces left: {notification.data['available']}")
        message.set_content("\n".join(lines) + "\n")
        return message

    def _send(self, message: EmailMessage) -> None:
        with smtplib.SMTP(self._host, self._port, timeout=self._seconds) as server:
            server.send_message(message)


def signature(secret: str, at: int, body: bytes) -> str:
    """What signs a webhook: HMAC-SHA256 of "time.body" in hexadecimal."""
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


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
