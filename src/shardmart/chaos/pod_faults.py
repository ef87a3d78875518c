"""Faults of the platform kind: members and routers are pods.

`chaos.platforms` offers them.  What must be done on a node is done by `chaos.node` in a pod that `chaos.pods` starts;
what only needs a way to the servers runs in the toolbox (`chaos.inside`).  Whoever holds a fault holds its deadline
too: kill this process with -9, and pods and toolbox end the fault by themselves.  Only a cordoned node stays so, until
`shardmart chaos heal`.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import threading
import time
from dataclasses import asdict
from typing import Any, ClassVar

from kubernetes.client.exceptions import ApiException

from .errors import ChaosError
from .faults import ChunkMoves, Connections, Fault, Nothing, StepDowns
from .packets.injector import NetworkFault
from .pods import Injectors, Kubernetes, Pod, describe
from .targets import OUTSIDE, Server
from .toolbox import STOP_LINE, Toolbox, last_words

RESTART_SECONDS = 120
GOING_SECONDS = 30
DRAIN_SECONDS = 180
LEAD_SECONDS = 4
"""Kills on several nodes happen at one moment, this long after the pods that do it were asked for."""


class PodFault(Fault):
    """A fault that pods on the nodes hold."""

    kind: ClassVar[str]
    _injectors: Injectors | None = None

    def _orders(self, pods: list[Pod]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """What the injectors are told: all of them, and for each server."""
        del pods
        return {"kind": self.kind}, {}

    def begin(self) -> None:
        """Start the injectors."""
        kubernetes = Kubernetes(self.targets)
        pods = kubernetes.pods(self.servers)
        self.parameters["before"] = {pod.server: asdict(pod) for pod in pods}
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
        kubernetes = Kubernetes(self.targets)
        injectors = self._injectors or Injectors(kubernetes, self.parameters["id"])
        clean = injectors.stop()
        if not clean and "via" in self.parameters:  # without it the fault was refused, and nothing is left
            self._undo(kubernetes)

    def _undo(self, kubernetes: Kubernetes) -> None:
        """Undo what an injector left that was killed before it could end; nothing by default."""

    def _afterwards(self, kubernetes: Kubernetes, kind: str) -> None:
        """Have the nodes do `kind` for the targets that run."""
        pods = [pod for server in self.servers if (pod := kubernetes.pod(server)) and pod.container]
        if pods:
            helper = Injectors(kubernetes, f"{self.parameters['id']}-{kind}")
            helper.start(pods, {"kind": kind, "duration_s": 1}, {})
            helper.await_end(GOING_SECONDS)
            helper.stop()

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

    def _undo(self, kubernetes: Kubernetes) -> None:
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
        kubernetes = Kubernetes(self.targets)
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

        kubernetes = Kubernetes(self.targets)
        pods = kubernetes.pods(self.servers)
        self.parameters["before"] = {pod.server: asdict(pod) for pod in pods}
        self.parameters["via"] = "terminate_pods of chaostoolkit-kubernetes, grace 0"
        self._injectors = Injectors(kubernetes, self.parameters["id"])
        self.begun = time.time()
        pattern = "|".join(f"^{pod.name}$" for pod in pods)
        gone = terminate_pods(name_pattern=pattern, all=True, grace_period=0, ns=kubernetes.release.namespace)
        self.parameters["deleted"] = sorted(gone)

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
        if "via" not in self.parameters:  # refused before anything was killed
            return
        kubernetes = Kubernetes(self.targets)
        exit_codes: dict[str, int] = {}
        replaced: list[str] = []
        end = time.monotonic() + RESTART_SECONDS
        waiting = list(self.servers)
        while waiting:
            for server in list(waiting):
                pod = kubernetes.pod(server)
                if pod and pod.exit_code is not None:
                    exit_codes[server.name] = pod.exit_code
                if pod and pod.container and pod.container != self._before(server).get("container"):
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

    def _before(self, server: Server) -> dict[str, Any]:
        found: dict[str, Any] = self.parameters.get("before", {}).get(server.name, {})
        return found


class PodPause(PodFault):
    """SIGSTOP from the node; the liveness probe would end it after two minutes, so a pause is shorter than that."""

    kind = "pause"

    def _undo(self, kubernetes: Kubernetes) -> None:
        """Let processes go on whose injector was killed while it held them."""
        self._afterwards(kubernetes, "continue")


class Drain(Fault):
    """Cordon the node of the first target that is not beside the toolbox, where the workload runs, and evict what runs
    there (drain_nodes of chaostoolkit-kubernetes).

    The disruption budgets decide how fast pods
    go; volumes of the node stay there, so its members wait for it.
    """

    kind = "drain"

    def begin(self) -> None:
        """Choose the node and cordon it.  Raises ChaosError when none may be drained."""
        from chaosk8s.node.actions import cordon_node  # type: ignore[import-untyped]

        kubernetes = Kubernetes(self.targets)
        core, release = kubernetes.core, kubernetes.release
        if len(core.list_node().items) < 2:
            raise ChaosError("drain-node needs a second node: -e kind_cluster_config=k8s/kind/three-nodes.yaml")
        component = "app.kubernetes.io/component=toolbox"
        toolbox = core.list_namespaced_pod(release.namespace, label_selector=component).items
        taken = {pod.spec.node_name for pod in toolbox}
        node = next((pod.node for pod in kubernetes.pods(self.servers) if pod.node not in taken), None)
        if node is None:
            raise ChaosError(f"every target is on {', '.join(sorted(taken))}, beside the toolbox")
        self.parameters |= {"node": node, "via": "drain_nodes of chaostoolkit-kubernetes"}
        self.begun = time.time()
        cordon_node(name=node)

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """Evict, then keep the node empty."""
        from chaosk8s.node.actions import drain_nodes
        from chaoslib.exceptions import ActivityFailed  # type: ignore[import-untyped]

        Kubernetes(self.targets)
        try:
            drain_nodes(name=self.parameters["node"], delete_pods_with_local_storage=True, timeout=DRAIN_SECONDS)
        except ActivityFailed as error:
            raise ChaosError(" ".join(str(error).split())) from None
        super().hold(stop, deadline)

    def end(self) -> None:
        """Uncordon."""
        if node := self.parameters.get("node"):
            kubernetes = Kubernetes(self.targets)
            try:
                kubernetes.core.patch_node(node, {"spec": {"unschedulable": False}})
            except ApiException as error:
                raise ChaosError(describe(error)) from None


class ThroughToolbox(Fault):
    """A fault that needs only a way to the servers: the same class as on the embedded platform, run in the toolbox."""

    _process: subprocess.Popen[bytes] | None = None
    _seen: dict[str, Any] | None = None

    def begin(self) -> None:
        """Start it there.  Its standard input is its stop button: it ends when this process does."""
        self._process = Toolbox.of(self.targets.state, self.targets.cluster).start(
            "python3", "-m", "shardmart.chaos.inside", "hold"
        )
        orders = {
            "kind": self.kind,
            "servers": [server.name for server in self.servers],
            "duration_s": self.duration_s,
            "parameters": self.parameters,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(orders).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"event": "died"}
        if answer["event"] != "started":
            self._process.stdin.close()
            self._process.wait(GOING_SECONDS)
            raise ChaosError(answer.get("reason") or last_words(self._process) or "the toolbox does not answer")
        self.parameters |= answer["parameters"] | {"via": "the toolbox"}

    def hold(self, stop: threading.Event, deadline: float) -> None:
        """It holds itself; wait until it says what it saw."""
        assert self._process
        while not stop.wait(0.1) and self._process.poll() is None and time.monotonic() < deadline + GOING_SECONDS:
            continue

    def end(self) -> None:
        """End it and keep what it saw."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            longest = GOING_SECONDS + math.ceil(self.parameters.get("interval_s", 0))
            output, _ = process.communicate(STOP_LINE, timeout=longest)
        except (subprocess.TimeoutExpired, ValueError):
            process.kill()
            return
        for line in output.splitlines():
            with contextlib.suppress(ValueError):
                self._seen = (self._seen or {}) | json.loads(line).get("evidence", {})

    def evidence(self) -> dict[str, Any]:
        """What it saw."""
        return self._seen or {}


def _through_toolbox(fault: type[Fault]) -> type[Fault]:
    return type(f"{fault.__name__}ThroughToolbox", (ThroughToolbox,), {"kind": fault.kind, "__doc__": fault.__doc__})


KINDS: dict[str, type[Fault]] = {fault.kind: fault for fault in (PodNetwork, PodKill, PodPause, Drain)}
THROUGH_TOOLBOX: dict[str, type[Fault]] = {
    fault.kind: _through_toolbox(fault) for fault in (Connections, StepDowns, ChunkMoves)
} | {Nothing.kind: Nothing}
