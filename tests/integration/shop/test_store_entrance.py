"""One address for whichever PostgreSQL leads, on a real Envoy: who is passed on to whom, and who is cut off.

Servers and their Patronis are stand-ins of this test, a line of greeting and an answer to `/primary`;
`test_patroni_site.py` has the real ones.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from shardmart.cluster.host import processes
from shardmart.cluster.host.files import write_whole
from shardmart.cluster.protocol.connection import Deadline
from shardmart.cluster.shop import PATRONI_PORTS, Instance, Shop
from shardmart.platforms.embedded_shop import programs
from shardmart.platforms.embedded_shop.files import ShopFiles
from shardmart.platforms.embedded_shop.processes import load_balancer_files, load_balancer_process
from tests.support.clusters import free_ports
from tests.support.shops import wait_until

pytestmark = pytest.mark.integration
SECONDS = 20


class Node:
    """A server that greets by its name and then says nothing, and beside it who tells whether it leads."""

    def __init__(self, name: str, port: int) -> None:
        self.instance = Instance(name, "127.0.0.1", port)
        self.leads = False
        outer = self

        class Greeting(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.sendall(f"{name}\n".encode())
                self.request.recv(1)

        class Health(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if outer.leads and self.path == "/primary" else 503)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        server = socketserver.ThreadingTCPServer(("127.0.0.1", port), Greeting)
        server.daemon_threads = True
        self.servers = (server, ThreadingHTTPServer(("127.0.0.1", port + PATRONI_PORTS), Health))
        for one in self.servers:
            threading.Thread(target=one.serve_forever, args=(0.05,), daemon=True).start()

    def end(self) -> None:
        """Listen no more."""
        for server in self.servers:
            server.shutdown()
            server.server_close()


class Entrance:
    """Envoy before three nodes."""

    def __init__(self, folder: Path) -> None:
        files = ShopFiles(folder)
        files.make()
        first, *_ = free_ports(PATRONI_PORTS + 4)
        self.nodes = [Node(f"shop-postgres-{n}", first + n) for n in (1, 2, 3)]
        self.at = Instance("shop-postgres", "127.0.0.1", first)
        shop = Shop(
            services=(),
            load_balancer=Instance("load-balancer-1", self.at.host, self.at.port),
            postgres_nodes=tuple(node.instance for node in self.nodes),
            postgres_entrance=self.at,
        )
        for file, text in load_balancer_files(shop, files).items():
            file.parent.mkdir(exist_ok=True)
            write_whole(file, text)
        self.process = load_balancer_process(shop, files, programs.envoy())
        processes.wait_until_listening(processes.start([self.process]), Deadline(SECONDS))

    def lead(self, leader: Node | None) -> None:
        """This node leads, and no other."""
        for node in self.nodes:
            node.leads = node is leader

    def connect(self) -> tuple[socket.socket, str]:
        """A connection, and who greets on it: nobody where it is closed at once."""
        connection = socket.create_connection((self.at.host, self.at.port), timeout=SECONDS)
        return connection, connection.recv(100).decode().strip()

    def greeted_by(self) -> str:
        """Who greets."""
        connection, name = self.connect()
        connection.close()
        return name


@pytest.fixture
def entrance(tmp_path: Path) -> Iterator[Entrance]:
    one = Entrance(tmp_path)
    yield one
    processes.stop([one.process])
    for node in one.nodes:
        node.end()


def test_who_comes_by_the_one_address_reaches_the_server_that_leads(entrance: Entrance) -> None:
    assert entrance.greeted_by() == "", "nobody leads, so nobody is asked"
    for leader in entrance.nodes[1], entrance.nodes[2]:
        entrance.lead(leader)
        name = leader.instance.name
        wait_until(lambda name=name: entrance.greeted_by() == name, f"{name} behind the entrance", SECONDS)  # type: ignore[misc]


def test_a_session_with_a_former_leader_is_ended(entrance: Entrance) -> None:
    entrance.lead(entrance.nodes[0])
    wait_until(lambda: entrance.greeted_by() == entrance.nodes[0].instance.name, "the first leader", SECONDS)
    session, _ = entrance.connect()
    entrance.lead(entrance.nodes[1])
    assert session.recv(1) == b"", "the session outlived the leadership of its server"
    session.close()
