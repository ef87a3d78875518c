"""helm/ring with TLS on the session's kind cluster, its policies enforced: nodes serve, come back, leave, and have the
shop's carts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kind_site import POLICIES, KindSite, Made
from tests.support.strangers import reaches

RING = {"name": "carts", "nodes": 3, "virtual_nodes": 64}
PLAYBOOK = "playbooks/ring.yml"
TLS = ("-e", '{"ring_chart_values": {"tls": {"enabled": true}}}')
SERVICES = ("catalogue", "order", "inventory", "payment", "notification")
CART = (Path(__file__).parents[1] / "support" / "cart.py").read_text()


def release_of(site: KindSite) -> str:
    return f"{site.name}-carts"


def ours(site: KindSite) -> str:
    return f"--selector=app.kubernetes.io/instance={release_of(site)}"


def must_play(site: KindSite, *arguments: str, playbook: str = PLAYBOOK) -> dict[str, int]:
    """Run the playbook; changed tasks by host."""
    return site.must_play(playbook, *TLS, *arguments).changed


def tried(site: KindSite) -> list[str]:
    """The nodes on which `helm test` wrote, read and deleted a key, as it says."""
    said = site.run("helm", "test", release_of(site), "--namespace", site.name, "--logs", "--timeout=5m")
    return [line.split(":")[0] for line in said.splitlines() if line.endswith("read and deleted right")]


@pytest.fixture(scope="module")
def ring(made: Made) -> Iterator[KindSite]:
    """The session's cluster with a ring beside it, which is gone again afterwards, its volumes too."""
    site = made.site
    site.write(rings=[RING])
    must_play(site)
    yield site
    must_play(site, "-e", "rings_state=absent")
    del site.document["rings"]
    site.write()
    assert not site.get("statefulset,service,networkpolicy,job", ours(site))
    assert len(site.get("pvc", ours(site))) == 4, "data stay until somebody removes them"
    site.kubectl("delete", "pvc", ours(site))


@pytest.mark.timeout(1800)
def test_every_node_serves_and_a_second_run_changes_nothing(ring: KindSite) -> None:
    assert tried(ring) == ["carts-1", "carts-2", "carts-3"]
    assert set(must_play(ring).values()) == {0}


@pytest.mark.skipif(not POLICIES.exists(), reason="nothing here enforces network policies")
@pytest.mark.timeout(1800)
def test_a_pod_that_does_not_say_that_it_is_a_client_reaches_no_server(ring: KindSite) -> None:
    domain = f"{ring.name}.svc.cluster.local:27017"
    addresses = [f"{release_of(ring)}-{name}.{domain}" for name in ("store", "1", "3")]
    assert reaches(ring, ring.name, *addresses) == [False] * 3


@pytest.mark.timeout(1800)
def test_a_node_that_was_killed_is_compared_and_serves_again(ring: KindSite) -> None:
    pod = f"{release_of(ring)}-2-0"

    def now() -> dict[str, Any]:
        return {str(one["metadata"]["name"]): one for one in ring.get("pod", ours(ring))}[pod]

    before = now()["metadata"]["uid"]
    ring.kubectl("delete", "pod", pod, "--force", "--grace-period=0")

    def back() -> bool:
        found = now()
        return bool(found["metadata"]["uid"] != before and found["status"]["containerStatuses"][0]["ready"])

    ring.wait("another pod in its place", back)
    assert tried(ring) == ["carts-1", "carts-2", "carts-3"]


@pytest.mark.timeout(1800)
def test_a_node_that_the_topology_has_less_leaves_the_ring_before_its_server_goes(ring: KindSite) -> None:
    ring.write(rings=[RING | {"nodes": 2}])
    must_play(ring)
    names = {
        one["metadata"]["name"].removeprefix(f"{release_of(ring)}-") for one in ring.get("statefulset", ours(ring))
    }
    assert names == {"store", "1", "2"}
    assert tried(ring) == ["carts-1", "carts-2"]


@pytest.mark.timeout(1800)
def test_servers_take_a_renewed_certificate_when_the_cronjob_runs(ring: KindSite) -> None:
    name = f"{release_of(ring)}-rotation"
    ring.kubectl("create", "job", "rotation-now", f"--from=cronjob/{name}")
    try:
        ring.kubectl("wait", "job/rotation-now", "--for=condition=Complete", "--timeout=300s")
        said = ring.kubectl("logs", "job/rotation-now", "--container=rotation")
    finally:
        ring.kubectl("delete", "job", "rotation-now")
    nodes = [f"carts-{n}" for n in range(1, ring.document["rings"][0]["nodes"] + 1)]
    assert said == f"certificates taken: {', '.join(['the store', *nodes])}\n"


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_shops_carts_lie_on_the_topologys_ring_after_site_yml(ring: KindSite) -> None:
    ring.write(services={name: {"instances": 1} for name in SERVICES})
    must_play(ring, playbook="site.yml")
    try:
        program = ("python", "-c", CART)
        told = json.loads(ring.kubectl("exec", f"deployment/{ring.name}-shop-order", "--", *program))
        assert told["answered"] == told["on the ring"] == {told["product"]: 3}
    finally:
        del ring.document["services"]
        ring.write()
        removed = ring.play("playbooks/shop.yml")
    assert removed.code == 0, removed.output
