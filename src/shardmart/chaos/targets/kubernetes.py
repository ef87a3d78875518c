"""The Kubernetes API, as faults and proofs need it: the pods of servers, their deletion, the toolbox's image."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from shardmart.cluster.description import Node, Role
from shardmart.platforms.kubernetes import CONTAINER, KubernetesPlatform, pod_of

from ..errors import ChaosError
from .selectors import Targets


@dataclass(frozen=True)
class Pod:
    """A server's pod as it is now."""

    server: str
    name: str
    uid: str
    node: str
    address: str
    container: str
    """Identifier of the server's container; empty while it does not run."""
    ready: bool
    waiting: str
    """Why the container does not run, in the kubelet's words (CrashLoopBackOff, ...); empty when it does."""
    exit_code: int | None
    """How the container before this one ended: 137 is SIGKILL."""


class KubernetesApi:
    """The API, for one release.  Raises ChaosError when there is no way to it."""

    def __init__(self, targets: Targets) -> None:
        platform = targets.platform
        if not isinstance(platform, KubernetesPlatform):
            raise ChaosError(f"{targets.cluster.name} does not run on Kubernetes")
        self._platform = platform
        self.release = platform.release
        # Any: in the client's own types every field of every answer may be None.
        self.core: Any = client.CoreV1Api(platform.api())
        self.apps: Any = client.AppsV1Api(platform.api())

    def pod(self, server: Node) -> Pod | None:
        """The pod of a server; None while there is none."""
        try:
            found = self.core.read_namespaced_pod(pod_of(server).name, self.release.namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise ChaosError(describe(error)) from None
        statuses = found.status.container_statuses or []
        # A container of the shop is called as its service is.
        status: Any = next(
            (s for s in statuses if s.name in {"mongod", "mongos", "kafka", "postgres", server.group}), None
        )
        running = status is not None and status.state.running is not None
        ended = status.last_state.terminated if status and status.last_state else None
        return Pod(
            server=server.name,
            name=found.metadata.name,
            uid=found.metadata.uid,
            node=found.spec.node_name or "",
            address=found.status.pod_ip or "",
            container=(status.container_id or "").partition("://")[2] if running else "",
            ready=bool(status and status.ready),
            waiting=status.state.waiting.reason if status and status.state.waiting else "",
            exit_code=ended.exit_code if ended else None,
        )

    def pods(self, servers: Iterable[Node]) -> list[Pod]:
        """The running pods of servers; ChaosError that names those whose server does not run."""
        found = [(server, self.pod(server)) for server in servers]
        running = [pod for _, pod in found if pod and pod.container]
        if missing := [server.name for server, pod in found if not (pod and pod.container)]:
            raise ChaosError(f"{', '.join(missing)} does not run: nothing to break")
        return running

    def serves_without(self, server: Node) -> bool:
        """Whether a process of the shop whose pod is gone for good has been replaced: its Deployment, or
        the brokers' StatefulSet, is whole again."""
        return server.role is Role.SERVICE and server.group not in self._platform.shop_is_short_of()

    def restart(self, deployment: str) -> None:
        """Have the pods of a Deployment replaced, as `kubectl rollout restart` does."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        mark = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}}
        try:
            self.apps.patch_namespaced_deployment(deployment, self.release.namespace, {"spec": {"template": mark}})
        except ApiException as error:
            raise ChaosError(f"{deployment} cannot be restarted: {describe(error)}") from None

    def delete(self, name: str, namespace: str, grace_seconds: int | None = None) -> None:
        """Delete a pod; one that is not there is fine."""
        try:
            self.core.delete_namespaced_pod(name, namespace, grace_period_seconds=grace_seconds)
        except ApiException as error:
            if error.status != 404:
                raise ChaosError(describe(error)) from None

    def toolbox_image(self) -> tuple[str, str]:
        """Image and pull policy of the toolbox: what holds faults is inside."""
        try:
            found = self.apps.read_namespaced_deployment(self.release.toolbox, self.release.namespace)
        except ApiException as error:
            raise ChaosError(f"the toolbox, whose image holds faults: {describe(error)}") from None
        container = next(c for c in found.spec.template.spec.containers if c.name == CONTAINER)
        return container.image, container.image_pull_policy

    @property
    def chaos_namespace(self) -> str:
        """The namespace of the pods that hold faults: not the database's, which forbids what they need."""
        return f"{self.release.namespace}-chaos"

    def ensure_chaos_namespace(self) -> None:
        """Make the namespace of the injectors, if it is not there; Helm may adopt it when the chart's engine is used.

        Who may not make namespaces needs one that is there: then the pod's creation says what is missing.
        """
        release = self.release
        metadata = {
            "name": self.chaos_namespace,
            "labels": {
                "app.kubernetes.io/name": "shardmart-chaos",
                "app.kubernetes.io/managed-by": "Helm",
                "pod-security.kubernetes.io/enforce": "privileged",
            },
            "annotations": {
                "meta.helm.sh/release-name": release.release,
                "meta.helm.sh/release-namespace": release.namespace,
            },
        }
        try:
            self.core.create_namespace({"metadata": metadata})
        except ApiException as error:
            if error.status not in {403, 409}:
                raise ChaosError(describe(error)) from None


def describe(error: ApiException) -> str:
    """What the API said, in one line."""
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.reason
    return f"the Kubernetes API refused: {message}"
