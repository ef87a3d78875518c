"""Faults on pods: which kinds there are, who is named, and what a pod that holds a fault may do."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
from pod_cluster import pod_targets

from shardmart.chaos.errors import ChaosError, ImpossibleError
from shardmart.chaos.faults import database, injectors, kinds, pods, processes, through_toolbox
from shardmart.chaos.targets.kubernetes import KubernetesApi, Pod
from shardmart.chaos.targets.selectors import Targets

__all__ = ["pod_targets"]  # the fixture


def test_pods_have_faults_of_their_own(pod_targets: Targets) -> None:
    assert kinds.kind_of(pod_targets, "kill") is pods.PodKill
    assert issubclass(kinds.kind_of(pod_targets, "stepdowns"), through_toolbox.ThroughToolbox)


def test_processes_have_faults_of_their_own(targets: Targets) -> None:
    assert kinds.kind_of(targets, "kill") is processes.Kill
    assert kinds.kind_of(targets, "stepdowns") is database.StepDowns


def test_inside_the_cluster_nothing_goes_through_the_toolbox(
    pod_targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert kinds.kind_of(Targets(pod_targets.state), "stepdowns") is database.StepDowns


def test_processes_have_no_node_to_drain(targets: Targets) -> None:
    assert kinds.requirement(targets, "drain") == "processes of one machine have no node to drain"
    with pytest.raises(ImpossibleError, match="no node to drain"):
        kinds.kind_of(targets, "drain")


def test_pods_have_no_slow_disk(pod_targets: Targets) -> None:
    assert "the kubelet's" in str(kinds.requirement(pod_targets, "slowdisk"))


def test_pods_that_hold_faults_have_a_namespace_of_their_own(
    pod_targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(pod_targets.platform), "api", lambda self: None)
    assert KubernetesApi(pod_targets).chaos_namespace == "shop-chaos"


def pod(server: str, **details: Any) -> Pod:
    given = {"name": server, "uid": "u", "node": "n1", "address": "10.0.0.1", "container": "c", "ready": True}
    return Pod(**({"server": server, "waiting": "", "exit_code": None} | given | details))


def peers_of(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch, peers: list[str]) -> tuple[str, ...]:
    addresses = {server.name: f"10.0.0.{n}" for n, server in enumerate(pod_targets.servers, start=1)}
    api = SimpleNamespace(pod=lambda server: pod(server.name, address=addresses[server.name]))
    monkeypatch.setattr(pods, "KubernetesApi", lambda of: api)
    fault = pods.PodNetwork(pod_targets, [pod_targets.server("shard1-1")], 10, {"peers": peers})
    return fault._peer_addresses([pod("shard1-1")])


def test_peers_are_addresses(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peers_of(pod_targets, monkeypatch, ["shard1-2", "shard1-3"]) == ("10.0.0.5", "10.0.0.6")


def test_target_is_no_peer_of_itself(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its own address is on every packet: as a peer it would cut the target off from everybody.
    given: dict[str, Any] = {"delay_ms": 0, "jitter_ms": 0, "loss": 1.0, "direction": "both", "seed": 0}
    api = SimpleNamespace(pod=lambda server: pod(server.name, address=f"10.0.0.{server.name[-1]}"))
    monkeypatch.setattr(pods, "KubernetesApi", lambda of: api)
    cut = pods.PodNetwork(
        pod_targets, [pod_targets.server("shard1-1")], 10, given | {"peers": ["shard1-1", "shard1-2"]}
    )
    _, per_pod = cut._orders([pod("shard1-1", address="10.0.0.1")])
    assert per_pod["shard1-1"]["fault"]["peer_addresses"] == ("10.0.0.2",)


def test_everybody_needs_no_address(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peers_of(pod_targets, monkeypatch, [*(s.name for s in pod_targets.servers), "outside"]) == ()


def test_outside_alone_is_refused(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ChaosError, match="outside"):
        peers_of(pod_targets, monkeypatch, ["outside"])


def test_pod_that_holds_a_fault_is_limited() -> None:
    api = SimpleNamespace(chaos_namespace="shop-chaos")
    made = injectors.Injectors(api, "20261121T000000Z-kill-abc123")  # type: ignore[arg-type]
    spec = made._manifest(1, "n1", {"duration_s": 30}, "image", "IfNotPresent")["spec"]
    (container,) = spec["containers"]
    assert "privileged" not in container["securityContext"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": list(injectors.CAPABILITIES)}
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > 30
    # What runs there has to be found in the image, which is made of this package.
    assert importlib.util.find_spec(container["command"][-1])


@pytest.fixture
def killed(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch) -> dict[str, Pod | None]:
    """The pods of a kill, as the API shows them one after the other; the fault's own pods are never there."""
    shown: dict[str, Pod | None] = {"shard1-1": pod("shard1-1")}
    core = SimpleNamespace(list_namespaced_pod=lambda namespace, label_selector: SimpleNamespace(items=[]))
    api = SimpleNamespace(
        core=core,
        release=SimpleNamespace(namespace="shop"),
        chaos_namespace="shop-chaos",
        pod=lambda server: shown[server.name],
        pods=lambda servers: [shown[server.name] for server in servers],
    )
    monkeypatch.setattr(pods, "KubernetesApi", lambda of: api)
    return shown


def kill_of(targets: Targets, **parameters: Any) -> pods.PodKill:
    return pods.PodKill(targets, [targets.server("shard1-1")], 1, {"id": "k", "how": "delete"} | parameters)


def test_deleted_pod_is_awaited(
    pod_targets: Targets, killed: dict[str, Pod | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaosk8s.pod.actions.terminate_pods", lambda **_: ["shard1-1"])
    monkeypatch.setattr(pods, "RESTART_SECONDS", 0.3)
    kill = kill_of(pod_targets)
    kill.prepare()
    kill.begin()
    assert kill.is_gone() is False
    with pytest.raises(ChaosError, match=r"waited 0.3 s for shard1-1 to run again"):
        kill.end()
    killed["shard1-1"] = None
    assert kill.is_gone() is True
    killed["shard1-1"] = pod("shard1-1", container="new", exit_code=137)
    assert kill.is_gone() is True
    kill.end()
    assert kill.evidence() == {"exit_codes": {"shard1-1": 137}, "replaced": []}


def test_kill_whose_guard_died_before_it_knew_is_over_once_the_server_runs(
    pod_targets: Targets, killed: dict[str, Pod | None]
) -> None:
    first = kill_of(pod_targets)
    first.prepare()
    kill_of(pod_targets, **first.parameters).end()
