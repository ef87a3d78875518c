"""How webhooks are signed, those that are sent and those that come."""

from __future__ import annotations

import hashlib
import hmac


def signature(secret: str, at: int, body: bytes) -> str:
    """What signs a webhook: HMAC-SHA256 of "time.body" in hexadecimal."""
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
