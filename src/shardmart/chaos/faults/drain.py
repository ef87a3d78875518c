"""The drain of a Kubernetes node, as for a kernel upgrade.

A node whose guard was killed stays cordoned until it is healed."""

from __future__ import annotations

import threading
import time

from kubernetes.client.exceptions import ApiException

from ..errors import ChaosError
from ..targets.kubernetes import KubernetesApi, describe
from ..targets.selectors import Targets
from .fault import Fault

DRAIN_SECONDS = 180


class Drain(Fault):
    """Cordon the node of the first target that is not beside the toolbox, where the workload runs, and evict what runs
    there (drain_nodes of chaostoolkit-kubernetes).

    The disruption budgets decide how fast pods
    go; volumes of the node stay there, so its members wait for it.
    """

    kind = "drain"

    @classmethod
    def requirement(cls, targets: Targets) -> str | None:
        """See Fault."""
        if len(KubernetesApi(targets).core.list_node().items) < 2:
            return "drain-node needs a second node: -e kind_cluster_config=k8s/kind/three-nodes.yaml"
        return None

    def prepare(self) -> None:
        """Choose the node.  Raises ChaosError when none may be drained."""
        kubernetes = KubernetesApi(self.targets)
        core, release = kubernetes.core, kubernetes.release
        component = "app.kubernetes.io/component=toolbox"
        toolbox = core.list_namespaced_pod(release.namespace, label_selector=component).items
        taken = {pod.spec.node_name for pod in toolbox}
        node = next((pod.node for pod in kubernetes.pods(self.servers) if pod.node not in taken), None)
        if node is None:
            raise ChaosError(f"every target is on {', '.join(sorted(taken))}, beside the toolbox")
        self.parameters |= {"node": node, "via": "drain_nodes of chaostoolkit-kubernetes"}

    def begin(self) -> None:
        """Cordon it."""
        from chaosk8s.node.actions import cordon_node  # type: ignore[import-untyped]

        KubernetesApi(self.targets)  # chaostoolkit-kubernetes uses the client that this configures
        self.begun = time.time()
        cordon_node(name=self.parameters["node"])

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Evict, then keep the node empty."""
        from chaosk8s.node.actions import drain_nodes
        from chaoslib.exceptions import ActivityFailed  # type: ignore[import-untyped]

        KubernetesApi(self.targets)
        try:
            drain_nodes(name=self.parameters["node"], delete_pods_with_local_storage=True, timeout=DRAIN_SECONDS)
        except ActivityFailed as error:
            raise ChaosError(" ".join(str(error).split())) from None
        super().hold(stop, deadline)

    def end(self) -> None:
        """Uncordon."""
        if node := self.parameters.get("node"):
            kubernetes = KubernetesApi(self.targets)
            try:
                kubernetes.core.patch_node(node, {"spec": {"unschedulable": False}})
            except ApiException as error:
                raise ChaosError(describe(error)) from None

    def is_drained(self) -> bool:
        """See Fault."""
        kubernetes, node = KubernetesApi(self.targets), self.parameters["node"]
        pods = [kubernetes.pod(server) for server in self.targets.servers]
        cordoned = bool(kubernetes.core.read_node(node).spec.unschedulable)
        return cordoned and not any(pod and pod.node == node for pod in pods)
