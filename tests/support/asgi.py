"""Requests to an ASGI app in this process, without a server or a client library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

T = TypeVar("T")


class Headers(dict[str, str]):
    """Headers by their name, however that is written."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status_code: int
    headers: Headers
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)


class AsgiClient:
    """Asks one app; the app's lifespan is not run."""

    def __init__(self, app: Any) -> None:
        self._app, self._runner = app, asyncio.Runner()

    def run(self, body: Coroutine[Any, Any, T]) -> T:
        """What `body` returns, in the loop of the requests."""
        return self._runner.run(body)

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Answer:
        return self.request("POST", path, **options)

    def patch(self, path: str, **options: Any) -> Answer:
        return self.request("PATCH", path, **options)

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | str = b"",
        length: str | None = None,
        **body: Any,
    ) -> Answer:
        """One request; `json=` is a document to send, `length` what Content-Length says instead of the truth."""
        given = dict(headers or {})
        if "json" in body:
            content = json.dumps(body["json"]).encode()
            given.setdefault("Content-Type", "application/json")
        data = content.encode() if isinstance(content, str) else content
        given["Content-Length"] = str(len(data)) if length is None else length
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote_to_bytes(path).decode("utf-8", "surrogateescape"),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("shop", 80),
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        self._runner.run(self._app(scope, receive, send))
        start = next(message for message in sent if message["type"] == "http.response.start")
        received = Headers({name.decode().lower(): value.decode() for name, value in start["headers"]})
        parts = [message.get("body", b"") for message in sent if message["type"] == "http.response.body"]
        return Answer(start["status"], received, b"".join(parts))
