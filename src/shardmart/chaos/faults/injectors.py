"""The pods that hold a fault: one on each node that has a target, for the time of the fault.

Such a pod (an injector) runs `shardmart.chaos.agents.node` on the node of its targets, in the namespace
NAMESPACE-chaos, which may hold privileged pods; the database's namespace stays "restricted" (docs/decisions/045).  It
has no service account and ends by itself.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from ..errors import ChaosError
from ..targets.kubernetes import KubernetesApi, Pod, describe

START_SECONDS = 50
FOLLOW_SECONDS = 4000
AGENT = ["python3", "-m", "shardmart.chaos.agents.node"]
LABEL = "shardmart/fault"
CAPABILITIES = ("KILL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_NICE", "SYS_PTRACE")
"""KILL: signals to another user's process. SYS_PTRACE, SYS_ADMIN: to enter its network namespace; NET_*: what is done
there. SYS_NICE: packets wait for the injector, so it goes first."""
MARGIN_SECONDS = 60
"""A pod that holds a fault is killed this long after it should have ended."""


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

    def __init__(self, kubernetes: KubernetesApi, fault_id: str) -> None:
        self._kubernetes = kubernetes
        self._id = fault_id
        self._namespace = kubernetes.chaos_namespace
        self.started: list[Injector] = []

    @property
    def refused(self) -> bool:
        """Whether every one that was started said that it cannot hold the fault: then nothing is left of it."""
        return all(injector.event("refused") for injector in self.started)

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
                        "command": AGENT,
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
