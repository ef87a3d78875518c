"""Small echo servers in a state folder: real processes, real packets, no database to wait for."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from shardmart.chaos.faults import kinds
from shardmart.chaos.lifecycle import heal
from shardmart.chaos.targets.selectors import Targets
from shardmart.cluster.host.processes import Process, start, wait_until_listening
from shardmart.cluster.protocol.connection import Deadline
from shardmart.platforms.state import State
from tests.support.clusters import free_ports

NAMES = ("configsvr1", "shard1-1", "shard1-2", "shard1-3", "mongos1")

ECHO = """
import socket, sys, threading
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[1]))); server.listen(64)
def echo(connection):
    while data := connection.recv(4096):
        words = data.split()
        if words[0] == b"dial":  # "dial PORT": connect from this process, and answer with the milliseconds it took
            import time
            started = time.perf_counter()
            try:
                socket.create_connection(("127.0.0.1", int(words[1])), timeout=3).close()
                data = b"%.3f" % ((time.perf_counter() - started) * 1000)
            except OSError:
                data = b"-1"
        connection.sendall(data)
while True:
    threading.Thread(target=echo, args=(server.accept()[0],), daemon=True).start()
"""


def needs_network_faults(cluster: EchoCluster) -> None:
    """Skip where network faults cannot be had, with the words a user would read."""
    if lacking := kinds.requirement(cluster.targets, "network"):
        pytest.skip(lacking)
    from shardmart.chaos.packets import rules

    try:
        rules.already_installed()
    except rules.RulesError as error:
        pytest.skip(str(error))


class EchoCluster:
    """Five echo servers in a state folder."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder)
        (folder / "run").mkdir(parents=True)
        (folder / "logs").mkdir()
        self.ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        member = {name: {"name": name, "host": "127.0.0.1", "port": port} for name, port in self.ports.items()}
        cluster = {
            "name": "echo",
            "platform": "embedded",
            "config_servers": {"name": "configReplSet", "members": [member["configsvr1"]]},
            "shards": [
                {"name": "shard1ReplSet", "members": [member[n] for n in NAMES if n.startswith("shard1")]},
            ],
            "routers": [member["mongos1"]],
        }
        (folder / "cluster.json").write_text(json.dumps(cluster))
        wait_until_listening(start(self.echo(name) for name in NAMES), Deadline(20))
        self.targets = Targets(self.state)

    def echo(self, name: str) -> Process:
        """What a server is: an echo that is told from others by its log."""
        log = self.state.folder / "logs" / f"{name}.log"
        return Process(
            name=name,
            command=(sys.executable, "-c", ECHO, str(self.ports[name]), "--logpath", str(log)),
            host="127.0.0.1",
            port=self.ports[name],
            marker=str(log),
            pid_file=self.state.folder / "run" / f"{name}.pid",
            log_file=log,
        )

    def process(self, name: str) -> psutil.Process | None:
        """The live process of a server."""
        return self.echo(name).running()

    def wait_for(self, name: str) -> None:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.ports[name]), timeout=1).close()
            except OSError:
                assert time.monotonic() < end, f"{name} does not listen"
                time.sleep(0.05)
            else:
                return

    def connect_ms(self, name: str, timeout: float = 2) -> float | None:
        """How long a TCP handshake with a server takes from here; None if it does not come about."""
        started = time.perf_counter()
        try:
            socket.create_connection(("127.0.0.1", self.ports[name]), timeout=timeout).close()
        except OSError:
            return None
        return (time.perf_counter() - started) * 1000

    def dial_ms(self, source: str, target: str) -> float | None:
        """How long a TCP handshake from one server to another takes; None if it does not come about."""
        with socket.create_connection(("127.0.0.1", self.ports[source]), timeout=5) as connection:
            connection.sendall(b"dial %d" % self.ports[target])
            answer = float(connection.recv(64))
        return answer if answer >= 0 else None

    def close(self) -> None:
        heal.heal(self.state)
        for name in NAMES:
            if process := self.process(name):
                process.kill()
                process.wait(5)
