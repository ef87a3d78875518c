"""Servers for a demonstration or a test: standalone mongods in a folder, on free ports, with secrets of their own."""

from __future__ import annotations

import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shardmart.cluster.host import binaries
from shardmart.declare import versions
from shardmart.platforms import keyfile
from shardmart.platforms.standalone import Standalone, keyfile_in, start_all, stop_all
from shardmart.platforms.state import State
from shardmart.ring import Settings

STORE = "store"
USER = "ring"
CONNECT_SECONDS = 10.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Servers:
    """Nodes and the store of one ring.  `start` what is needed, `destroy` at the end."""

    folder: Path
    mongod: str
    ring: str
    names: tuple[str, ...]
    ports: dict[str, int] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    loss = "kill -9"
    """What `kill` is, in words."""

    def __post_init__(self) -> None:
        for name in (STORE, *self.names):
            self.ports.setdefault(name, free_port())

    def server(self, name: str) -> Standalone:
        """The server of this name."""
        return Standalone(name, self.ports[name])

    @property
    def system(self) -> str:
        """The content of their keyfile."""
        return keyfile.read(keyfile_in(self.folder))

    def uri(self, name: str) -> str:
        """Its connection string. It holds the password."""
        return self.server(name).uri(USER, self.password)

    def settings(
        self, names: Iterable[str] = (), *, timeout_seconds: float = 1.0, required_copies: int | None = None
    ) -> Settings:
        """The settings of a ring of these nodes (all when none is named)."""
        nodes = {name: self.uri(name) for name in (tuple(names) or self.names)}
        return Settings(self.ring, nodes, self.uri(STORE), timeout_seconds, required_copies)

    def start(self, *names: str) -> None:
        """Start these servers (all when none is named) and wait until they listen."""
        chosen = [self.server(name) for name in (names or (STORE, *self.names))]
        start_all(chosen, self.folder, self.mongod)
        for server in chosen:
            keyfile.have_user(server.name, self.uri(server.name), self.system, f"ring_{self.ring}", CONNECT_SECONDS)

    def stop(self, *names: str) -> None:
        """Ask these servers to end (all when none is named) and wait until they have."""
        stop_all([self.server(name) for name in (names or (STORE, *self.names))], self.folder)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a server; after SIGKILL wait until it is gone."""
        found = self.server(name).process(self.folder, self.mongod).running()
        if found is None:
            return
        found.send_signal(number)
        if number == signal.SIGKILL:
            found.wait(30)

    def destroy(self) -> None:
        """End every server at once."""
        for name in self.ports:
            self.kill(name)


@contextmanager
def temporary(ring: str, nodes: int) -> Iterator[Servers]:
    """Servers in a temporary folder, ended and removed in any case."""
    pins = versions.load()
    found = binaries.locate(State.find().folder / "binaries", pins.sources(pins.mongodb)).binaries
    assert found
    with tempfile.TemporaryDirectory(prefix="shardmart-ring-") as folder:
        names = tuple(f"n{i}" for i in range(1, nodes + 1))
        servers = Servers(Path(folder), str(found.mongod), ring, names)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does
        try:
            print(f"starting {nodes} node{'s' * (nodes > 1)} and a membership store", file=sys.stderr)
            servers.start()
            yield servers
        finally:
            servers.destroy()
            signal.signal(signal.SIGTERM, before)
