"""`inventories/kubernetes`: a release in a Kubernetes that is there and no other, whatever the environment says.

The Kubernetes is the session's kind cluster, which another release lives in; to this inventory it is somebody's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
import yaml

from tests.support.kind_site import ROOT, KindSite, Made
from tests.support.modules import run_module

NAME = "shardmart-given"
OURS = "shardmart/made-by=site.yml"


class Decoy:
    """An API server of somebody else: it counts who calls."""

    def __init__(self) -> None:
        asked: list[bytes] = []
        self.asked = asked

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                asked.append(self.request.recv(200))

        self.server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def kubeconfig(self, file: Path) -> Path:
        """A kubeconfig whose every context leads here, the one of the given cluster's name too."""
        cluster = {"name": "decoy", "cluster": {"server": self.url}}
        contexts = [
            {"name": name, "context": {"cluster": "decoy", "user": "nobody"}}
            for name in ("decoy", "kind-shardmart-e2e")
        ]
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1", "kind": "Config", "current-context": "decoy",
                    "clusters": [cluster], "contexts": contexts, "users": [{"name": "nobody", "user": {}}],
                }
            )
        )  # fmt: skip
        return file


class GivenSite(KindSite):
    """A release in the Kubernetes of another site, under an environment that leads elsewhere."""

    inventory = "inventories/kubernetes"

    def __init__(self, folder: Path, host: KindSite, decoy: Decoy) -> None:
        super().__init__(folder, NAME)
        small = yaml.safe_load((ROOT / "inventories" / "topologies" / "small.yml").read_text())
        self.topology.write_text(yaml.safe_dump(small | {"name": NAME}))
        self.kubeconfig = host.kubeconfig
        self.hostile = {
            "KUBECONFIG": str(decoy.kubeconfig(folder / "decoy")),
            "K8S_AUTH_KUBECONFIG": str(folder / "decoy"),
            "K8S_AUTH_HOST": decoy.url,
            "K8S_AUTH_CONTEXT": "decoy",
            "HELM_KUBECONTEXT": "decoy",
            "HELM_KUBEAPISERVER": decoy.url,
        }
        self.playing = False
        component = "app.kubernetes.io/component"
        pods = host.get("pods", f"--selector={component}")  # not those of finished Jobs
        images = {pod["metadata"]["labels"][component]: image_of(pod) for pod in pods}
        self.arguments = (
            "-e", f"kubernetes_kubeconfig={host.kubeconfig}",
            "-e", f"kubernetes_context=kind-{host.name}",
            "-e", json.dumps({
                "chart_toolbox_image": images["toolbox"],
                "chart_database_image": images["shard"],
            }),
        )  # fmt: skip

    @property
    def environment(self) -> Mapping[str, str]:
        """Of a playbook: the hostile one.  Of what the test itself asks: the one that leads to the given cluster."""
        return {**super().environment, **(self.hostile if self.playing else {})}

    def play_with(self, playbook: str, *more: str) -> str:
        """The output of a playbook that ends well."""
        self.playing = True
        try:
            played = self.play(playbook, *self.arguments, *more)
        finally:
            self.playing = False
        assert played.code == 0, played.output
        self.changed = played.changed
        return played.output


def image_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """Repository and tag of the image that a pod runs."""
    repository, _, tag = pod["spec"]["containers"][0]["image"].rpartition(":")
    return {"repository": repository, "tag": tag}


@pytest.fixture(scope="module")
def decoy() -> Iterator[Decoy]:
    made = Decoy()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def given(made: Made, decoy: Decoy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GivenSite]:
    site = GivenSite(tmp_path_factory.mktemp("given"), made.site, decoy)
    yield site
    site.run("kubectl", "delete", "namespace", NAME, "--ignore-not-found", "--wait=false")


@pytest.mark.timeout(900)
def test_site_is_made_twice_on_the_given_cluster_alone(given: GivenSite, decoy: Decoy) -> None:
    first = given.play_with("site.yml")
    assert "every member is healthy" in first
    given.assert_data_complete()
    again = given.play_with("site.yml")
    assert set(given.changed.values()) == {0}, again
    assert decoy.asked == [], "the environment's Kubernetes was asked"


@pytest.mark.timeout(600)
def test_destroy_takes_away_the_release_and_with_its_data_what_was_made_for_it(
    given: GivenSite, made: Made, decoy: Decoy
) -> None:
    before = made.site.identities()
    given.play_with("playbooks/destroy.yml")
    assert given.get("statefulsets") == []
    assert given.get("persistentvolumeclaims"), "the volumes stay"
    assert given.get("secrets", f"--selector={OURS}"), "and so do the secrets"
    given.play_with("playbooks/destroy.yml", "-e", "destroy_data=true")
    names = [one["metadata"]["name"] for one in json.loads(given.run("kubectl", "get", "ns", "-o", "json"))["items"]]
    assert NAME not in names, "the namespace was ours"
    assert made.site.name in given.run("kind", "get", "clusters").split()
    assert made.site.identities() == before, "the other release is as it was"
    assert decoy.asked == []


def test_namespace_that_was_there_is_left_as_it_is(site: KindSite) -> None:
    name = f"{NAME}-before"
    site.run("kubectl", "create", "namespace", name)
    try:
        which = {"kubeconfig": str(site.kubeconfig), "context": f"kind-{site.name}"}
        labels = {"shardmart/made-by": "site.yml"}
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        kept = run_module("kubernetes_objects", definitions=[namespace], only_ours=OURS, **which)
        assert kept["changed"] is False
        selector = f"kubernetes.io/metadata.name={name},{OURS}"
        removed = run_module("kubernetes_objects", state="absent", resources=["namespaces"], selector=selector, **which)
        assert removed["changed"] is False
        assert "made-by" not in site.run("kubectl", "get", "namespace", name, "-o", "json")
    finally:
        site.run("kubectl", "delete", "namespace", name)
