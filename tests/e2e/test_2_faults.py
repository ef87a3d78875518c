"""What happens to pods, volumes, the node and the namespace costs no document; nothing is initiated a second time."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
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


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_helm_that_is_killed_in_the_middle_of_an_upgrade_is_repaired_by_the_next_run(site: KindSite) -> None:
    """The release stays `pending-upgrade`, on which every later `helm upgrade` fails by itself."""
    change = ("-e", json.dumps({"chart_values": {"member": {"disruptionBudget": {"maxUnavailable": 1}}}}))
    selector = "--selector=owner=helm,status=pending-upgrade"
    watch = subprocess.Popen(
        ["kubectl", f"--namespace={site.name}", "get", "secret", selector, "--watch", "--output=name"],
        env=site.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    run = threading.Thread(target=site.play, args=("playbooks/provision.yml", *change))
    try:
        run.start()
        assert watch.stdout
        locked = watch.stdout.readline()
        assert locked.startswith("secret/sh.helm.release."), "helm began"
        killed = [helm for helm in helms_of(site.name) if not helm.kill()]
        assert killed, "and was killed before it had ended"
    finally:
        watch.kill()
        run.join(300)
    assert site.get("secret", selector), "the release is locked"
    repaired = site.play("playbooks/provision.yml", *change)
    assert repaired.code == 0, repaired.output
    assert not site.get("secret", selector)
    budget = json.loads(site.kubectl("get", "poddisruptionbudget", f"{site.name}-configsvr", "-o", "json"))
    assert budget["spec"]["maxUnavailable"] == 1
    again = site.play("playbooks/provision.yml", *change)
    assert set(again.changed.values()) == {0}, again.output
    assert site.play("playbooks/provision.yml").code == 0


def helms_of(release: str) -> list[psutil.Process]:
    """Processes of Helm that upgrade this release."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if words and Path(words[0]).name == "helm" and {"upgrade", release} <= set(words):
                found.append(process)
    return found
