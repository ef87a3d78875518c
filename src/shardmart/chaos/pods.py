"""Kubernetes, as faults need it: the pods of servers, the pods that hold faults on nodes, deletion.

Used by `chaos.pod_faults` and probes.  A pod that holds a fault (an injector) runs `chaos.node` on the node of its
targets, in the namespace NAMESPACE-chaos, which may hold privileged pods; the database's namespace stays "restricted"
(docs/decisions/045).  It has no service account and ends by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from .errors import ChaosError
from .targets import Server, Targets
from .toolbox import CONTAINER, Release, inside_kubernetes

START_SECONDS = 50
FOLLOW_SECONDS = 4000
LABEL = "shardmart/fault"
CAPABILITIES = ("KILL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_NICE", "SYS_PTRACE")
"""KILL: signals to another user's process. SYS_PTRACE, SYS_ADMIN: to enter its network namespace; NET_*: what is done
there. SYS_NICE: packets wait for the injector, so it goes first."""
MARGIN_SECONDS = 60
"""A pod that holds a fault is killed this long after it should have ended."""


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


class Kubernetes:
    """The API, for one release.  Raises ChaosError when there is no way to it."""

    def __init__(self, targets: Targets) -> None:
        self.release = Release.of(targets.cluster)
        kubeconfig = targets.state.folder / "kubeconfig"
        try:
            if inside_kubernetes(targets.state):
                os.environ.setdefault("CHAOSTOOLKIT_IN_POD", "true")
                config.load_incluster_config()  # type: ignore[no-untyped-call]
            else:
                config.load_kube_config(  # type: ignore[no-untyped-call]
                    config_file=str(kubeconfig) if kubeconfig.exists() else None
                )
        except (ConfigException, OSError) as error:
            raise ChaosError(f"no way to the Kubernetes API: {error}") from None
        # Any: in the client's own types every field of every answer may be None.
        self.core: Any = client.CoreV1Api()
        self.apps: Any = client.AppsV1Api()

    def pod(self, server: Server) -> Pod | None:
        """The pod of a server; None while there is none."""
        try:
            found = self.core.read_namespaced_pod(pod_name(server), self.release.namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise ChaosError(describe(error)) from None
        statuses = found.status.container_statuses or []
        status: Any = next((s for s in statuses if s.name in {"mongod", "mongos"}), None)
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

    def pods(self, servers: Iterable[Server]) -> list[Pod]:
        """The running pods of servers; ChaosError that names those whose server does not run."""
        found = [(server, self.pod(server)) for server in servers]
        running = [pod for _, pod in found if pod and pod.container]
        if missing := [server.name for server, pod in found if not (pod and pod.container)]:
            raise ChaosError(f"{', '.join(missing)} does not run: nothing to break")
        return running

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
            found = self.apps.read_namespaced_deployment(f"{self.release.name}-toolbox", self.release.namespace)
        except ApiException as error:
            raise ChaosError(f"the toolbox, whose image holds faults: {describe(error)}") from None
        container = next(c for c in found.spec.template.spec.containers if c.name == CONTAINER)
        return container.image, container.image_pull_policy

    def ensure_chaos_namespace(self) -> None:
        """Make the namespace of the injectors, if it is not there; Helm may adopt it when the chart's engine is used.

        Who may not make namespaces needs one that is there: then the pod's creation says what is missing.
        """
        release = self.release
        metadata = {
            "name": release.chaos_namespace,
            "labels": {
                "app.kubernetes.io/name": "shardmart-chaos",
                "app.kubernetes.io/managed-by": "Helm",
                "pod-security.kubernetes.io/enforce": "privileged",
            },
            "annotations": {
                "meta.helm.sh/release-name": release.name,
                "meta.helm.sh/release-namespace": release.namespace,
            },
        }
        try:
            self.core.create_namespace({"metadata": metadata})
        except ApiException as error:
            if error.status not in {403, 409}:
                raise ChaosError(describe(error)) from None


def pod_name(server: Server) -> str:
    """The pod of a server: the first label of its host name."""
    return server.host.partition(".")[0]


def describe(error: ApiException) -> str:
    """What the API said, in one line."""
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.reason
    return f"the Kubernetes API refused: {message}"


@dataclass
class Injector:
    """One pod that holds a fault on one node, and what it has reported."""

    name: str
    namespace: str
    events: list[dict[str, Any]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def event(self, kind: str) -> dict[str, Any] | None:
        """The first report of this kind."""
        return next((event for event in self.events if event["event"] == kind), None)


class Injectors:
    """The pods of one fault, one on each node that has a target."""

    def __init__(self, kubernetes: Kubernetes, fault_id: str) -> None:
        self._kubernetes = kubernetes
        self._id = fault_id
        self._namespace = kubernetes.release.chaos_namespace
        self.started: list[Injector] = []

    def start(self, pods: Sequence[Pod], orders: dict[str, Any], per_pod: dict[str, dict[str, Any]]) -> None:
        """Start them and wait until every one says that the fault is real.  Raises ChaosError otherwise.

        `per_pod` is what only the orders for one server have.
        """
        self._kubernetes.ensure_chaos_namespace()
        image, pull_policy = self._kubernetes.toolbox_image()
        for number, node in enumerate(sorted({pod.node for pod in pods}), start=1):
            listed = [
                {"server": pod.server, "uid": pod.uid, "container": pod.container} | per_pod.get(pod.server, {})
                for pod in pods
                if pod.node == node
            ]
            manifest = self._manifest(number, node, orders | {"pods": listed}, image, pull_policy)
            try:
                self._kubernetes.core.create_namespaced_pod(self._namespace, manifest)
            except ApiException as error:
                raise ChaosError(describe(error)) from None
            injector = Injector(manifest["metadata"]["name"], self._namespace)
            self.started.append(injector)
            threading.Thread(target=self._follow, args=(injector,), daemon=True).start()
        self._await(
            lambda i: i.event("started") or i.event("refused") or i.over.is_set(), START_SECONDS, "to begin the fault"
        )
        for injector in self.started:
            if not injector.event("started"):
                refused = injector.event("refused") or {"reason": "it ended without a word"}
                raise ChaosError(f"{injector.name}: {refused['reason']}")

    def _manifest(self, number: int, node: str, orders: dict[str, Any], image: str, pull_policy: str) -> dict[str, Any]:
        return {
            "metadata": {
                "name": f"{self._id.lower()}-{number}",
                "labels": {"app.kubernetes.io/name": "shardmart-chaos", LABEL: self._id},
            },
            "spec": {
                "nodeName": node,  # not by the scheduler: a cordoned node has targets too
                "hostPID": True,
                "restartPolicy": "Never",
                "activeDeadlineSeconds": int(orders["duration_s"]) + START_SECONDS + MARGIN_SECONDS,
                "terminationGracePeriodSeconds": 15,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "tolerations": [{"operator": "Exists"}],
                "containers": [
                    {
                        "name": "injector",
                        "image": image,
                        "imagePullPolicy": pull_policy,
                        "command": ["python3", "-m", "shardmart.chaos.node"],
                        "env": [{"name": "ORDERS", "value": json.dumps(orders)}],
                        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                        "securityContext": {
                            "runAsUser": 0,
                            "runAsGroup": 0,
                            "runAsNonRoot": False,
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
                        },
                        "volumeMounts": [{"name": "run", "mountPath": "/run"}],
                    }
                ],
                "volumes": [{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
            },
        }

    def _follow(self, injector: Injector) -> None:
        """Read an injector's reports until its container has ended."""
        core = self._kubernetes.core
        end = time.monotonic() + START_SECONDS
        while not injector.over.is_set():
            try:
                log = core.read_namespaced_pod_log(
                    injector.name,
                    injector.namespace,
                    follow=True,
                    _preload_content=False,
                    _request_timeout=(10, FOLLOW_SECONDS),
                )
                for line in log:
                    with contextlib.suppress(ValueError):
                        injector.events.append(json.loads(line))
                injector.over.set()
            except (ApiException, HTTPError):
                # No log before the container has started: 400 from the API.
                if time.monotonic() > end or getattr(self._phase(injector), "phase", "Failed") == "Failed":
                    injector.over.set()
                time.sleep(0.1)

    def _phase(self, injector: Injector) -> Any:
        try:
            return self._kubernetes.core.read_namespaced_pod(injector.name, injector.namespace).status
        except ApiException:
            return None

    def _await(self, condition: Callable[[Injector], object], seconds: float, words: str) -> None:
        end = time.monotonic() + seconds
        while waiting := [i for i in self.started if not condition(i)]:
            if time.monotonic() > end:
                status = self._phase(waiting[0])
                why = (status.reason or status.message or status.phase) if status else "it is gone"
                raise ChaosError(f"waited {seconds:g} s for {waiting[0].name} {words}: {why}")
            time.sleep(0.05)

    def await_end(self, seconds: float) -> None:
        """Wait until every one has ended by itself; ChaosError after `seconds`."""
        self._await(lambda i: i.over.is_set(), seconds, "to end")

    def stop(self) -> bool:
        """Tell those that still run to undo the fault, wait until they have, and remove them, also those of an earlier
        process.  True when every one had begun and ended by itself: nothing is left to undo."""
        core = self._kubernetes.core
        try:
            found = core.list_namespaced_pod(self._namespace, label_selector=f"{LABEL}={self._id}").items
        except ApiException as error:
            raise ChaosError(describe(error)) from None
        clean = bool(found) and all(pod.status.phase in {"Running", "Succeeded"} for pod in found)
        for pod in found:
            self._kubernetes.delete(pod.metadata.name, self._namespace)
        end = time.monotonic() + START_SECONDS
        while core.list_namespaced_pod(self._namespace, label_selector=f"{LABEL}={self._id}").items:
            if time.monotonic() > end:
                raise ChaosError(f"waited {START_SECONDS} s for the pods of {self._id} to go")
            time.sleep(0.1)
        for injector in self.started:
            injector.over.wait(5)
        return clean

    def evidence(self) -> dict[str, Any]:
        """What they saw, summed over nodes."""
        total: dict[str, Any] = {}
        for injector in self.started:
            for key, value in ((injector.event("ended") or {}).get("evidence") or {}).items():
                total[key] = total.get(key, 0) + value
        return total
