"""The platform from git alone: a real Argo CD follows a repository, in the order of a team's first week.

Each test leaves the cluster whole, and makes what it needs of the tests before it where that is missing.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.gitops import LABORATORY, ArgoCd, Repository
from tests.support.kind_site import KindSite, Made, ready
from tests.support.step_table import StepTable

NAMESPACE = "shardmart-staging"
STEPS = StepTable()

# The toolbox has no pkill.
STOP = """
import os, signal
from pathlib import Path
for file in Path("/proc").glob("[0-9]*/cmdline"):
    if b"ledger\\0run" in file.read_bytes():
        os.kill(int(file.parent.name), signal.SIGINT)
"""

pytestmark = pytest.mark.skipif(not (LABORATORY / "argocd-up").exists(), reason="no Argo CD beside the checkout")


@dataclass
class GitOps:
    """Argo CD, its repository, and the platform that it made (`site` works in its namespace)."""

    argocd: ArgoCd
    repository: Repository
    site: KindSite
    first: dict[str, Any]


@pytest.fixture(scope="module")
def gitops(made: Made, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[GitOps]:
    """Argo CD in the session's kind cluster, and the staging environment synchronised for the first time."""
    site = made.site
    images = {c["name"]: c["image"].split(":") for pod in site.get("pods") for c in pod["spec"]["containers"]}
    there = KindSite(tmp_path_factory.mktemp("gitops"), site.name)
    there.kubeconfig = site.kubeconfig
    argocd = ArgoCd(there)
    repository = Repository(tmp_path_factory.mktemp("repository"), there)
    # What an operator writes into the environment first: the registry.
    named = {name: dict(zip(("repository", "tag"), images[name], strict=True)) for name in ("mongod", "toolbox")}
    # Without the shop, which has an Application of its own that nobody applies here.
    ours = {"image": named["mongod"], "toolbox": {"image": named["toolbox"]}, "shop": {"enabled": False}}
    repository.merge(repository.values, **ours)
    commit = repository.commit("Our images")
    begun = time.monotonic()
    argocd.follow(repository)
    try:
        first = argocd.wait_until("the first sync", commit, seconds=600)
        STEPS.timed("first sync, from nothing to seeded and verified", begun)
        yield GitOps(argocd, repository, InNamespace(there), first)
    finally:
        STEPS.show(request.config)
        there.run("kubectl", "--namespace=argocd", "delete", "application", "shardmart-staging", accept=(0, 1))
        there.run("kubectl", "delete", "namespace", NAMESPACE, "--wait=false", accept=(0, 1))


