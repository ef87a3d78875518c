"""The kubernetes platform: every server is a pod of the chart's StatefulSets.

A laptop cannot reach pods, the chart's toolbox pod can: what has to be beside the servers runs there by `kubectl exec`.
Exec, not port-forward: a forwarded port dies with the router pod it leads to.  In a pod (the bootstrap, the toolbox
itself) the servers are reached directly.  Exactly one kubeconfig and context are used, those of the description or else
the state folder's own; what KUBECONFIG, K8S_AUTH_* or a file in the home folder say never counts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cluster.description import Cluster, DescriptionError, Kubernetes, Node, Pod
from ..cluster.protocol.connection import Deadline
from .platform import PlatformError, Way, chosen, last_line, way
from .shop_nodes import of_pods, short_of

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from .state import State

CONTAINER = "toolbox"
TOOLBOX_STATE = Path("/state")
"""The state folder of the chart's pods: the description and the secrets, read-only."""
KUBECTL_SECONDS = 30
OF_ANOTHER = ("KUBE", "K8S_AUTH_", "HELM_KUBE")


class KubernetesPlatform:
    """One release of the chart."""

    name = "kubernetes"

    def __init__(self, state: State, cluster: Cluster) -> None:
        if cluster.kubernetes is None:
            raise DescriptionError(f"the description of {cluster.name} names no Helm release")
        self.cluster = cluster
        self.release: Kubernetes = cluster.kubernetes
        own = state.folder / "kubeconfig"
        given = self.release.kubeconfig
        self.inside = "KUBERNETES_SERVICE_HOST" in os.environ and not given and not own.exists()
        """Whether this process runs in a pod, beside the servers."""
        self.kubeconfig: Path | None = None if self.inside else Path(given) if given else own
        self.context = self.release.context
        self.direct = self.inside
        self.python = "python3"
        self.state_folder = state.folder if self.inside else TOOLBOX_STATE

    def address(self, node: Node) -> str:
        """See Platform: the pod's DNS name and port."""
        return node.address

    def reach(self, node: Node, user: str | None = None) -> Way:
        """See Platform."""
        return way(self.cluster, node, self.state_folder, user, direct=self.direct)

    def run(self, command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        """See Platform: in the toolbox, or here when this is a pod."""
        return self._finished(self._beside(command), timeout_s, f"{' '.join(command[:4])} in the toolbox")

    def spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """See Platform."""
        return subprocess.Popen(  # noqa: S603
            self._beside(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C stops the caller, which stops what works in the toolbox in order
            env=self.environment(),
        )

    def start(self, names: Iterable[str] = (), *, wait_s: float = 60) -> list[str]:
        """See Platform: give the StatefulSets of these servers all their pods again."""
        return self._scale(chosen(self.cluster, names), wait_s, up=True)

    def stop(self, names: Iterable[str] = (), *, wait_s: float = 180) -> list[str]:
        """See Platform: take all pods from StatefulSets.  One pod alone would be replaced at once, so PlatformError
        unless all servers of a set are named."""
        nodes = chosen(self.cluster, names)
        wanted = {node.name for node in nodes}
        for node in self.cluster.nodes:
            if node.group in {n.group for n in nodes} and node.name not in wanted:
                raise PlatformError(f"{node.group} stops as a whole on Kubernetes: name {node.name} too")
        return self._scale(nodes, wait_s, up=False)

    def shop_nodes(self) -> list[Node]:
        """See Platform: the pods behind the shop's Services.  A pod of the chart has no right to list them."""
        shop = self.cluster.shop
        return [] if shop is None or self.inside else of_pods(shop, self._objects("services,pods"))

    def shop_is_short_of(self) -> list[str]:
        """See Platform: Deployments and StatefulSets that are not as they are declared."""
        shop = self.cluster.shop
        if shop is None or self.inside:
            return []
        return short_of(shop, self._objects("deployments,statefulsets"))

    def kubectl_command(self, *words: str) -> list[str]:
        """The command line of kubectl in the release's namespace, with the one kubeconfig and context."""
        program = shutil.which("kubectl")
        if program is None:
            raise PlatformError("kubectl is not on PATH: pods cannot be reached without it")
        if self.kubeconfig is None:
            return [program, f"--namespace={self.release.namespace}", *words]
        if not self.kubeconfig.exists():
            raise PlatformError(f"there is no kubeconfig {self.kubeconfig}: provision the cluster, or say which to use")
        context = [f"--context={self.context}"] if self.context else []
        return [program, f"--kubeconfig={self.kubeconfig}", *context, f"--namespace={self.release.namespace}", *words]

    def environment(self) -> dict[str, str]:
        """This process's environment in which no variable names another Kubernetes; for libraries that read
        `$KUBECONFIG` and `$KUBERNETES_CONTEXT` (chaostoolkit-kubernetes), it names this one."""
        clean = {
            key: value
            for key, value in os.environ.items()
            if not names_another(key) or (self.inside and key.startswith("KUBERNETES_"))
        }
        if self.kubeconfig:
            clean["KUBECONFIG"] = str(self.kubeconfig)
        if self.context:
            clean["KUBERNETES_CONTEXT"] = self.context
        return clean

    def api(self) -> ApiClient:
        """A client of the Kubernetes API: by the one kubeconfig and context, in a pod by its service account."""
        from kubernetes import client, config  # of the extra `kind`, which the loader does without
        from kubernetes.config import ConfigException

        configuration = client.Configuration()
        try:
            if self.kubeconfig is None:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=str(self.kubeconfig), context=self.context, client_configuration=configuration
                )
        except (ConfigException, OSError) as error:
            raise PlatformError(f"no way to the Kubernetes API: {error}") from None
        return client.ApiClient(configuration)

    def _beside(self, command: Sequence[str]) -> list[str]:
        if self.inside:
            return list(command)
        deployment = f"deploy/{self.release.toolbox}"
        return self.kubectl_command(
            "exec", "--stdin", "--quiet", f"--container={CONTAINER}", deployment, "--", *command
        )

    def _kubectl(self, *words: str) -> bytes:
        """Output of kubectl; PlatformError with its last words."""
        what = f"kubectl {' '.join(words[:3])}"
        done = self._finished(self.kubectl_command(*words), KUBECTL_SECONDS, what)
        if done.returncode:
            raise PlatformError(f"{what}: {last_line(done.stderr)}")
        return done.stdout

    def _finished(self, command: Sequence[str], timeout_s: float, awaited: str) -> subprocess.CompletedProcess[bytes]:
        """A command of this machine run to its end, without input; PlatformError that says what was `awaited`."""
        try:
            return subprocess.run(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
                env=self.environment(),
            )
        except subprocess.TimeoutExpired:
            raise PlatformError(f"waited {timeout_s:g} s for {awaited}") from None

    def _objects(self, kinds: str) -> list[dict[str, Any]]:
        """The objects of some kinds in the release's namespace."""
        found: list[dict[str, Any]] = json.loads(self._kubectl("get", kinds, "--output=json"))["items"]
        return found

    def _scale(self, nodes: Sequence[Node], wait_s: float, *, up: bool) -> list[str]:
        """Pods of the nodes' StatefulSets: as many as described, or none; the servers that were not so already."""
        size = Counter(pod_of(node).workload for node in self.cluster.nodes)
        before = self._running(nodes)
        for workload in dict.fromkeys(pod_of(node).workload for node in nodes):
            self._kubectl("scale", f"statefulset/{workload}", f"--replicas={size[workload] if up else 0}")
        deadline = Deadline(wait_s)
        changing = [node.name for node in nodes if (node.name in before) is not up]
        while waiting := [name for name in changing if (name in self._running(nodes)) is not up]:
            deadline.pause(f"the pods of {', '.join(waiting)} to {'run' if up else 'end'}")
        return changing

    def _running(self, nodes: Sequence[Node]) -> set[str]:
        """Those of these servers that have a pod; one that is to start counts once its containers run."""
        pods = {pod_of(node).name: node.name for node in nodes}
        found: dict[str, Any] = json.loads(
            self._kubectl("get", "pods", *pods, "--ignore-not-found", "--output=json") or b'{"items": []}'
        )
        items = found.get("items", [found])
        return {pods[item["metadata"]["name"]] for item in items if item["status"].get("phase") == "Running"}


def names_another(variable: str) -> bool:
    """Whether a variable of the environment may lead kubectl, Helm or a library to another Kubernetes than the given
    one; no command of ours gets it."""
    return variable.startswith(OF_ANOTHER)


def pod_of(node: Node) -> Pod:
    """The pod of a node; DescriptionError for one that has none."""
    if node.pod is None:
        raise DescriptionError(f"{node.name} has no pod")
    return node.pod
