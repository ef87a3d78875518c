"""Which implementation of a fault the platform has: local processes, or pods."""

from __future__ import annotations

from collections.abc import Callable

from shardmart.state import State

from . import register
from .errors import ChaosError
from .register import Record
from .targets import Targets

Start = Callable[..., Record]


def faults_of(targets: Targets) -> Start:
    """What starts a fault on this cluster's platform.  Raises ChaosError for a platform without faults."""
    if targets.platform == "embedded":
        return register.start
    if targets.platform == "kind":
        from . import kind

        return kind.start
    raise ChaosError(f"no faults for the platform {targets.platform!r}")


def prepare_access(state: State) -> None:
    """Make members and routers reachable from here where they are not: on kind, through port-forwards."""
    targets = Targets(state)
    if targets.platform == "kind":
        from . import kind

        kind.prepare_access(targets)
