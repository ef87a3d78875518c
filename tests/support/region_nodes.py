"""Real region nodes for tests: three PostgreSQL servers of this machine on free ports, with schema and peers."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from shardmart.cluster.host import certificates
from shardmart.cluster.host.processes import send_signal
from shardmart.cluster.protocol.connection import Deadline
from shardmart.fragments import configuration as configurations
from shardmart.fragments.configuration import Configuration, Node
from shardmart.fragments.connection import administrator
from shardmart.fragments.peers import status, subscriptions
from shardmart.fragments.relational import schema
from shardmart.platforms import postgres
from tests.support.clusters import free_ports
from tests.support.postgres_home import postgres_home

REGIONS = ("APJ", "EMEA", "LATAM")

WAIT_SECONDS = 60


def until(what: str, holds: Callable[[], bool]) -> None:
    """Wait for a condition; the failure says for which."""
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < end, f"waited {WAIT_SECONDS} s for {what}"
        time.sleep(0.05)


class RegionNodes:
    """Three servers in a folder, and the configuration that names them."""

    def __init__(self, folder: Path, **more: Any) -> None:
        """`more` is said in the configuration, too."""
        self.folder = folder
        (folder / "secrets").mkdir(parents=True, mode=0o700)
        for name in configurations.PASSWORDS.values():
            (folder / "secrets" / name).touch(mode=0o600)
            (folder / "secrets" / name).write_text(secrets.token_hex(16) + "\n")
        ports = free_ports(len(REGIONS))
        nodes = [{"name": name, "host": "127.0.0.1", "port": port} for name, port in zip(REGIONS, ports, strict=True)]
        self.file = folder / configurations.FILE
        self.file.write_text(json.dumps({"version": 1, "nodes": nodes} | more))
        host = postgres.Host(folder)
        admin = folder / "secrets" / configurations.PASSWORDS[configurations.ADMIN]
        self.servers = {
            name: postgres.Server(name, port, configurations.ADMIN, admin, host)
            for name, port in zip(REGIONS, ports, strict=True)
        }

    def certify(self, authority: certificates.Pair) -> None:
        """A certificate where the cluster has its own; the servers speak TLS from their next start on."""
        (self.folder / "tls").mkdir(exist_ok=True, mode=0o700)
        made = certificates.make_server_certificate(authority, ["localhost", "127.0.0.1"], 9)
        (self.folder / "tls" / "ca.pem").write_bytes(authority.certificate)
        (self.folder / "tls" / "server.pem").write_bytes(made.combined)
        self.servers = {name: replace(server, tls=True) for name, server in self.servers.items()}
        trust = {"ca_file": str(self.folder / "tls" / "ca.pem"), "nodes_ca_file": postgres.AUTHORITY}
        self.file.write_text(json.dumps(json.loads(self.file.read_text()) | {"tls": trust}))

    @property
    def configuration(self) -> Configuration:
        """What `shardmart fragments` reads."""
        return configurations.find(self.file)

    def node(self, name: str) -> Node:
        """A node by its name."""
        return self.configuration.node(name)

    def start(self) -> None:
        """Start those that do not run, and wait until they answer."""
        postgres.converge(list(self.servers.values()), Deadline(60))

    def apply(self) -> list[str]:
        """Schema and peers, as `shardmart fragments apply` does."""
        changes = [line for node in self.configuration.nodes for line in schema.converge(self.configuration, node)]
        changes += subscriptions.converge(self.configuration)
        status.wait_until_streaming(self.configuration, 60)
        return changes

    def kill(self, name: str) -> None:
        """Kill a server with all of its processes, as a lost machine would be."""
        found = self.servers[name].running()
        assert found, f"{name} does not run"
        family = [found, *found.children(recursive=True)]
        for process in family:
            send_signal(process, signal.SIGKILL)  # those of a server end with it
        for process in family:
            process.wait(10)

    def run(self, name: str, *statements: str) -> None:
        """Statements of the administrator on a node."""
        with administrator(self.configuration, self.node(name)) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def destroy(self) -> None:
        """End every server at once and remove the data."""
        for name, server in self.servers.items():
            if server.running():
                self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def region_nodes(*, schema_too: bool = True, **more: Any) -> Iterator[RegionNodes]:
    """Three running nodes, destroyed at the end of the block.

    Their data lies outside of pytest's folders: where tests run as root those are closed to the servers' user.
    """
    with postgres_home("nodes") as home:
        nodes = RegionNodes(home / "state", **more)
        try:
            nodes.start()
            if schema_too:
                nodes.apply()
            yield nodes
        finally:
            nodes.destroy()
