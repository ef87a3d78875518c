"""Faults on PostgreSQL servers of this machine.

A server is a family of processes, one for each connection: what hits it has to hit all of them.
"""

from __future__ import annotations

import contextlib
import signal
import time

import psutil

from shardmart.cluster.description import Node
from shardmart.cluster.protocol.connection import Deadline
from shardmart.platforms import postgres

from ..errors import ChaosError
from ..targets import databases
from ..targets.selectors import Targets
from .fault import Fault
from .processes import RESTART_SECONDS, await_death

NO_STORE = "the store of this shop is no PostgreSQL of ours: start it with inventories/topologies/shop-postgresql.yml"


class OnPostgres(Fault):
    """A fault on servers that run."""

    def process(self, server: Node) -> postgres.Server:
        """A target as a process of this machine, running or not."""
        raise NotImplementedError

    def prepare(self) -> None:
        """See that every target runs."""
        if down := [server.name for server in self.servers if not databases.family(self.process(server))]:
            raise ChaosError(f"{', '.join(down)} does not run: nothing to break")

    def families(self) -> list[psutil.Process]:
        """The processes of all targets."""
        return [process for server in self.servers for process in databases.family(self.process(server))]


class KillPostgres(OnPostgres):
    """SIGKILL to every process of the targets; at the end they are started again, and recover from their logs."""

    def begin(self) -> None:
        """Kill, and wait until they are gone."""
        victims = self.families()
        self.begun = time.time()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGKILL)
        await_death(victims)

    def end(self) -> None:
        """Start what does not run."""
        postgres.converge([self.process(server) for server in self.servers], Deadline(RESTART_SECONDS))

    def is_gone(self) -> bool:
        """See Fault."""
        return not self.families()


class KillStore(KillPostgres):
    """The same, to the server that has the shop's store."""

    kind = "store-kill"

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return None if databases.stores(targets.cluster) else NO_STORE

    def process(self, server: Node) -> postgres.Server:
        """See OnPostgres."""
        return databases.store_process(self.targets.state, server)