class InNamespace(KindSite):
    """The platform that Argo CD made: release `shardmart` in a namespace of another name."""

    def __init__(self, site: KindSite) -> None:
        self.__dict__ |= site.__dict__

    def kubectl(self, *arguments: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        return self.run("kubectl", f"--namespace={NAMESPACE}", *arguments, text=text, accept=accept)

    def toolbox(self, *command: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        return self.kubectl("exec", "-i", "deploy/shardmart-toolbox", "--", *command, text=text, accept=accept)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.toolbox("shardmart", "status", "--json"))
        return found

    def shards(self) -> list[str]:
        return [shard["name"] for shard in self.status()["sharding"]["shards"]]


@pytest.fixture
def site(gitops: GitOps) -> InNamespace:
    assert isinstance(gitops.site, InNamespace)
    return gitops.site


def test_the_first_sync_ends_seeded_and_verified(gitops: GitOps, site: InNamespace) -> None:
    hooks = {
        r["name"]: r["hookPhase"] for r in gitops.first["operationState"]["syncResult"]["resources"] if "hookPhase" in r
    }
    assert {hooks[f"shardmart-{name}"] for name in ("secrets", "preflight", "seed", "test")} == {"Succeeded"}
    assert site.status()["problems"] == []
    assert site.shards() == ["shard1ReplSet", "shard2ReplSet"]
    seed = ("--seed=1", "--users=10", "--orders-per-user=3", "--products=20")
    checked = json.loads(site.toolbox("shardmart", "load", "--state=/state", *seed, "--check", "--json"))
    assert {(c["missing"], c["different"]) for c in checked["collections"].values()} == {(0, 0)}


def test_nothing_is_out_of_sync_at_rest(gitops: GitOps) -> None:
    commit = gitops.first["sync"]["revision"]
    finished = gitops.argocd.operation()["finishedAt"]
    for how in ("hard", "normal", "hard"):
        gitops.argocd.look(how)
        status = gitops.argocd.application()["status"]
        assert (status["sync"]["status"], status["sync"]["revision"]) == ("Synced", commit)
        assert [r for r in status["resources"] if r.get("status") not in ("Synced", None)] == []
    assert gitops.argocd.operation().get("finishedAt") == finished


def test_a_deleted_service_and_an_edited_statefulset_are_healed(gitops: GitOps, site: InNamespace) -> None:
    def service() -> str:
        found = json.loads(site.kubectl("get", "service", "shardmart", "-o", "json"))
        return str(found["metadata"]["uid"])

    def grace() -> int:
        found = json.loads(site.kubectl("get", "statefulset", "shardmart-mongos", "-o", "json"))
        return int(found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])

    uid, seconds = service(), grace()
    begun = time.monotonic()
    site.kubectl("delete", "service", "shardmart")
    site.wait("the Service to be made again", lambda: service() != uid)
    STEPS.timed("a deleted Service is back", begun)
    patch = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": seconds + 7}}}}
    begun = time.monotonic()
    site.kubectl("patch", "statefulset", "shardmart-mongos", "--type=merge", f"-p={json.dumps(patch)}")
    site.wait("the StatefulSet to be as in git", lambda: grace() == seconds)
    STEPS.timed("an edited StatefulSet is as in git", begun)
    site.wait("the routers", lambda: all(ready(workload) for workload in site.get("statefulset")))


def with_a_third_shard(gitops: GitOps) -> None:
    """Commit a third shard and wait until it is there; nothing where git has it already."""
    cluster = yaml.safe_load(gitops.repository.cluster.read_text())
    if len(cluster["shards"]) > 2:
        return
    third = copy.deepcopy(cluster["shards"][1]) | {
        "name": "shard3",
        "replicaSet": "shard3ReplSet",
        "memberName": "shard3-{n}",
    }
    third["members"] = third["members"][:1]
    gitops.repository.merge(gitops.repository.cluster, shards=[*cluster["shards"], third])
    begun = time.monotonic()
    gitops.argocd.wait_until("a third shard", gitops.repository.commit("A third shard"))
    STEPS.timed("a commit adds a shard", begun)


def test_a_commit_that_adds_a_shard_grows_the_cluster(gitops: GitOps, site: InNamespace) -> None:
    with_a_third_shard(gitops)
    assert site.shards() == ["shard1ReplSet", "shard2ReplSet", "shard3ReplSet"]
    assert site.status()["problems"] == []


def test_a_commit_that_changes_the_members_memory_loses_no_write(gitops: GitOps, site: InNamespace) -> None:
    journal = (
        "--journal=/tmp/gitops",
        "--workload=orders",
        "--clients=2",
        "--rate=40",
        "--duration=600",
        "--state=/state",
    )
    step = "a commit changes the members' memory: each is replaced"
    over = threading.Event()
    said: list[str] = []

    def write() -> None:
        said.append(site.toolbox("shardmart", "ledger", "run", *journal, "--json", accept=(0, 130, 137, 143)))
        over.set()

    before = {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in site.get("pods", "--selector=app.kubernetes.io/component=shard")
    }
    writer = threading.Thread(target=write)
    writer.start()
    try:
        site.wait("the ledger to write", lambda: site.toolbox("sh", "-c", "find /tmp/gitops -size +4k"))
        gitops.repository.merge(gitops.repository.values, member={"resources": {"limits": {"memory": "800Mi"}}})
        begun = time.monotonic()
        gitops.argocd.wait_until("more memory", gitops.repository.commit("More memory"), seconds=600)
        STEPS.timed(step, begun)
        assert not over.is_set(), said
    finally:
        site.toolbox("python3", "-", text=STOP)
        writer.join(120)
        assert not writer.is_alive(), "the ledger was told to stop"
    after = {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in site.get("pods", "--selector=app.kubernetes.io/component=shard")
    }
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values()), "every member was to be replaced"
    verdict = json.loads(
        site.toolbox("shardmart", "ledger", "check", "/tmp/gitops", "--state=/state", "--json", accept=(0, 1))
    )
    STEPS.judged(step, verdict)
    assert verdict["clean"], verdict


