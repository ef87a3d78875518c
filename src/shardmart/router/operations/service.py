"""The router's shared state: catalogue, users, cursors, cluster time, and the clients connected to it.

Made once by the command line, handed to every command in its `Context`.  Never touches a socket itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Any

from ..protocol.errors import RouterError
from ..routing.catalog import Catalog
from ..routing.member import Credentials
from ..routing.replica_set import ReplicaSet
from .authorization import Users
from .context import Peer
from .cursors import Cursors
from .feeds import Feed, Marks
from .transactions import Transactions

log = logging.getLogger("router")


class Service:
    """Everything the commands share."""

    def __init__(self, config: ReplicaSet, credentials: Credentials, options: dict[str, Any]) -> None:
        self.clock = credentials.clock
        self.tls = credentials.tls
        self.config = config
        self.catalog = Catalog(config, credentials)
        self.users = Users(config, enabled=credentials.key is not None)
        self.cursors = Cursors()
        self.transactions = Transactions(self)
        self.marks = Marks(self)
        self.feeds: dict[bytes, Feed] = {}
        self.clients: set[Peer] = set()
        self.options = options
        self.started = time.time()
        self.pid = os.getpid()
        self.counters = {"insert": 0, "query": 0, "update": 0, "delete": 0, "getmore": 0, "command": 0}
        self.connections_created = 0
        self._background: set[asyncio.Task[Any]] = set()

    def in_background(self, work: Any) -> None:
        """Run a coroutine that no client waits for; a failure is logged."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, RouterError):
            log.error("background work failed", exc_info=error)

    def close(self) -> None:
        """Close every connection, to clients and members."""
        for client in list(self.clients):
            client.close()
        for replica_set in [self.config, *self.catalog.shards.values()]:
            replica_set.close()
