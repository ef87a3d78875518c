"""Faults on the pods of members and routers: what must be done on a node is done by a pod that is started there.

Whoever holds a fault holds its deadline too: kill this process with -9, and the pods end the fault by themselves.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

from shardmart.cluster.description import Node
from shardmart.platforms.kubernetes import pod_of

from ..errors import ChaosError
from ..packets.injector import NetworkFault
from ..targets.kubernetes import KubernetesApi, Pod
from ..targets.selectors import OUTSIDE
from .fault import Fault
from .injectors import START_SECONDS, Injectors

RESTART_SECONDS = 120
GOING_SECONDS = 30
LEAD_SECONDS = 4
"""Kills on several nodes happen at one moment, this long after the pods that do it were asked for."""


class PodFault(Fault):
    """A fault that pods on the nodes hold."""

    begin_seconds = START_SECONDS + LEAD_SECONDS + 30
    _injectors: Injectors | None = None

    @cached_property
    def _api(self) -> KubernetesApi:
        return KubernetesApi(self.targets)

    def _orders(self, pods: list[Pod]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """What the injectors are told: all of them, and for each server."""
        del pods
        return {"kind": self.kind}, {}

    def prepare(self) -> None:
        """Note the pods as they are now."""
        pods = self._api.pods(self.servers)
        self._orders(pods)  # raises what can be known before a pod is started
        self.parameters["before"] = {pod.server: asdict(pod) for pod in pods}

    def begin(self) -> None:
        """Start the injectors."""
        kubernetes = self._api
        pods = kubernetes.pods(self.servers)
        orders, per_pod = self._orders(pods)
        self._injectors = Injectors(kubernetes, self.parameters["id"])
        self._injectors.start(pods, orders | {"duration_s": self.duration_s}, per_pod)
        reports = [report for i in self._injectors.started if (report := i.event("started"))]
        self.begun = min(report["began"] for report in reports)
        self.parameters["via"] = reports[0]["via"]

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """They hold it; wait until they say that it is over."""
        assert self._injectors
        while not stop.wait(0.1) and not all(i.over.is_set() for i in self._injectors.started):
            if time.monotonic() > deadline + GOING_SECONDS:
                break

    def end(self) -> None:
        """Tell the injectors to end; undo what a dead one could not."""
        if self._injectors is not None and not self._injectors.started:
            return
        kubernetes = self._api
        injectors = self._injectors or Injectors(kubernetes, self.parameters["id"])
        if not injectors.stop() and not self._refused:
            self._undo(kubernetes)

    @property
    def _refused(self) -> bool:
        """Whether nothing became of it; another process than the one that began it does not know."""
        return self._injectors is not None and self._injectors.refused

    def _undo(self, kubernetes: KubernetesApi) -> None:
        """Undo what an injector left that was killed before it could end; nothing by default."""

    def _afterwards(self, kubernetes: KubernetesApi, kind: str) -> None:
        """Have the nodes do `kind` for the targets that run."""
        pods = [pod for server in self._hit if (pod := kubernetes.pod(server)) and pod.container]
        if pods:
            helper = Injectors(kubernetes, f"{self.parameters['id']}-{kind}")
            helper.start(pods, {"kind": kind, "duration_s": 1}, {})
            helper.await_end(GOING_SECONDS)
            helper.stop()

    @property
    def _hit(self) -> list[Node]:
        """The targets with the pods that they had before: another pod of a service may bear the name by now."""
        before = self.parameters["before"]
        pods = {server.name: replace(pod_of(server), name=before[server.name]["name"]) for server in self.servers}
        return [replace(server, pod=pods[server.name]) for server in self.servers]

    def evidence(self) -> dict[str, Any]:
        """What the injectors counted."""
        return self._injectors.evidence() if self._injectors else {}


class PodNetwork(PodFault):
    """Delay, jitter, loss or partition in the pods' own network namespaces (see `chaos.packets`)."""

    kind = "network"

    def _orders(self, pods: list[Pod]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """One injector per pod; its peers are addresses."""
        peers = self._peer_addresses(pods)
        given = {key: self.parameters[key] for key in ("delay_ms", "jitter_ms", "loss", "direction", "seed")}

        def fault(pod: Pod) -> dict[str, Any]:
            # A target is no peer of itself: its own address is on every packet.
            others = tuple(address for address in peers if address != pod.address)
            if peers and not others:
                raise ChaosError(f"{pod.server} has no peer but itself")
            return asdict(NetworkFault(duration_s=self.duration_s, peer_addresses=others, **given))

        return {"kind": self.kind}, {pod.server: {"fault": fault(pod)} for pod in pods}

    def _undo(self, kubernetes: KubernetesApi) -> None:
        """Rules let packets pass once nobody serves their queue, but netem would go on."""
        self._afterwards(kubernetes, "clear")

    def _peer_addresses(self, pods: list[Pod]) -> tuple[str, ...]:
        """Addresses of the peers now; empty means everybody.  A pod that is replaced meanwhile gets a new one."""
        peers = set(self.parameters["peers"])
        others = {server.name for server in self.targets.servers} - {pod.server for pod in pods}
        if OUTSIDE in peers:
            if not others <= peers:
                raise ChaosError("peers: on pods `outside` goes only with everybody else (`all`)")
            return ()
        kubernetes = self._api
        found = [kubernetes.pod(self.targets.server(name)) for name in sorted(peers)]
        return tuple(pod.address for pod in found if pod and pod.address)


class PodKill(PodFault):
    """SIGKILL of the servers' processes, on all nodes at one moment, or deletion of their pods without grace.

    `how` = "sigkill": a crash; the kubelet starts the container again at once, and for `duration_s` every new process
    is killed too.  `how` = "delete": terminate_pods of chaostoolkit-kubernetes with grace 0, which is SIGTERM and two
    seconds for the process, and a new pod.
    """

    kind = "kill"

    def begin(self) -> None:
        """Kill."""
        if self.parameters.get("how", "sigkill") == "sigkill":
            super().begin()
            return
        from chaosk8s.pod.actions import terminate_pods  # type: ignore[import-untyped]

        kubernetes = self._api
        pods = kubernetes.pods(self.servers)
        self.begun = time.time()
        pattern = "|".join(f"^{pod.name}$" for pod in pods)
        gone = terminate_pods(name_pattern=pattern, all=True, grace_period=0, ns=kubernetes.release.namespace)
        self.parameters |= {"deleted": sorted(gone), "via": "terminate_pods of chaostoolkit-kubernetes, grace 0"}

    def _orders(self, pods: list[Pod]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """At one moment, if there is more than one node."""
        several = len({pod.node for pod in pods}) > 1
        return {"kind": self.kind, "at": time.time() + LEAD_SECONDS if several else 0.0}, {}

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Deleted pods are brought back by Kubernetes; there is nothing to hold."""
        if self._injectors and self._injectors.started:
            super().hold(stop, deadline)
        else:
            stop.wait(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Wait until every server runs again; a container in crash back-off gets a new pod, or that takes minutes."""
        super().end()
        if self._refused:
            return
        killed = "via" in self.parameters  # else nobody knows: then it is enough that every server runs
        kubernetes = self._api
        exit_codes: dict[str, int] = {}
        replaced: list[str] = []
        end = time.monotonic() + RESTART_SECONDS
        waiting = self._hit
        while waiting:
            for server in list(waiting):
                pod = kubernetes.pod(server)
                if pod and pod.exit_code is not None:
                    exit_codes[server.name] = pod.exit_code
                runs = pod and pod.container and not (killed and pod.container == self._before(server))
                if runs or (pod is None and kubernetes.serves_without(server)):
                    waiting.remove(server)
                elif pod and pod.waiting == "CrashLoopBackOff":
                    replaced.append(server.name)
                    kubernetes.delete(pod.name, kubernetes.release.namespace, grace_seconds=0)
            if waiting and time.monotonic() > end:
                names = ", ".join(server.name for server in waiting)
                raise ChaosError(f"waited {RESTART_SECONDS} s for {names} to run again")
            time.sleep(0.2 if waiting else 0)
        self.parameters |= {"exit_codes": exit_codes, "replaced": replaced}

    def evidence(self) -> dict[str, Any]:
        """How many processes were killed, with which exit code Kubernetes saw containers end (137 is SIGKILL), and who
        could not start again without a new pod."""
        return super().evidence() | {key: self.parameters.get(key) for key in ("exit_codes", "replaced")}

    def is_gone(self) -> bool:
        """See Fault; another container, or none, has taken the place of each."""
        now = [(server, self._api.pod(server)) for server in self._hit]
        return all(pod is None or pod.container != self._before(server) for server, pod in now)

    def _before(self, server: Node) -> str | None:
        """The container that was there before."""
        found: str | None = self.parameters["before"].get(server.name, {}).get("container")
        return found


class PodPause(PodFault):
    """SIGSTOP from the node; the liveness probe would end it after two minutes, so a pause is shorter than that."""

    kind = "pause"

    def is_stopped(self) -> bool:
        """See Fault; the node saw it before the injector said that it had begun."""
        return "via" in self.parameters

    def _undo(self, kubernetes: KubernetesApi) -> None:
        """Let processes go on whose injector was killed while it held them."""
        self._afterwards(kubernetes, "continue")