def test_a_commit_that_no_schema_allows_is_refused_and_nothing_is_touched(gitops: GitOps, site: InNamespace) -> None:
    before = {s["metadata"]["name"]: s["metadata"]["generation"] for s in site.get("statefulset")}
    good = gitops.repository.values.read_text()
    gitops.repository.merge(gitops.repository.values, routers={"replicas": "many"})
    gitops.repository.commit("Many routers")
    gitops.argocd.refresh()

    def reason() -> str:
        conditions = gitops.argocd.application()["status"].get("conditions", [])
        return "".join(c["message"] for c in conditions if c["type"] == "ComparisonError")

    said = gitops.site.wait("the reason", reason)
    assert "replicas" in said
    assert {s["metadata"]["name"]: s["metadata"]["generation"] for s in site.get("statefulset")} == before
    gitops.repository.values.write_text(good)
    gitops.argocd.wait_until("the good values again", gitops.repository.commit("As before"))


def test_a_commit_that_removes_a_shard_is_refused_and_the_next_good_one_goes_through(
    gitops: GitOps, site: InNamespace
) -> None:
    with_a_third_shard(gitops)
    before = {
        s["metadata"]["name"]: (s["metadata"]["generation"], s["status"]["readyReplicas"])
        for s in site.get("statefulset")
    }
    good = gitops.repository.cluster.read_text()
    gitops.repository.merge(gitops.repository.cluster, shards=yaml.safe_load(good)["shards"][:2])
    gitops.repository.commit("Two shards are enough")
    gitops.argocd.refresh()

    def reason() -> str:
        results = gitops.argocd.operation().get("syncResult", {}).get("resources", [])
        return next(
            (r["message"] for r in results if r["name"] == "shardmart-preflight" and r.get("hookPhase") == "Failed"), ""
        )

    said = gitops.site.wait("the reason", reason)
    assert "shardmart-shard3 runs here and these values do not have it" in said
    found = {
        s["metadata"]["name"]: (s["metadata"]["generation"], s["status"]["readyReplicas"])
        for s in site.get("statefulset")
    }
    assert found == before
    assert "shard3ReplSet" in site.shards()
    gitops.repository.cluster.write_text(good)
    begun = time.monotonic()
    gitops.argocd.wait_until("the shard in git again", gitops.repository.commit("Three shards"))
    STEPS.timed("after a refused commit the next good one is live", begun)


def test_secrets_were_made_once_and_git_never_saw_them(gitops: GitOps, site: InNamespace) -> None:
    (secret,) = site.get("secret", "--field-selector=metadata.name=shardmart-auth")
    assert {"keyfile", "admin.password", "loader.password"} <= secret["data"].keys()
    assert "argocd.argoproj.io/tracking-id" not in secret["metadata"].get("annotations", {})
    text = "".join(f.read_text() for f in Path(gitops.repository.folder).rglob("*.yaml"))
    assert not [value for value in secret["data"].values() if value in text]
    made = secret["metadata"]["creationTimestamp"]
    assert made <= gitops.first["operationState"]["finishedAt"], "a later sync made it anew"
