"""A state folder that describes a cluster of pods, none of which runs, and a shop whose pods the API shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardmart.chaos.targets.selectors import Targets
from shardmart.cluster.shop import Backends, Instance, Service, Shop
from shardmart.platforms.kubernetes import KubernetesPlatform
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


def part(name: str, port: int) -> Instance:
    return Instance(name, f"lab-shop-{name}.shop.svc.cluster.local", port)


PARTS = (part("order", 3001), part("payment", 3003))
SHOP = Shop(
    tuple(Service(one.name, one.host, one.port, (one,)) for one in PARTS), Backends(), cache=part("cache", 6379)
)


def behind(component: str) -> dict[str, Any]:
    """The Service of a part of the shop."""
    selector = {"app.kubernetes.io/instance": "lab-shop", "app.kubernetes.io/component": component}
    return {"kind": "Service", "metadata": {"name": f"lab-shop-{component}"}, "spec": {"selector": selector}}


def shop_pod(component: str, suffix: str, created: str, address: str, **metadata: Any) -> dict[str, Any]:
    labels = behind(component)["spec"]["selector"] | {"pod-template-hash": "1"}
    name = f"lab-shop-{component}-{suffix}"
    about = {"name": name, "namespace": "shop", "labels": labels, "creationTimestamp": created}
    return {"kind": "Pod", "metadata": about | metadata, "status": {"phase": "Running", "podIP": address}}


OBJECTS = [
    *(behind(component) for component in ("order", "payment", "cache")),
    shop_pod("order", "new", "2026-11-29T12:00:05Z", "10.0.1.2"),
    shop_pod("order", "old", "2026-11-29T12:00:00Z", "10.0.1.1"),
    shop_pod("order", "gone", "2026-11-29T11:00:00Z", "10.0.1.3", deletionTimestamp="2026-11-29T12:00:06Z"),
    shop_pod("cache", "a", "2026-11-29T12:00:00Z", "10.0.1.9"),
]


@pytest.fixture
def shop_pods(pod_targets: Targets, monkeypatch: pytest.MonkeyPatch) -> Targets:
    """The same cluster with a shop beside it: two orders, a cache, and no payment at the moment."""
    monkeypatch.setattr(KubernetesPlatform, "_objects", lambda self, kinds: OBJECTS)
    (pod_targets.state.folder / "cluster.json").write_text(replace(pod_targets.cluster, shop=SHOP).dumps())
    return Targets(pod_targets.state)
