"""A release that a killed run left locked is finished by the next one; a release of another chart is left alone.

Helm and kubectl are stand-ins that keep what Helm would store in a file.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.modules import run_module

release_holder = importlib.import_module("ansible.module_utils.shardmart.platforms.release_holder")
"""As the module has it."""

PROGRAM = """#!{python}
import json, sys
from pathlib import Path
store, log = Path({folder!r}) / "release.json", Path({folder!r}) / "calls"
lease, seen = store.with_name("lease.json"), store.with_name("lease-of-the-upgrade.json")
program, words = sys.argv[0].rsplit("/")[-1], [w for w in sys.argv[1:] if not w.startswith("--")]
with log.open("a") as calls:
    print(program, *words, file=calls)
there = json.loads(store.read_text()) if store.exists() else None
if words[0] == "status" or words[0] == "upgrade" and there and there["status"].startswith("pending"):
    if words[0] == "upgrade":
        sys.exit("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress")
    if not there:
        sys.exit("Error: release: not found")
    info = {{"status": there["status"], "last_deployed": there["since"]}}
    print(json.dumps({{"version": there["revision"], "info": info, "manifest": there["status"], "config": {{}}}}))
elif words[:2] == ["get", "metadata"]:
    print(json.dumps({{"chart": there["chart"]}}))
elif "--dry-run=server" in sys.argv:
    print(json.dumps({{"manifest": "deployed"}}))
elif words[0] == "version":
    print("v4.0.0")
elif words[:2] == ["get", "lease"] and lease.exists():
    print(lease.read_text())
elif words[:2] == ["delete", "lease"]:
    lease.unlink()
elif words[0] == "apply":
    lease.write_text(sys.stdin.read())
elif words[0] == "upgrade":
    seen.write_text(lease.read_text())
    now = {{"status": "deployed", "chart": "sharded-mongodb"}}
    store.write_text(json.dumps((there or {{"revision": 0, "since": ""}}) | now))
elif words[0] == "uninstall":
    store.unlink()
elif words[:2] == ["delete", "secret"] and words[2] == f"sh.helm.release.v1.shop.v{{there['revision']}}":
    if there["revision"] == 1:
        store.unlink()
    else:
        store.write_text(json.dumps(there | {{"status": "deployed", "revision": there["revision"] - 1}}))
    print("secret/" + words[2])
