"""Claims of the fault on the payment provider: its token goes to the provider and to nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shardmart.chaos.faults.shop import ProviderRules
from shardmart.chaos.targets.selectors import Targets
from shardmart.cluster.shop import Service, Shop


@pytest.fixture
def server() -> Iterator[tuple[HTTPServer, list[str]]]:
    """A server of this machine, and the requests that it was sent."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append(f"{self.path} {self.headers['Authorization']} {body}")
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made, asked
        made.shutdown()


def test_a_proxy_of_the_environment_is_not_told_the_token(
    server: tuple[HTTPServer, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, asked = server
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    provider = Service("provider", "127.0.0.1", made.server_port, ())
    described = SimpleNamespace(shop=Shop((provider,)))
    state = SimpleNamespace(password=lambda _name: "token", description=lambda: described)
    targets = SimpleNamespace(state=state, platform=SimpleNamespace(direct=True))
    ProviderRules(cast("Targets", targets), [], 5, {"rules": [{"answer": 500}]}).begin()
    assert asked == ['/rules Bearer token {"rules": [{"answer": 500}]}']
