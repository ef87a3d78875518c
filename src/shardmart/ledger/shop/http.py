"""HTTP as a careful client speaks it: what was certainly never sent, what was answered, and what nobody knows.

A request under an Idempotency-Key is repeated until it is answered or its time is over.  Any other is sent once.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from shardmart.errors import UnreachableError

from ..journal import Outcome

IDLE_SECONDS = 10.0
"""A connection that was idle for longer is not used again: the load balancer closes it after 30 s."""
PAUSE_SECONDS = 0.1
BEING_HANDLED, NOT_READY = http.client.CONFLICT, http.client.SERVICE_UNAVAILABLE


class RequestError(UnreachableError):
    """A request that was refused or not answered.  `outcome` is `failed` only if it certainly changed nothing."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Answer:
    """What a service answered.  `document` is None for a body that is no JSON."""

    status: int
    document: Any
    retry_after: bool

    @property
    def words(self) -> str:
        """The status, and the problem's detail."""
        detail = self.document.get("detail") if isinstance(self.document, dict) else None
        return f"HTTP {self.status}{f': {str(detail)[:120]}' if detail else ''}"

    @property
    def comes_later(self) -> bool:
        """Whether the same may be asked again: a server's error, or the first request under this key still runs."""
        return self.status >= http.client.INTERNAL_SERVER_ERROR or (
            self.status in (BEING_HANDLED, http.client.TOO_MANY_REQUESTS) and self.retry_after
        )


class HttpClient:
    """Keeps a connection per thread and server.  `seconds` bounds an operation with all its repetitions."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._mine = threading.local()

    def once(
        self, method: str, url: str, token: str, *, body: Any = None, if_match: str | None = None, seconds: float = 0.0
    ) -> Answer:
        """Send one request and return whatever was answered.  Raises RequestError when nothing was."""
        headers = {"If-Match": if_match} if if_match else {}
        return self._send(method, url, token, body, headers, seconds or self._seconds)

    def until_answered(self, method: str, url: str, token: str, key: str | None = None, body: Any = None) -> Answer:
        """Repeat a request that may be repeated (`key`: its Idempotency-Key; None for a GET) until it has its answer.

        Raises RequestError: `failed` when no attempt ever reached a server, else `unknown`.
        """
        end = time.monotonic() + self._seconds
        headers = {"Idempotency-Key": key} if key else {}
        reached, reason = False, "no time"
        while (left := end - time.monotonic()) > 0:
            try:
                answer = self._send(method, url, token, body, headers, left)
            except RequestError as error:
                reached, reason = reached or error.outcome == "unknown", str(error)
            else:
                if not answer.comes_later:
                    return answer
                reached, reason = True, answer.words
            time.sleep(min(PAUSE_SECONDS, max(0.0, end - time.monotonic())))
        raise RequestError("unknown" if reached else "failed", reason)

    def _send(self, method: str, url: str, token: str, body: Any, more: dict[str, str], seconds: float) -> Answer:
        parts = urlsplit(url)
        headers = {"Authorization": f"Bearer {token}", **more}
        data = None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        host, port = parts.hostname or "", parts.port or 80
        connection = self._connection(host, port, seconds)
        try:
            if connection.sock is None:
                connection.connect()
        except OSError as error:
            connection.close()
            raise RequestError("failed", f"not connected: {error.strerror or type(error).__name__}") from None
        try:
            connection.request(method, f"{parts.path}{f'?{parts.query}' if parts.query else ''}", data, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise RequestError("unknown", f"no answer: {type(error).__name__}") from None
        self._known()[host, port] = (connection, time.monotonic())
        document = None
        with contextlib.suppress(ValueError):
            document = json.loads(text)
        return Answer(answer.status, document, answer.headers.get("Retry-After") is not None)

    def _connection(self, host: str, port: int, seconds: float) -> http.client.HTTPConnection:
        known = self._known()
        connection, used = known.setdefault((host, port), (http.client.HTTPConnection(host, port), 0.0))
        if time.monotonic() - used > IDLE_SECONDS:
            connection.close()
        connection.timeout = seconds
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        return connection

    def _known(self) -> dict[tuple[str, int], tuple[http.client.HTTPConnection, float]]:
        """This thread's connections, and when each was used last."""
        if not hasattr(self._mine, "connections"):
            self._mine.connections = {}
        found: dict[tuple[str, int], tuple[http.client.HTTPConnection, float]] = self._mine.connections
        return found
