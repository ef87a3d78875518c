"""How what works in the toolbox is told to stop.  The pod is a process of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from chaos import inside
from chaos.observation import InToolbox
from chaos.pod_faults import ThroughToolbox
from chaos.running import RunningExperiment
from chaos.targets import Targets
from chaos.toolbox import STOP_LINE
from shardmart.state import State


@pytest.fixture
def targets(tmp_path: Path) -> Targets:
    router = {"name": "mongos1", "host": "lab-mongos-1.lab-mongos.shop.svc.cluster.local", "port": 27017}
    description = {
        "platform": "kind",
        "config_servers": {"name": "configReplSet", "members": []},
        "shards": [],
        "routers": [router],
    }
    (tmp_path / "cluster.json").write_text(json.dumps(description))
    return Targets(State(tmp_path))


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
    fault = ThroughToolbox(targets, [], 60, {})
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
