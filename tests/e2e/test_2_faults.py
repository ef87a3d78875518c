"""What happens to pods, volumes, the node and the namespace costs no document; nothing is initiated a second time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.kind_site import KindSite, Made


@pytest.fixture(autouse=True)
def _whole_again(made: Made) -> Iterator[None]:
    """After each fault: every set has its members, every document is there, no set was initiated a second time."""
    yield
    made.site.wait_until_ready()
    made.site.assert_data_complete()
    assert made.site.identities() == made.identities


def test_deleted_primary_hands_over_and_comes_back(site: KindSite) -> None:
    primary = site.primary("shard1ReplSet")
    assert primary
    pod = f"{site.name}-{primary}"
    before = site.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
    site.kubectl("delete", "pod", pod, "--wait=false")
    site.wait("another primary", lambda: site.primary("shard1ReplSet") not in (None, primary), seconds=60)
    uid = ("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")
    site.wait("the pod to be made again", lambda: site.kubectl(*uid) != before)


def test_election_was_handed_over_not_awaited(site: KindSite) -> None:
    primary = site.primary("shard2ReplSet")
    assert primary
    pod = f"{site.name}-{primary}"
    site.kubectl("delete", "pod", pod, "--wait=false")
    site.wait("another primary", lambda: site.primary("shard2ReplSet") not in (None, primary), seconds=60)
    successor = site.primary("shard2ReplSet")
    log = site.kubectl("logs", f"{site.name}-{successor}", "--since=120s")
    assert "Starting an election due to step up request" in log, "the old primary named its successor"
    assert "seen no PRIMARY in election timeout period" not in log


def test_lost_volume_is_filled_again(site: KindSite) -> None:
    primary = site.primary("shard2ReplSet")
    lost = next(name for name in site.sets()["shard2ReplSet"]["states"] if name != primary)
    pod, claim = f"{site.name}-{lost}", f"data-{site.name}-{lost}"
    uid = ("get", "pvc", claim, "-o", "jsonpath={.metadata.uid}")
    before = site.kubectl(*uid)
    site.kubectl("delete", "pvc", claim, "--wait=false")
    site.kubectl("delete", "pod", pod, "--wait=false")
    site.wait("a new volume claim", lambda: site.kubectl(*uid) != before)
    site.wait("the initial sync", lambda: "Initial sync done" in site.kubectl("logs", pod))


def test_node_stops_and_starts(site: KindSite) -> None:
    node = f"{site.name}-control-plane"
    site.run("docker", "stop", "--time=30", node)
    site.run("docker", "start", node)
    site.wait("the API server", lambda: site.kubectl("get", "--raw", "/readyz") == "ok")

    # What the API server knows of pods is as old as the stop: new starts are what to wait for.
    def restarted() -> bool:
        pods = site.get("pods", "--selector=app.kubernetes.io/component in (config-server,shard,router)")
        return all(status["restartCount"] > 0 for pod in pods for status in pod["status"]["containerStatuses"])

    site.wait("every server to be started again", restarted)


def test_namespace_is_scaled_to_zero_and_back(site: KindSite) -> None:
    site.kubectl("scale", "statefulset,deployment", "--all", "--replicas=0")
    # Not the pod of the loader, which ended.
    scaled = "--selector=app.kubernetes.io/component in (config-server,shard,router,toolbox)"
    site.wait("every pod to be gone", lambda: not site.get("pods", scaled))
    # The same command as ever puts back what was changed by hand.
    back = site.play("playbooks/provision.yml")
    assert back.code == 0, back.output
    assert back.changed["controller"] == 1, back.output
