"""A state folder that describes a cluster of pods, none of which runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardmart.chaos.targets.selectors import Targets
from shardmart.platforms.state import State


def node(component: str, name: str, ordinal: int) -> dict[str, Any]:
    workload = f"lab-{component}"
    pod = {"name": f"{workload}-{ordinal}", "workload": workload, "namespace": "shop"}
    host = f"{pod['name']}.{workload}.shop.svc.cluster.local"
    return {"name": name, "host": host, "port": 27017, "pod": pod}


def members(component: str) -> list[dict[str, Any]]:
    return [node(component, f"{component}-{n}", n) for n in (1, 2, 3)]


@pytest.fixture
def pod_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Targets:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    cluster = {
        "version": 2,
        "name": "lab",
        "platform": "kubernetes",
        "kubernetes": {"release": "lab", "namespace": "shop", "toolbox": "lab-toolbox"},
        "config_servers": {"name": "configReplSet", "members": members("configsvr")},
        "shards": [{"name": "shard1ReplSet", "members": members("shard1")}],
        "routers": [node("mongos", "mongos1", 1)],
    }
    (tmp_path / "pods").mkdir()
    (tmp_path / "pods" / "cluster.json").write_text(json.dumps(cluster))
    return Targets(State(tmp_path / "pods"))
