"""The programs that run elsewhere: on a node (here on real processes), and in the toolbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pod_cluster import pod_targets

from shardmart.chaos.agents import node, toolbox
from shardmart.chaos.faults import kinds, through_toolbox
from shardmart.chaos.lifecycle.running import RunningExperiment
from shardmart.chaos.observation.workload import InToolbox
from shardmart.chaos.targets.access import ToolboxAccess
from shardmart.chaos.targets.selectors import AGENT, Targets
from shardmart.platforms.kubernetes import KubernetesPlatform
from shardmart.platforms.platform import STOP_LINE

__all__ = ["pod_targets"]  # the fixture


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
    assert node.state(sleeper.pid) != "T"


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
    assert node.state(sleeper.pid) != "T"


def test_server_that_does_not_run_is_named(orders: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "processes_of", lambda uid, container=None: iter(()))
    for kind in (node.kill, node.pause, node.network):
        with pytest.raises(node.NodeError, match="shard1-1"):
            kind(orders, threading.Event())


def beside(state: Path, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """The toolbox's side of a stream, on this machine."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {"SHARDMART_STATE": str(state), "KUBERNETES_SERVICE_HOST": "here"}
    return subprocess.Popen([sys.executable, *command[1:]], env=environment, **pipes)


@pytest.fixture
def started(pod_targets: Targets) -> list[subprocess.Popen[bytes]]:
    """The processes that `access` has started."""
    return []


@pytest.fixture
def access(pod_targets: Targets, started: list[subprocess.Popen[bytes]]) -> Iterator[ToolboxAccess]:
    """The way through a toolbox that is on this machine."""

    def start() -> subprocess.Popen[bytes]:
        started.append(beside(pod_targets.state.folder, ["python3", "-m", AGENT, "answer"]))
        return started[-1]

    made = ToolboxAccess(start)
    yield made
    made.close()


def test_stream_to_the_toolbox_is_opened_again_when_it_breaks(
    access: ToolboxAccess, started: list[subprocess.Popen[bytes]]
) -> None:
    assert access.hello("127.0.0.1:9", 1) is None
    started[0].kill()
    started[0].wait()
    assert access.connect_ms("127.0.0.1:9", 1) is None
    assert len(started) == 2


def test_toolbox_ends_with_its_experimenter(access: ToolboxAccess, started: list[subprocess.Popen[bytes]]) -> None:
    access.hello("127.0.0.1:9", 1)
    assert started[0].stdin
    started[0].stdin.close()
    assert started[0].wait(10) == 0


def test_what_a_fault_in_the_toolbox_saw_is_kept(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KubernetesPlatform, "spawn", lambda self, command: beside(pod_targets.state.folder, command))
    parameters = {"interval_s": 1.0, "id": "x"}
    fault = kinds.kind_of(pod_targets, "stepdowns")(pod_targets, [pod_targets.server("mongos1")], 60, parameters)
    fault.prepare()
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
    pod_targets: Targets, process: subprocess.Popen[bytes], said: Path
) -> None:
    experiment = cast("RunningExperiment", SimpleNamespace(folder=said.parent))
    observation = InToolbox(pod_targets, experiment, [], watch=True)
    observation._process = process
    observation.stop()
    assert process.returncode == 0
    assert said.read_bytes() == STOP_LINE


def test_fault_is_told_to_stop_before_its_input_ends(
    pod_targets: Targets, process: subprocess.Popen[bytes], said: Path
) -> None:
    fault = through_toolbox.ThroughToolbox(pod_targets, [], 60, {})
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
        waiter = threading.Thread(target=toolbox._until_told, args=(stop,))
        waiter.start()
        assert not stop.is_set()
        if ending is None:
            teller.close()
        else:
            teller.write(ending)
        assert stop.wait(10), "it was told and went on"
        waiter.join()
