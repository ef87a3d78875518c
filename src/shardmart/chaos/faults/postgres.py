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
from shardmart.cluster.shop import ETCD_PEER_PORTS, PATRONI_PORTS
from shardmart.platforms import patroni, postgres, shop_nodes

from ..errors import ChaosError
from ..packets.flows import Endpoint
from ..targets import databases
from ..targets.selectors import Targets
from .fault import Fault
from .loopback import Network
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


def missing(targets: Targets) -> str | None:
    """What is missing for a fault on the shop's store; None when it is there."""
    return None if shop_nodes.store_nodes(targets.cluster) else NO_STORE


class OnStore(OnPostgres):
    """A fault on servers of the shop's store, each with the Patroni that it has."""

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return missing(targets)

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


class CutStore(Network):
    """Every packet between targets and everybody else, as if each were a machine whose network is gone: its server, its
    Patroni, and its member of etcd."""

    kind = "store-network"

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return missing(targets) or super().requirement(targets)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """See Network.  What belongs to one node has the node's name."""
        state, cluster = self.targets.state, self.targets.cluster
        servers = [
            Endpoint(
                node.name,
                node.port,
                pid_file=str(databases.store_process(state, node).folder / "postmaster.pid"),
                children=True,
            )
            for node in shop_nodes.store_nodes(cluster)
        ]
        if (store := databases.under_patroni(cluster, state)) is None:
            return tuple(servers)
        for node, member in zip(store.nodes, store.etcd, strict=True):
            beside = [(node, node.port + PATRONI_PORTS), (member, member.port), (member, member.port + ETCD_PEER_PORTS)]
            servers += [
                Endpoint(node.name, port, pid_file=str(store.place(process).process().pid_file))
                for process, port in beside
            ]
        return tuple(servers)


KINDS: tuple[type[Fault], ...] = (KillStore, PauseStore, CutStore)
