"""The drain of a Kubernetes node, as for a kernel upgrade.

A node whose guard was killed stays cordoned until it is healed."""

from __future__ import annotations

import threading
import time
from functools import cached_property
from typing import Any

from kubernetes.client.exceptions import ApiException

from ..errors import ChaosError
from ..targets.kubernetes import KubernetesApi, describe
from ..targets.selectors import Targets
from .fault import Fault

DRAIN_SECONDS = 180


class Drain(Fault):
    """Cordon the node of the first target that is not beside the toolbox, where the workload runs, and evict what runs
    there (drain_nodes of chaostoolkit-kubernetes).

    The disruption budgets decide how fast pods go; volumes of the node stay there, so its members wait for it.
    """

    kind = "drain"

    @cached_property
    def _api(self) -> KubernetesApi:
        return KubernetesApi(self.targets)

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        if len(_nodes(KubernetesApi(targets))) < 2:
            return "drain-node needs a second node: -e kind_cluster_config=k8s/kind/three-nodes.yaml"
        return None

    def prepare(self) -> None:
        """Choose the node.  Raises ChaosError when none may be drained."""
        namespace, component = self._api.release.namespace, "app.kubernetes.io/component=toolbox"
        toolbox = self._api.core.list_namespaced_pod(namespace, label_selector=component).items
        taken = {pod.spec.node_name for pod in toolbox}
        # One that somebody else has cordoned is not ours to use again at the end.
        cordoned = {node.metadata.name for node in _nodes(self._api) if node.spec.unschedulable}
        nodes = [pod.node for pod in self._api.pods(self.servers) if pod.node not in taken | cordoned]
        if not nodes:
            where = ", ".join(sorted(taken | cordoned))
            raise ChaosError(f"every target is on {where}: beside the toolbox, or cordoned already")
        node = nodes[0]
        self.parameters |= {"node": node, "via": "drain_nodes of chaostoolkit-kubernetes"}

    def begin(self) -> None:
        """Cordon it."""
        from chaosk8s.node.actions import cordon_node  # type: ignore[import-untyped]

        self.begun = time.time()
        cordon_node(name=self.parameters["node"])

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Evict, then keep the node empty."""
        from chaosk8s.node.actions import drain_nodes
        from chaoslib.exceptions import ActivityFailed  # type: ignore[import-untyped]

        try:
            drain_nodes(name=self.parameters["node"], delete_pods_with_local_storage=True, timeout=DRAIN_SECONDS)
        except ActivityFailed as error:
            raise ChaosError(" ".join(str(error).split())) from None
        super().hold(stop, deadline)

    def end(self) -> None:
        """Uncordon."""
        if node := self.parameters.get("node"):
            try:
                self._api.core.patch_node(node, {"spec": {"unschedulable": False}})
            except ApiException as error:
                raise ChaosError(describe(error)) from None

    def is_drained(self) -> bool:
        """See Fault."""
        node = self.parameters["node"]
        pods = [self._api.pod(server) for server in self.targets.servers]
        cordoned = bool(self._api.core.read_node(node).spec.unschedulable)
        return cordoned and not any(pod and pod.node == node for pod in pods)


def _nodes(kubernetes: KubernetesApi) -> list[Any]:
    try:
        found: list[Any] = kubernetes.core.list_node().items
    except ApiException as error:
        raise ChaosError(describe(error)) from None
    return found
