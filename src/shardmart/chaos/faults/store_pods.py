"""Faults on the pod with the shop's store on PostgreSQL: those of any pod, called as they are on processes."""

from __future__ import annotations

from typing import Any

from ..targets.kubernetes import Pod
from ..targets.selectors import Targets
from .pods import PodFault, PodKill, PodNetwork, PodPause
from .postgres import missing


class OnStorePod(PodFault):
    """A fault that injectors know as one on any pod."""

    injected: str

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        return missing(targets) or super().requirement(targets)

    def _orders(self, pods: list[Pod]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        orders, per_pod = super()._orders(pods)
        return orders | {"kind": self.injected}, per_pod


class KillStorePod(OnStorePod, PodKill):
    """SIGKILL to the server, and to each that Kubernetes starts in its place meanwhile; at the end it recovers."""

    kind, injected = "store-kill", PodKill.kind


class PauseStorePod(OnStorePod, PodPause):
    """SIGSTOP to every process of the server: silent, connections open.  SIGCONT at the end."""

    kind, injected = "store-pause", PodPause.kind


class CutStorePod(OnStorePod, PodNetwork):
    """Every packet between the server and everybody else."""

    kind, injected = "store-network", PodNetwork.kind


KINDS: tuple[type[OnStorePod], ...] = (KillStorePod, PauseStorePod, CutStorePod)