"""


class Helm:
    """What the stand-ins keep and were called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self, status: str, *, revision: int = 3, age_s: float = 3600, chart: str = "sharded-mongodb") -> None:
        since = (datetime.now(UTC) - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%S.%f789Z")
        document = {"status": status, "revision": revision, "since": since, "chart": chart}
        (self.folder / "release.json").write_text(json.dumps(document))

    def lease(self, *, age_s: float, holder: str = "another") -> None:
        renewed = (datetime.now(UTC) - timedelta(seconds=age_s)).strftime(release_holder.FORMAT)
        document = {"spec": {"holderIdentity": holder, "renewTime": renewed}}
        (self.folder / "lease.json").write_text(json.dumps(document))

    def stored(self) -> dict[str, Any] | None:
        file = self.folder / "release.json"
        return json.loads(file.read_text()) if file.exists() else None

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def module(self, **arguments: Any) -> dict[str, Any]:
        given = {"name": "shop", "namespace": "shop", "chart": "helm/sharded-mongodb", "kubeconfig": __file__}
        return run_module("helm_release", **given | arguments)


@pytest.fixture
def helm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helm:
    for program in ("helm", "kubectl"):
        file = tmp_path / "bin" / program
        file.parent.mkdir(exist_ok=True)
        file.write_text(PROGRAM.format(python=sys.executable, folder=str(tmp_path)))
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return Helm(tmp_path)


@pytest.mark.parametrize(
    ("status", "revision"), [("pending-upgrade", 3), ("pending-install", 1), ("pending-rollback", 2)]
)
def test_release_that_a_killed_run_left_locked_is_finished(helm: Helm, status: str, revision: int) -> None:
    helm.store(status, revision=revision)
    planned = helm.module(check=True)
    assert planned["changed"]
    assert status in planned["diff"]["prepared"]
    assert not any("delete secret" in call for call in helm.calls())
    done = helm.module()
    assert done["changed"], done
    stored = helm.stored()
    assert stored
    assert stored["status"] == "deployed"
    assert f"kubectl delete secret sh.helm.release.v1.shop.v{revision}" in helm.calls()
    assert not helm.module()["changed"]


def test_release_that_was_being_removed_is_removed_and_installed_anew(helm: Helm) -> None:
    helm.store("uninstalling")
    assert helm.module()["changed"]
    assert "helm uninstall shop" in " ".join(helm.calls())
    stored = helm.stored()
    assert stored
    assert stored["status"] == "deployed"


def test_release_that_somebody_works_on_now_is_left_to_them(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they are done: the stand-in for waiting ends their work."""
    helm.store("pending-upgrade", age_s=5)
    monkeypatch.setattr("time.sleep", lambda _seconds: helm.store("deployed"))
    helm.module()
    assert not any("delete secret" in call for call in helm.calls())


def test_run_that_lives_is_left_to_its_work_however_long_it_takes(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring's Job moves data for an hour; Helm says no more than that the release is pending since then."""
    helm.store("pending-upgrade", age_s=3600)
    helm.lease(age_s=5)
    monkeypatch.setattr("time.sleep", lambda _seconds: helm.store("deployed"))
    helm.module()
    assert not any("delete secret" in call for call in helm.calls())


def test_run_that_lives_on_a_machine_of_another_time_is_known_by_renewing(
    helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    helm.store("pending-upgrade", age_s=3600)
    helm.lease(age_s=7200)
    looks = iter(range(7199, 7190, -1))

    def later(_seconds: float) -> None:
        if (age := next(looks)) == 7195:
            helm.store("deployed")
        helm.lease(age_s=age)

    monkeypatch.setattr("time.sleep", later)
    helm.module()
    assert not any("delete secret" in call for call in helm.calls())


def test_run_that_works_for_longer_than_this_one_would_wait_is_named(helm: Helm) -> None:
    helm.store("pending-upgrade", age_s=3600)
    helm.lease(age_s=5, holder="laptop-77")
    refused = helm.module(timeout_seconds=-60)
    assert "release shop is pending-upgrade since" in refused["msg"]
    assert "and laptop-77 works on it: wait for the end of that run, then run this again" in refused["msg"]
    assert not any("delete secret" in call for call in helm.calls())


def test_lease_of_a_run_that_was_killed_holds_nothing(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    helm.store("pending-upgrade", age_s=100)
    helm.lease(age_s=100)
    monkeypatch.setattr(release_holder, "LOOKED_AT_SECONDS", 0)
    assert helm.module()["changed"]
    assert "kubectl delete secret sh.helm.release.v1.shop.v3" in helm.calls()


def test_run_that_renewed_once_and_was_killed_holds_nothing(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    helm.store("pending-upgrade", age_s=3600)
    helm.lease(age_s=7200)  # of a machine of another time
    monkeypatch.setattr(release_holder, "LOOKED_AT_SECONDS", 1)
    looks, now = iter([7190]), [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds
        for age in looks:
            helm.lease(age_s=age)
            return

    monkeypatch.setattr("time.sleep", later)
    assert helm.module()["changed"]
    assert "kubectl delete secret sh.helm.release.v1.shop.v3" in helm.calls()


def test_lease_that_cannot_be_asked_for_frees_nothing(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    helm.store("pending-upgrade", age_s=3600)
    helm.lease(age_s=5)
    run, looks = release_holder.Release.run, iter(range(9))

    def now_and_then(release: Any, *words: str, data: str | None = None) -> str | None:
        return None if words[:2] == ("get", "lease") and next(looks) == 1 else run(release, *words, data=data)

    def later(_seconds: float) -> None:
        if next(looks) > 3:
            helm.store("deployed")

    monkeypatch.setattr(release_holder.Release, "run", now_and_then)
    monkeypatch.setattr("time.sleep", later)
    helm.module()
    assert not any("delete secret" in call for call in helm.calls())


def test_lease_of_an_earlier_run_says_nothing_of_helm_alone(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    helm.store("pending-upgrade", age_s=100)
    helm.lease(age_s=3600)
    monkeypatch.setattr(release_holder, "LOOKED_AT_SECONDS", 0)
    monkeypatch.setattr("time.sleep", lambda _seconds: helm.store("deployed"))
    helm.module()
    assert not any("delete secret" in call for call in helm.calls())


def test_release_without_a_lease_is_left_to_helm_for_as_long_as_a_run_may_take(
    helm: Helm, monkeypatch: pytest.MonkeyPatch
) -> None:
    helm.store("pending-upgrade", age_s=100)
    monkeypatch.setattr("time.sleep", lambda _seconds: helm.store("deployed"))
    helm.module()
    assert not any("delete secret" in call for call in helm.calls())


def test_run_keeps_a_lease_while_it_works_and_none_afterwards(helm: Helm) -> None:
    helm.store("deployed", chart="sharded-mongodb")
    assert helm.module(values={"routers": {"replicas": 2}})["changed"]
    spec = json.loads((helm.folder / "lease-of-the-upgrade.json").read_text())["spec"]
    assert (spec["holderIdentity"].split("-")[-2], spec["leaseDurationSeconds"]) == (str(os.getpid()), 60)
    assert not (helm.folder / "lease.json").exists()


@pytest.mark.parametrize("state", ["present", "absent"])
def test_release_of_another_chart_is_refused(helm: Helm, state: str) -> None:
    helm.store("deployed", chart="postgresql")
    refused = helm.module(state=state)
    assert refused["msg"].startswith(
        "release shop in namespace shop is of the chart postgresql, not of sharded-mongodb"
    )
    assert not any(call.split()[1] in ("upgrade", "uninstall") for call in helm.calls())
