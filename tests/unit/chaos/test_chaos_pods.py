"""Faults on pods: who is named, what the node does (on real processes), and what a pod that holds a fault may do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from shardmart.chaos import faults, inside, node, platforms, pod_faults, process_faults
from shardmart.chaos.errors import ChaosError
from shardmart.chaos.observation import InToolbox
from shardmart.chaos.pods import CAPABILITIES, Injectors, Pod
from shardmart.chaos.running import RunningExperiment
from shardmart.chaos.targets import Targets
from shardmart.chaos.toolbox import STOP_LINE, Release, Toolbox, last_line
from shardmart.platforms.state import State


def host(component: str, ordinal: int) -> str:
    return f"lab-{component}-{ordinal}.lab-{component}.shop.svc.cluster.local"


def members(component: str) -> list[dict[str, Any]]:
    return [{"name": f"{component}-{n}", "host": host(component, n), "port": 27017} for n in (1, 2, 3)]


@pytest.fixture
def targets(tmp_path: Path) -> Targets:
    cluster = {
        "name": "test",
        "platform": "kind",
        "config_servers": {"name": "configReplSet", "members": members("configsvr")},
        "shards": [{"name": "shard1ReplSet", "members": members("shard1")}],
        "routers": [{"name": "mongos1", "host": host("mongos", 1), "port": 27017}],
    }
    (tmp_path / "cluster.json").write_text(json.dumps(cluster))
    return Targets(State(tmp_path))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to be broken."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def orders(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Orders for a "pod" whose only process is the sleeper: without Kubernetes no cgroup is named after a pod."""
    monkeypatch.setattr(node, "processes_of", lambda uid, container=None: iter([sleeper.pid]))
    return {"duration_s": 0.3, "pods": [{"server": "shard1-1", "uid": "u", "container": "c"}]}


def test_release_is_read_from_the_addresses(targets: Targets) -> None:
    release = Release.of(targets.cluster)
    assert (release.name, release.namespace, release.chaos_namespace) == ("lab", "shop", "shop-chaos")


def test_toolbox_is_asked_with_the_kubeconfig_of_the_state_folder(targets: Targets) -> None:
    (targets.state.folder / "kubeconfig").touch()
    try:
        command = Toolbox.of(targets.state, targets.cluster).exec_command("true")
    except ChaosError as error:
        pytest.skip(str(error))
    assert f"--kubeconfig={targets.state.folder}/kubeconfig" in command
    assert command[-3:] == ["deploy/lab-toolbox", "--", "true"]


