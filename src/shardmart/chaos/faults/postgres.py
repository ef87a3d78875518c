"""Faults on PostgreSQL servers of this machine.

A server is a family of processes, one for each connection: what hits it has to hit all of them.
"""

from __future__ import annotations

import contextlib
import signal
import time

import psutil

from shardmart.cluster.description import Node
from shardmart.cluster.host.processes import live
from shardmart.cluster.protocol.connection import Deadline
from shardmart.platforms import patroni, postgres

from ..errors import ChaosError
from ..targets import databases
from ..targets.selectors import Targets
from .fault import Fault
from .processes import RESTART_SECONDS, await_death

REJOIN_SECONDS = 120
"""A former leader is compared with its successor, and made anew where that does not help."""
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


class PausePostgres(OnPostgres):
    """SIGSTOP to every process of the targets: silent, connections open.  SIGCONT at the end."""

    def begin(self) -> None:
        """Stop the one that makes the others first, so that no new one escapes."""
        stopped: set[int] = set()
        while new := [process for process in self.families() if process.pid not in stopped]:
            for process in new:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
                stopped.add(process.pid)

    def end(self) -> None:
        """Let them go on."""
        for process in self.families():
            with contextlib.suppress(psutil.Error):
                process.resume()

    def is_stopped(self) -> bool:
        """See Fault."""
        return {process.status() for process in self.families()} == {psutil.STATUS_STOPPED}


class OnStore(OnPostgres):
    """A fault on servers of the shop's store, each with the Patroni that it has."""

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return None if databases.stores(targets.cluster) else NO_STORE

    def process(self, server: Node) -> postgres.Server:
        """See OnPostgres."""
        return databases.store_process(self.targets.state, server)

    def families(self) -> list[psutil.Process]:
        """The Patroni of each target first, which would start its server again."""
        store, names = self._store, {server.name for server in self.servers}
        places = [store.place(node).process() for node in store.nodes if node.name in names] if store else []
        return [*live(places).values(), *super().families()]

    @property
    def _store(self) -> patroni.Store | None:
        return databases.under_patroni(self.targets.cluster, self.targets.state)


class KillStore(OnStore, KillPostgres):
    """SIGKILL to targets and their Patronis; at the end they are started again, and follow whoever leads by then."""

    kind = "store-kill"

    def end(self) -> None:
        """Start what does not run."""
        if (store := self._store) is None:
            super().end()
        else:
            patroni.start(store, [server.name for server in self.servers], Deadline(REJOIN_SECONDS))


class PauseStore(OnStore, PausePostgres):
    """SIGSTOP to targets and their Patronis, SIGCONT at the end: a leader of before finds that it is one no more."""

    kind = "store-pause"
