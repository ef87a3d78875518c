"""`kubectl drain` of every node of three in turn never costs a set its majority. A cluster of its own, five minutes."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.kind_site import ROOT, KindSite

NAME = "shardmart-drain"
MEMBERS = "--selector=app.kubernetes.io/component in (config-server,shard)"
SET = "shardmart/replica-set"

pytestmark = [
    pytest.mark.timeout(1500),
    pytest.mark.skipif("SHARDMART_E2E_DRAIN" not in os.environ, reason="takes five minutes: set SHARDMART_E2E_DRAIN=1"),
]


@pytest.fixture
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindSite]:
    shard = {"name": "shard1ReplSet", "member_name": "shard1-{n}", "members": 3, "zones": ["APJ", "EMEA", "LATAM"]}
    site = KindSite(tmp_path_factory.mktemp("drain"), NAME, shards=[shard])
    site.destroy()
    try:
        # With Helm 3, as the other tests take site.yml through Helm 4.
        nodes = f"kind_cluster_config={ROOT}/k8s/kind/three-nodes.yaml"
        made = site.play("site.yml", "-e", nodes, "-e", "chart_helm=helm3")
        assert made.code == 0, made.output
        yield site
    finally:
        site.destroy()


class Watcher:
    """Counts, all the time, the members of each set that are ready and not about to go."""

    def __init__(self, site: KindSite) -> None:
        self.site = site
        self.fewest: dict[str, int] = {}
        self.samples = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                pods = self.site.get("pods", MEMBERS)
            except (AssertionError, subprocess.TimeoutExpired):
                continue  # the API server did not answer this once
            counts = {pod["metadata"]["labels"][SET]: 0 for pod in pods}
            for pod in pods:
                counts[pod["metadata"]["labels"][SET]] += serves(pod)
            self.fewest = {name: min(count, self.fewest.get(name, 99)) for name, count in counts.items()}
            self.samples += 1

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)


def serves(pod: dict[str, Any]) -> bool:
    """Whether the pod is ready and not about to go."""
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def test_draining_every_node_in_turn_keeps_every_majority(three_nodes: KindSite) -> None:
    site = three_nodes
    identities = site.identities()
    nodes = sorted(node["metadata"]["name"] for node in site.get("nodes"))
    assert len(nodes) == 3
    for name in identities:
        homes = {pod["spec"]["nodeName"] for pod in site.get("pods", f"--selector={SET}={name}")}
        assert homes == set(nodes), "the members of a set live on different nodes"
    for node in nodes:
        before = {pod["metadata"]["uid"] for pod in site.get("pods", MEMBERS) if pod["spec"].get("nodeName") == node}
        assert len(before) == 2
        with Watcher(site) as watcher:
            site.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=240s")
            site.kubectl("uncordon", node)
            site.wait_until_ready()
        assert not before & {pod["metadata"]["uid"] for pod in site.get("pods", MEMBERS)}, "they were evicted"
        assert watcher.samples > 10
        assert watcher.fewest == dict.fromkeys(identities, 2), f"{node}: {watcher.fewest}"
    site.assert_data_complete()
    assert site.identities() == identities