def test_platform_chooses_the_faults(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    assert platforms.kinds(targets)["kill"] is pod_faults.PodKill
    assert issubclass(platforms.kinds(targets)["stepdowns"], pod_faults.ThroughToolbox)
    monkeypatch.setattr(targets, "platform", "embedded")
    assert platforms.kinds(targets)["kill"] is process_faults.Kill
    assert platforms.kinds(targets)["stepdowns"] is faults.StepDowns


def test_inside_the_cluster_nothing_goes_through_the_toolbox(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert platforms.kinds(targets)["stepdowns"] is faults.StepDowns


def test_processes_have_no_node_to_drain(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "platform", "embedded")
    assert platforms.requirement(targets, "drain")


def pod(server: str, **details: Any) -> Pod:
    given = {"name": server, "uid": "u", "node": "n1", "address": "10.0.0.1", "container": "c", "ready": True}
    return Pod(**({"server": server, "waiting": "", "exit_code": None} | given | details))


def peers_of(targets: Targets, monkeypatch: pytest.MonkeyPatch, peers: list[str]) -> tuple[str, ...]:
    addresses = {server.name: f"10.0.0.{n}" for n, server in enumerate(targets.servers, start=1)}
    api = SimpleNamespace(pod=lambda server: pod(server.name, address=addresses[server.name]))
    monkeypatch.setattr(pod_faults, "Kubernetes", lambda of: api)
    fault = pod_faults.PodNetwork(targets, [targets.server("shard1-1")], 10, {"peers": peers})
    return fault._peer_addresses([pod("shard1-1")])


def test_peers_are_addresses(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peers_of(targets, monkeypatch, ["shard1-2", "shard1-3"]) == ("10.0.0.5", "10.0.0.6")


def test_target_is_no_peer_of_itself(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its own address is on every packet: as a peer it would cut the target off from everybody.
    given: dict[str, Any] = {"delay_ms": 0, "jitter_ms": 0, "loss": 1.0, "direction": "both", "seed": 0}
    api = SimpleNamespace(pod=lambda server: pod(server.name, address=f"10.0.0.{server.name[-1]}"))
    monkeypatch.setattr(pod_faults, "Kubernetes", lambda of: api)
    cut = pod_faults.PodNetwork(targets, [targets.server("shard1-1")], 10, given | {"peers": ["shard1-1", "shard1-2"]})
    _, per_pod = cut._orders([pod("shard1-1", address="10.0.0.1")])
    assert per_pod["shard1-1"]["fault"]["peer_addresses"] == ("10.0.0.2",)


def test_everybody_needs_no_address(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    assert peers_of(targets, monkeypatch, [*(s.name for s in targets.servers), "outside"]) == ()


def test_outside_alone_is_refused(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ChaosError, match="outside"):
        peers_of(targets, monkeypatch, ["outside"])


def test_pod_that_holds_a_fault_is_limited() -> None:
    release = Release("lab", "shop")
    injectors = Injectors(SimpleNamespace(release=release), "20261121T000000Z-kill-abc123")  # type: ignore[arg-type]
    spec = injectors._manifest(1, "n1", {"duration_s": 30}, "image", "IfNotPresent")["spec"]
    (container,) = spec["containers"]
    assert "privileged" not in container["securityContext"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": list(CAPABILITIES)}
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] > 30


def test_kill_is_a_sigkill_and_said_once_it_is_real(
    orders: dict[str, Any], sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    evidence = node.kill(orders, threading.Event())
    assert evidence["killed"] == 1
    assert sleeper.wait(5) == -signal.SIGKILL
    assert json.loads(capsys.readouterr().out.splitlines()[0])["event"] == "started"


def test_kill_waits_for_its_moment(orders: dict[str, Any], sleeper: subprocess.Popen[bytes]) -> None:
    moment = time.time() + 0.4
    node.kill(orders | {"at": moment, "duration_s": 0.01}, threading.Event())
    assert time.time() >= moment


def test_pause_stops_and_lets_go_at_its_deadline(
    orders: dict[str, Any], sleeper: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert node.pause(orders, threading.Event()) == {"stopped": 1, "stopped_until_the_end": 1}
    assert node.state(sleeper.pid) in {"R", "S"}


def test_pause_ends_when_it_is_told_to(orders: dict[str, Any], sleeper: subprocess.Popen[bytes]) -> None:
    stop = threading.Event()
    pausing = threading.Thread(target=node.pause, args=(orders | {"duration_s": 60}, stop))
    pausing.start()
    end = time.monotonic() + 10
    while node.state(sleeper.pid) != "T":
        assert time.monotonic() < end, "waited 10 s for the process to be stopped"
        time.sleep(0.01)
    stop.set()
    pausing.join(10)
    assert node.state(sleeper.pid) in {"R", "S"}


def test_server_that_does_not_run_is_named(orders: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "processes_of", lambda uid, container=None: iter(()))
    for kind in (node.kill, node.pause, node.network):
        with pytest.raises(node.NodeError, match="shard1-1"):
            kind(orders, threading.Event())


@pytest.mark.parametrize("text", [b"boom\ncommand terminated with exit code 3\n", b"boom\n", b"  boom \n\n"])
def test_last_word_is_not_what_kubectl_adds(text: bytes) -> None:
    assert last_line(text) == "boom"


@pytest.fixture
def answering(targets: Targets) -> Iterator[Callable[[], Any]]:
    """The toolbox's side of the stream, on this machine."""
    from shardmart.chaos.access import ToolboxAccess

    class Local:
        def __init__(self) -> None:
            self.started: list[subprocess.Popen[bytes]] = []

        def start(self, *words: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, *words[1:]]
            pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            environment = {"SHARDMART_STATE": str(targets.state.folder), "KUBERNETES_SERVICE_HOST": "here"}
            self.started.append(subprocess.Popen(command, env=environment, **pipes))
            return self.started[-1]

    local = Local()
    access = ToolboxAccess(local)  # type: ignore[arg-type]
    yield lambda: (access, local.started)
    access.close()


def test_stream_to_the_toolbox_is_opened_again_when_it_breaks(answering: Callable[[], Any]) -> None:
    access, started = answering()
    assert access.hello("127.0.0.1:9", 1) is None
    started[0].kill()
    started[0].wait()
    assert access.connect_ms("127.0.0.1:9", 1) is None
    assert len(started) == 2


def test_toolbox_ends_with_its_experimenter(answering: Callable[[], Any]) -> None:
    access, started = answering()
    access.hello("127.0.0.1:9", 1)
    started[0].stdin.close()
    assert started[0].wait(10) == 0


def test_what_a_fault_in_the_toolbox_saw_is_kept(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(self: Toolbox, *words: str) -> subprocess.Popen[bytes]:
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = {"SHARDMART_STATE": str(targets.state.folder), "KUBERNETES_SERVICE_HOST": "here"}
        return subprocess.Popen([sys.executable, *words[1:]], env=environment, **pipes)

    monkeypatch.setattr(Toolbox, "start", here)
    parameters = {"interval_s": 1.0, "id": "x"}
    fault = platforms.kinds(targets)["stepdowns"](targets, [targets.server("mongos1")], 60, parameters)
    fault.begin()
    fault.end()
    assert fault.evidence() == {"step_downs": 0}


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What the process in the toolbox was told."""
    return tmp_path / "said"


@pytest.fixture
def process(said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What stands for `kubectl exec`: it writes down what it reads, and ends when its input does."""
    running = subprocess.Popen(
        ["tee", str(said)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    yield running
    running.kill()
    running.wait()
    for pipe in (running.stdin, running.stdout, running.stderr):
        if pipe:
            pipe.close()


def test_observation_is_told_to_stop_before_its_input_ends(
    targets: Targets, process: subprocess.Popen[bytes], said: Path
) -> None:
    experiment = cast("RunningExperiment", SimpleNamespace(folder=said.parent))
    observation = InToolbox(targets, experiment, [])
    observation._process = process
    observation.stop()
    assert process.returncode == 0
    assert said.read_bytes() == STOP_LINE


def test_fault_is_told_to_stop_before_its_input_ends(
    targets: Targets, process: subprocess.Popen[bytes], said: Path
) -> None:
    fault = pod_faults.ThroughToolbox(targets, [], 60, {})
    fault._process = process
    fault.end()
    assert process.returncode == 0
    assert said.read_bytes() == STOP_LINE


@pytest.mark.parametrize("ending", [STOP_LINE, None], ids=["a line", "the end of input"])
def test_what_works_in_the_toolbox_stops_at(ending: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    stop = threading.Event()
    with os.fdopen(reading) as commands, os.fdopen(writing, "wb", buffering=0) as teller:
        monkeypatch.setattr(sys, "stdin", commands)
        waiter = threading.Thread(target=inside._until_told, args=(stop,))
        waiter.start()
        assert not stop.is_set()
        if ending is None:
            teller.close()
        else:
            teller.write(ending)
        assert stop.wait(10), "it was told and went on"
        waiter.join()
