"""The exceptions of the `chaos` package."""

from __future__ import annotations

from ..errors import REFUSED, UNREACHABLE, ShardmartError


class ChaosError(ShardmartError):
    """A fault or an experiment cannot be as asked; one or two lines that say why and what to do."""

    exit_code = UNREACHABLE


class BusyError(ChaosError):
    """Another experiment runs with this state folder."""

    exit_code = REFUSED


class ImpossibleError(ChaosError):
    """This cluster, or this machine, cannot do what an experiment asks for; nothing was started."""

    exit_code = REFUSED
