"""A service as an operator asks it from the command line."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from shardmart.errors import RefusedError, UnreachableError

from .settings import Settings
from .web.tokens import OPERATOR, issue

SECONDS = 30


class OperatorClient:
    """Requests with an operator's token."""

    def __init__(self, settings: Settings, service: str) -> None:
        self._url = str(getattr(settings.urls, service)).rstrip("/")
        self._keys = settings.tokens.keys

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer's document; UnreachableError, or RefusedError with what the service said."""
        request = urllib.request.Request(  # noqa: S310 - settings takes http and https only
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {issue(self._keys, OPERATOR, 300)}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
                document: dict[str, Any] = json.load(answer)
                return document
        except urllib.error.HTTPError as error:
            said = json.loads(error.read() or b"{}").get("detail", error.reason)
            raise RefusedError(f"{self._url}{path}: {error.code}: {said}") from None
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            raise UnreachableError(f"{self._url} does not answer: {error}") from None
