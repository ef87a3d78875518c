"""The router's shared state: catalogue, users, cursors, cluster time, and the clients connected to it.

Made once by the command line, handed to every command in its `Context`.  Never touches a socket itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from ..protocol.cluster_time import ClusterClock
from ..protocol.errors import RouterError
from ..protocol.peer import Peer
from ..routing.catalog import Catalog
from ..routing.member import Credentials
from ..routing.replica_set import ReplicaSet
from .authorization import Users
from .cursors import Cursors
from .marks import Marks
from .transactions import Transactions

if TYPE_CHECKING:
    from .feeds import Feed

log = logging.getLogger("router")

DEFAULT_CONCERNS_SECONDS = 30.0
# MongoDB 6.0's own defaults, used until the config servers have been asked.
_IMPLICIT: tuple[dict[str, Any], dict[str, Any]] = ({"level": "local"}, {"w": "majority"})


class Service:
    """Everything the commands share."""

    def __init__(self, config: ReplicaSet, credentials: Credentials, options: dict[str, Any]) -> None:
        self.clock: ClusterClock = credentials.clock
        self.tls = credentials.tls
        self.config = config
        self.catalog = Catalog(config, credentials)
        exception = options.get("enableLocalhostAuthBypass", "true") != "false"
        self.users = Users(config, enabled=credentials.key is not None, localhost_exception=exception)
        self.cursors = Cursors()
        self.transactions = Transactions(self)
        self.marks = Marks(self)
        self.feeds: dict[bytes, Feed] = {}
        self.clients: set[Peer] = set()
        self.options = options
        self.started = time.time()
        self.process_id = ObjectId()
        self.pid = os.getpid()
        self.counters = {"insert": 0, "query": 0, "update": 0, "delete": 0, "getmore": 0, "command": 0}
        self.connections_created = 0
        self._concerns: tuple[float, tuple[dict[str, Any], dict[str, Any]]] = (0.0, _IMPLICIT)
        self._background: set[asyncio.Task[Any]] = set()

    async def default_concerns(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The cluster's default (read concern, write concern), from the config servers, kept for a while."""
        when, concerns = self._concerns
        if time.monotonic() - when > DEFAULT_CONCERNS_SECONDS or not when:
            try:
                reply = await self.config.command({"getDefaultRWConcern": 1, "$db": "admin"}, seconds=2.0)
            except RouterError:
                pass  # the ones known, or those every 6.0 cluster starts with, hold until the config servers answer
            else:
                concerns = (
                    reply.get("defaultReadConcern") or _IMPLICIT[0],
                    reply.get("defaultWriteConcern") or _IMPLICIT[1],
                )
            self._concerns = (time.monotonic(), concerns)
        return self._concerns[1]

    def forget_concerns(self) -> None:
        """`setDefaultRWConcern` was run."""
        self._concerns = (0.0, self._concerns[1])

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
