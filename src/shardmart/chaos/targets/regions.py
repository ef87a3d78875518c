"""The region servers of the fragments: PostgreSQL processes of this machine, beside the cluster.

They are known from the file that `make fragments` wrote.  They answer to no selector of the cluster's: a fault names
them, and `regions` stands for all of them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from shardmart.cluster.description import Node, Role
from shardmart.fragments import configuration as configurations
from shardmart.fragments.configuration import ADMIN, PASSWORDS, Configuration
from shardmart.libpq import SSL_REQUEST
from shardmart.platforms import postgres
from shardmart.platforms.state import State

from ..errors import ChaosError

GROUP = "regions"


def exist(state: State) -> bool:
    """Whether there are region servers here."""
    return (state.folder / configurations.FILE).exists()


def configuration(state: State) -> Configuration:
    """Where they are.  Raises UnreachableError when there are none."""
    return configurations.find(state.folder / configurations.FILE)


def servers(state: State) -> Sequence[Node]:
    """Every region server, in the order of its file; none where there is no such file.

    As a node each has the role of those that hold data; it belongs to no replica set.
    """
    if not exist(state):
        return ()
    return [Node(one.name, Role.SHARD, GROUP, one.host, one.port) for one in configuration(state).nodes]


def named(state: State, words: str | Iterable[str]) -> list[Node]:
    """The region servers that a comma list means, `regions` for all; ChaosError for a name that there is not."""
    known = {server.name: server for server in servers(state)}
    found: dict[str, Node] = {}
    for word in (part.strip() for part in (words.split(",") if isinstance(words, str) else words)):
        if word == GROUP:
            found |= known
        elif word in known:
            found[word] = known[word]
        else:
            there = f"there are {', '.join(known)} and {GROUP}" if known else "there is none: run `make fragments`"
            raise ChaosError(f"no region server {word!r}; {there}")
    return list(found.values())


def process(state: State, server: Node) -> postgres.Server:
    """A region server as a process of this machine, running or not."""
    stores, host = configuration(state), postgres.Host(state.folder)
    password = stores.secrets / PASSWORDS[ADMIN]
    return postgres.Server(server.name, server.port, ADMIN, password, host, tls=stores.tls is not None)


def answers(server: Node, timeout_s: float = 1) -> bool:
    """Whether a region server says a word to whoever connects.  A stopped one does not, though its port is open."""
    try:
        with socket.create_connection((server.host, server.port), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(SSL_REQUEST)
            return bool(connection.recv(1))
    except OSError:
        return False
