"""Connections to the region nodes: one for each client and node, and an end to every operation on them.

A server that is stopped (SIGSTOP) still has its packets acknowledged by its kernel, so no time-out of TCP notices it,
and psycopg waits for ever: a connection whose time is over is shut down here.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import make_conninfo

from shardmart import libpq
from shardmart.errors import BadUseError, UnreachableError

Connection = psycopg.Connection[tuple[Any, ...]]
Row = tuple[Any, ...]

FILE = "fragments.json"
VERSION = 1
USER, DATABASE, PASSWORD_FILE = "shop", "shop", "fragments-app.password"
"""The application's user: what it may do is what a client may do."""
POLL_SECONDS = 0.1
CONNECT_SECONDS = 2
"""The least that psycopg takes for a connection."""


@dataclass(frozen=True)
class Address:
    """Where a node is."""

    name: str
    host: str
    port: int
    authority: str | None = None
    """The file of the authority that its certificate is checked by; None where it speaks no TLS."""


def read(file: Path) -> tuple[list[Address], str]:
    """The nodes that `make fragments` noted in `file`, and the application's password.

    Raises UnreachableError where there is no such file, BadUseError for one that is something else.
    """
    try:
        document = json.loads(file.read_text())
        if document["version"] != VERSION:
            raise BadUseError(f"{file}: version {document['version']}, expected {VERSION}: run `make fragments`")
        authority = (document.get("tls") or {}).get("ca_file")
        nodes = [
            Address(str(node["name"]), str(node["host"]), int(node["port"]), authority) for node in document["nodes"]
        ]
        secrets = file.parent / str(document.get("secrets", "secrets"))
        return nodes, (secrets / PASSWORD_FILE).read_text().strip()
    except OSError as error:
        raise UnreachableError(f"{error.filename}: {error.strerror}: run `make fragments`") from None
    except (KeyError, TypeError, ValueError) as error:
        raise BadUseError(f"{file}: {type(error).__name__} {error}: not a configuration of fragments") from None


class Connections:
    """The connections of one run.  Safe to call from many threads: each has its own."""

    def __init__(self, nodes: list[Address], password: str, seconds: float) -> None:
        """`seconds` bounds each operation."""
        self._nodes = {node.name: node for node in nodes}
        self._password = password
        self._seconds = seconds
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._all: set[Connection] = set()
        self._due: dict[int, tuple[float, Connection]] = {}
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._end_late_ones, name="late-connections", daemon=True)
        self._watch.start()

    @property
    def names(self) -> list[str]:
        """The nodes, by name."""
        return list(self._nodes)

    def close(self) -> None:
        """Close every connection."""
        self._stop.set()
        self._watch.join()
        with self._lock:
            for connection in self._all:
                connection.close()
            self._all.clear()

    @contextlib.contextmanager
    def on(self, name: str) -> Iterator[Connection]:
        """This thread's connection to a node, for one operation; closed when it raises.

        Raises what psycopg raises, also when the operation takes longer than it may.
        """
        connection = self._opened(name)
        with self._lock:
            self._due[id(connection)] = time.monotonic() + self._seconds, connection
        try:
            yield connection
        except BaseException:
            self._forget(name, connection)
            raise
        finally:
            with self._lock:
                self._due.pop(id(connection), None)

    def ask(self, name: str, query: LiteralString, *values: object) -> list[Row]:
        """The answer of a node to one question, in a transaction that ends with it."""
        with self.on(name) as connection:
            found = connection.execute(query, values or None).fetchall()
            connection.commit()
            return found

    def _opened(self, name: str) -> Connection:
        mine: dict[str, Connection] = self._mine.__dict__
        if name not in mine:
            node = self._nodes[name]
            connection = psycopg.connect(
                make_conninfo(**libpq.checked_by(node.authority)),
                host=node.host,
                port=node.port,
                user=USER,
                password=self._password,
                dbname=DATABASE,
                connect_timeout=max(CONNECT_SECONDS, int(self._seconds)),
                application_name="shardmart-ledger",
            )
            with self._lock:
                self._all.add(connection)
            mine[name] = connection
        return mine[name]

    def _forget(self, name: str, connection: Connection) -> None:
        self._mine.__dict__.pop(name, None)
        with self._lock:
            self._all.discard(connection)
        connection.close()

    def _end_late_ones(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            now = time.monotonic()
            with self._lock:
                late = [connection for due, connection in self._due.values() if due < now]
                # Under the lock: nobody closes the connection, and its number is not another file's.
                for connection in late:
                    with contextlib.suppress(OSError, psycopg.Error):
                        ended = socket.socket(fileno=os.dup(connection.fileno()))
                        ended.shutdown(socket.SHUT_RDWR)
                        ended.close()
