"""An update of the shop as pods: each Deployment of the targets' services, one after the other."""

from __future__ import annotations

import threading
import time

from shardmart.cluster.description import Node
from shardmart.platforms.kubernetes import pod_of
from shardmart.platforms.shop_nodes import BROKERS

from ..errors import ChaosError
from ..targets.kubernetes import KubernetesApi
from .shop import RollingRestart

POLL_SECONDS = 0.5


class PodRollingRestart(RollingRestart):
    """Kubernetes replaces the pods of one Deployment, one by one, and of the next one when the last old pod has gone.

    It is over when the last one serves, at the latest after `duration_s`.  An update that was begun goes on whoever is
    killed: it is Kubernetes that makes it.
    """

    def prepare(self) -> None:
        """Note the pods as they are now, by the name of the target."""
        if brokers := [server.name for server in self.servers if server.group == BROKERS]:
            raise ChaosError(
                f"{', '.join(brokers)}: a broker's new pod has the old one's name: nobody sees it replaced"
            )
        self.parameters["before"] = {server.name: pod_of(server).name for server in self.servers}

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """One Deployment after the other."""
        kubernetes = KubernetesApi(self.targets)
        done: list[str] = self.parameters.setdefault("restarted", [])
        for workload in dict.fromkeys(pod_of(server).workload for server in self.servers):
            mine = [server for server in self.servers if pod_of(server).workload == workload]
            if stop.is_set() or time.monotonic() >= deadline:
                return
            kubernetes.restart(workload)
            while not self._replaced(kubernetes, mine):
                if stop.wait(POLL_SECONDS):
                    return
                if time.monotonic() >= deadline:
                    raise ChaosError(f"waited {self.duration_s:g} s for the last old pod of {workload} to be replaced")
            done += [server.name for server in mine]

    def end(self) -> None:
        """Nothing is left to undo."""

    def _replaced(self, kubernetes: KubernetesApi, servers: list[Node]) -> bool:
        """Whether none of these pods is there any more, and others serve in their place."""
        return all(kubernetes.pod(server) is None and kubernetes.serves_without(server) for server in servers)
