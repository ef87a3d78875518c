"""What a fault is.

A fault is made from a record and lives in three steps: `prepare` breaks nothing and puts into `parameters` what `end`
will need, `begin` makes it real, `end` undoes it.  Between `prepare` and `begin` the record is written, so that
whatever happens to the process that holds a fault, `end` works from the record alone, in another process, and twice.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

from shardmart.cluster.description import Node

from ..errors import ChaosError
from ..targets.selectors import Targets


@dataclass
class Fault:
    """One fault on some servers, `duration_s` seconds long.  `parameters` is what the record keeps."""

    targets: Targets
    servers: list[Node]
    duration_s: float
    parameters: dict[str, Any] = field(default_factory=dict)
    begun: float | None = None
    """When it became real (wall clock), if `begin` goes on after that."""
    kind: ClassVar[str]
    begin_seconds: ClassVar[float] = 30
    """How long `prepare` and `begin` may take together."""

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """What is missing here for faults of this kind, in words; None when nothing.  Starts nothing."""
        del targets
        return None

    def prepare(self) -> None:
        """Find what is to be broken and note what `end` needs.  Raises ChaosError when there is nothing to break."""

    def begin(self) -> None:
        """Make the fault real.  Raises ChaosError if it cannot be."""

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Keep it until `deadline` (monotonic seconds) or `stop`."""
        stop.wait(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Undo it, whatever state it is in: prepared only, begun by half, real, or undone already."""

    def evidence(self) -> dict[str, Any]:
        """What the fault itself saw, for the record."""
        return {}

    def is_gone(self) -> bool:
        """Proof of a kill: none of the processes it hit runs any more."""
        raise ChaosError(f"a fault of the kind {self.kind} kills nothing")

    def is_stopped(self) -> bool:
        """Proof of a pause: every process it hit is there and stopped."""
        raise ChaosError(f"a fault of the kind {self.kind} stops nothing")

    def is_drained(self) -> bool:
        """Proof of a drain: the node takes no pods and runs no server."""
        raise ChaosError(f"a fault of the kind {self.kind} drains nothing")
