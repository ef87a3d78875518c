"""One connection that speaks Redis' protocol (RESP2), for what forms the cache's cluster: no driver is needed there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from ...cluster.errors import ClusterError
from ...cluster.shop import Instance

TIMEOUT_SECONDS = 5.0


class RefusedError(ClusterError):
    """The server answered with an error."""


class Connection:
    """Commands to one server, one after the other."""

    def __init__(self, node: Instance, live: socket.socket) -> None:
        self.node, self._live, self._answers = node, live, live.makefile("rb")

    def __call__(self, *words: str | int) -> Any:
        """Its answer: str, int, None or a list of those.  RefusedError, or ClusterError where there is none."""
        sent = [str(word).encode() for word in words]
        try:
            self._live.sendall(b"*%d\r\n" % len(sent) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in sent))
            return self._answer()
        except (OSError, ValueError) as error:
            raise ClusterError(f"{self.node.name} at {self.node.address} does not answer: {error}") from None

    def _answer(self) -> Any:
        line = self._answers.readline()
        kind, rest = line[:1], line[1:-2].decode()
        if not line.endswith(b"\r\n"):
            raise OSError("the connection was closed")
        if kind == b"-":
            raise RefusedError(f"{self.node.name} refuses: {rest}")
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if int(rest) < 0 else self._answers.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self._answer() for _ in range(int(rest))]
        raise ValueError(f"an answer that begins with {kind!r}")


@contextlib.contextmanager
def connected(node: Instance, user: str, password: str) -> Iterator[Connection]:
    """A connection of this user.  ClusterError."""
    try:
        live = socket.create_connection((node.host, node.port), timeout=TIMEOUT_SECONDS)
    except OSError as error:
        raise ClusterError(f"{node.name} at {node.address} takes no connection: {error}") from None
    with live:
        made = Connection(node, live)
        made("AUTH", user, password)
        yield made
