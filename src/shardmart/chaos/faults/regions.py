"""Faults on the region servers of the fragments, and on the rule by which they agree."""

from __future__ import annotations

from shardmart.cluster.description import Node
from shardmart.cluster.host import processes
from shardmart.fragments.connection import administrator
from shardmart.platforms import postgres, repair_timer

from ..packets.flows import Endpoint
from ..targets import regions
from ..targets.selectors import Targets
from .fault import Fault
from .loopback import Network
from .postgres import KillPostgres, OnPostgres, PausePostgres

RULE = "customer_region_apply"
"""The trigger that decides between a row and what a peer says of it."""


def missing(targets: Targets) -> str | None:
    """What is missing for a fault on region servers; None when they are there."""
    return None if regions.exist(targets.state) else "there are no region servers here: run `make fragments`"


class _OfRegions(OnPostgres):
    """A fault that needs region servers, and finds them running."""

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return missing(targets)

    def process(self, server: Node) -> postgres.Server:
        """See OnPostgres."""
        return regions.process(self.targets.state, server)


class KillRegion(_OfRegions, KillPostgres):
    """SIGKILL to every process of the targets; at the end they are started again, and recover from their logs."""

    kind = "region-kill"


class PauseRegion(_OfRegions, PausePostgres):
    """SIGSTOP to every process of the targets: silent, connections open.  SIGCONT at the end."""

    kind = "region-pause"

    def is_stopped(self) -> bool:
        """See Fault."""
        return super().is_stopped() and not any(regions.answers(server) for server in self.servers)


class CutRegion(Network):
    """The packets between targets and peers, all region servers; clients and the repair reach each as before."""

    kind = "region-network"

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return missing(targets) or super().requirement(targets)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """See Network."""
        state = self.targets.state
        return tuple(
            Endpoint(
                server.name,
                server.port,
                pid_file=str(regions.process(state, server).folder / "postmaster.pid"),
                children=True,
            )
            for server in regions.servers(state)
        )


class WithoutRule(_OfRegions):
    """Nobody decides between two writes of a row, and nobody compares: what a peer says last is what a node holds."""

    kind = "region-rule"

    def begin(self) -> None:
        """Stop the timer of the repair, then switch the trigger off on every target."""
        if timer := self._timer():
            processes.stop([timer])
        self._alter("DISABLE TRIGGER")

    def end(self) -> None:
        """Switch it on again, and start the timer, whose first repair comes at once."""
        self._alter("ENABLE REPLICA TRIGGER")
        if timer := self._timer():
            processes.start([timer])

    def _timer(self) -> processes.Process | None:
        """The timer as it was started last; None where there never was one."""
        return processes.recorded(repair_timer.process(self.targets.state.folder, 0).pid_file)

    def _alter(self, words: str) -> None:
        configuration = regions.configuration(self.targets.state)
        for server in self.servers:
            with administrator(configuration, configuration.node(server.name)) as connection:
                connection.execute(f"ALTER TABLE Customer_Region {words} {RULE}".encode())


KINDS: tuple[type[Fault], ...] = (KillRegion, PauseRegion, CutRegion, WithoutRule)
