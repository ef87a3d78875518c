"""Which implementation of a fault the platform has."""

from __future__ import annotations

from collections.abc import Callable

from . import register
from .errors import ChaosError
from .register import Record
from .targets import Targets

Start = Callable[..., Record]


def faults_of(targets: Targets) -> Start:
    """What starts a fault on this cluster's platform.  Raises ChaosError for a platform without faults."""
    if targets.platform == "embedded":
        return register.start
    raise ChaosError(f"no faults for clusters of the platform {targets.platform!r}; there are some for embedded ones")
