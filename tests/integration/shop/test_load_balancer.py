"""Claims of the load balancer and the cache, on a real Envoy and a real Valkey: what is sent, how often, and to whom.

The instances are servers of this test, so that they can do what a service would do only when it dies.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from shardmart.cluster.host import processes
from shardmart.cluster.host.files import write_whole
from shardmart.cluster.observe import shop as observe
from shardmart.cluster.protocol.connection import Deadline
from shardmart.cluster.shop import Instance, Service, Shop
from shardmart.platforms.embedded_shop import programs
from shardmart.platforms.embedded_shop.envoy import taken_out
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.embedded_shop.processes import cache_processes, load_balancer_files, load_balancer_process
from tests.support.clusters import free_ports

pytestmark = pytest.mark.integration
SECONDS = 20


class Upstream:
    """An instance that remembers what it was sent."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.ready, self.drops = True, False
        self.seen: list[str] = []
        self.stream_open = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.path == "/readyz":
                    self.answer(200 if outer.ready else 503, b"")
                elif self.path == "/stream":
                    self.send_response(200)
                    self.send_header("Content-Type", "text/event-stream")
                    self.send_header("Connection", "close")
                    self.end_headers()
                    self.wfile.write(b"data: first\n\n")
                    self.wfile.flush()
                    outer.stream_open.wait(SECONDS)
                    self.wfile.write(b"data: second\n\n")
                    self.close_connection = True
                else:
                    self.work()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.work()

            def work(self) -> None:
                outer.seen.append(f"{self.command} {self.path}")
                if outer.drops:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.answer(200, outer.name.encode())

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def instance(self) -> Instance:
        return Instance(self.name, "127.0.0.1", self.port)

    def end(self) -> None:
        """Listen no more."""
        self.server.shutdown()
        self.server.server_close()


class Balanced:
    """Envoy before some upstreams."""

    def __init__(self, folder: Path, count: int = 2) -> None:
        self.files = ShopFiles(folder)
        self.files.make()
        self.port, *ports = free_ports(count + 2)
        self.upstreams = [Upstream(f"order-{n + 1}", port) for n, port in enumerate(ports[:count])]
        self.spare_port = ports[count]
        self.write(self.upstreams)
        self.process = load_balancer_process(self.shop, self.files, programs.envoy())
        processes.wait_until_listening(processes.start([self.process]), Deadline(SECONDS))

    def write(self, upstreams: list[Upstream]) -> None:
        """Have these upstreams behind Envoy."""
        service = Service("order", "127.0.0.1", self.port, tuple(one.instance for one in upstreams))
        self.shop = Shop((service,), load_balancer=Instance("load-balancer-1", "127.0.0.1", self.port))
        for file, text in load_balancer_files(self.shop, self.files).items():
            file.parent.mkdir(exist_ok=True)
            write_whole(file, text)

    def ask(self, method: str, path: str = "/orders") -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request(method, path, body=b"{}" if method == "POST" else None)
        answer = connection.getresponse()
        found = answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        connection.close()
        return found

    def wait(self, what: str, holds: Any) -> None:
        deadline = Deadline(SECONDS)
        while not holds():
            deadline.pause(what)


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Balanced]:
    one = Balanced(tmp_path)
    yield one
    processes.stop([one.process])
    for upstream in one.upstreams:
        upstream.end()


def test_a_post_whose_connection_broke_is_not_sent_again(balanced: Balanced) -> None:
    for upstream in balanced.upstreams:
        upstream.drops = True
    status, body, headers = balanced.ask("POST")
    assert (status, headers["content-type"], headers["retry-after"]) == (503, "application/problem+json", "1")
    assert json.loads(body)["status"] == 503
    assert [what for upstream in balanced.upstreams for what in upstream.seen] == ["POST /orders"]


def test_a_get_whose_connection_broke_is_answered_by_another_instance(balanced: Balanced) -> None:
    bad, good = balanced.upstreams
    bad.drops = True
    assert {balanced.ask("GET")[0] for _ in range(10)} == {200}
    assert bad.seen
    assert good.seen


def test_a_post_to_an_instance_that_listens_no_more_reaches_another_one_once(balanced: Balanced) -> None:
    gone, there = balanced.upstreams
    gone.end()
    balanced.upstreams.remove(gone)
    assert {balanced.ask("POST")[:2] for _ in range(10)} == {(200, b"order-2")}
    assert len(there.seen) == 10


def test_an_instance_that_is_not_ready_gets_nothing_until_it_is(balanced: Balanced) -> None:
    ill, well = balanced.upstreams
    ill.ready = False
    balanced.wait("the ill instance to be taken out", lambda: taken_out(balanced.files.health_log))
    before = len(ill.seen)
    assert {balanced.ask("POST")[1] for _ in range(10)} == {b"order-2"}
    assert len(ill.seen) == before
    ill.ready, well.ready = True, False
    balanced.wait("the instance to be brought back", lambda: balanced.ask("POST")[1] == b"order-1")


def test_without_a_ready_instance_the_answer_is_503_at_once(balanced: Balanced) -> None:
    for upstream in balanced.upstreams:
        upstream.ready = False
    balanced.wait("both to be taken out", lambda: balanced.ask("POST")[0] == 503)
    status, body, headers = balanced.ask("POST")
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["detail"] == "no_healthy_upstream"


def test_an_instance_is_added_without_closing_a_connection(balanced: Balanced) -> None:
    kept = http.client.HTTPConnection("127.0.0.1", balanced.port, timeout=SECONDS)
    kept.request("GET", "/orders")
    kept.getresponse().read()
    before = kept.sock
    balanced.upstreams.append(Upstream("order-3", balanced.spare_port))
    balanced.write(balanced.upstreams)
    balanced.wait("the third instance to be asked", lambda: balanced.ask("GET")[1] == b"order-3")
    kept.request("GET", "/orders")
    assert kept.getresponse().status == 200
    assert kept.sock is before
    kept.close()


def test_a_live_stream_passes_as_it_is_written(balanced: Balanced) -> None:
    with socket.create_connection(("127.0.0.1", balanced.port), timeout=SECONDS) as reader:
        reader.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while b"data: first" not in received:  # the upstream holds the second back until this has come
            received += reader.recv(4096)
        assert b"data: second" not in received
        for upstream in balanced.upstreams:
            upstream.stream_open.set()
        while b"data: second" not in received:
            received += reader.recv(4096)


def test_the_cache_lets_nobody_in_without_the_password(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "shop-cache.password").write_text("a-generated-password\n")
    files = ShopFiles(tmp_path)
    files.make()
    (port,) = free_ports(1)
    shop = Shop((), cache=Instance("cache-1", "127.0.0.1", port))
    (process,) = cache_processes(shop, files, programs.cache_server())
    processes.wait_until_listening(processes.start([process]), Deadline(SECONDS))
    try:
        assert shop.cache
        assert observe.ask_cache(shop.cache).ready
        assert process.running()
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).get("stock:1")
        known = redis.Redis(port=port, username="shop", password="a-generated-password")
        known.set("stock:1", "7")
        assert known.get("stock:1") == b"7"
        with pytest.raises(redis.exceptions.NoPermissionError):
            known.flushall()
        assert oct(process.configuration_file.stat().st_mode & 0o777) == "0o600"  # type: ignore[union-attr]
    finally:
        processes.stop([process])
