"""The platform from git alone: a real Argo CD follows a repository, in the order of a team's first week.

Each test leaves the cluster whole, and makes what it needs of the tests before it where that is missing. Writes go on
through every change, and are counted; what each step took is printed at the end (docs/gitops.md has the table).
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.gitops import LABORATORY, GitOps, InNamespace, hooks, synchronised
from tests.support.kind_site import Made, ready
from tests.support.ledger_pod import LedgerPod
from tests.support.step_table import StepTable

REST_SECONDS = 300

pytestmark = [
    pytest.mark.timeout(1800),  # of a busy machine: the first test waits for both first syncs
    pytest.mark.skipif(not (LABORATORY / "argocd-up").exists(), reason="no Argo CD beside the checkout"),
]


@pytest.fixture(scope="module")
def gitops(made: Made, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[GitOps]:
    """Argo CD in the session's kind cluster, and the staging environment synchronised for the first time."""
    steps = StepTable()
    try:
        with synchronised(made.site, tmp_path_factory.mktemp("gitops"), steps) as found:
            yield found
    finally:
        steps.show(request.config)


@pytest.fixture(scope="module")
def ledger(gitops: GitOps) -> Iterator[LedgerPod]:
    """What writes while git changes the cluster."""
    pod = LedgerPod(gitops.site, gitops.steps)
    try:
        yield pod
    finally:
        pod.delete()


@pytest.fixture
def site(gitops: GitOps) -> InNamespace:
    return gitops.site


def test_the_first_sync_ends_seeded_and_verified(gitops: GitOps, site: InNamespace) -> None:
    ended = {name: phase for name, (phase, _) in hooks(gitops.first["operationState"]).items()}
    assert ended == {f"shardmart-{name}": "Succeeded" for name in ("secrets", "preflight", "seed", "test")}
    site.wait_until_well()
    assert site.shards() == ["shard1ReplSet", "shard2ReplSet"]
    seed = ("--seed=1", "--users=10", "--orders-per-user=3", "--products=20")
    checked = json.loads(site.toolbox("shardmart", "load", "--state=/state", *seed, "--check", "--json"))
    assert {(c["missing"], c["different"]) for c in checked["collections"].values()} == {(0, 0)}


def test_the_shop_is_synchronised_and_an_order_is_confirmed(gitops: GitOps, site: InNamespace) -> None:
    # Its test places an order; no other pod of the shop may reach every service.
    assert {name: phase for name, (phase, _) in gitops.shop.hooks().items()} == {
        "shardmart-shop-seed": "Succeeded",
        "shardmart-shop-test": "Succeeded",
    }


def test_nothing_is_out_of_sync_when_asked(gitops: GitOps) -> None:
    for application in gitops.applications:
        finished = application.operation()["finishedAt"]
        for how in ("hard", "normal", "hard"):
            application.look(how)
            assert application.out_of_sync() == []
        assert application.operation().get("finishedAt") == finished, "a sync that nobody asked for"


@pytest.mark.full
def test_nothing_is_out_of_sync_in_five_minutes_of_rest(gitops: GitOps) -> None:
    """Every state that Argo CD wrote in this time is read; it looks by itself every two to three minutes."""
    looked = {application.name: application.found()["status"]["reconciledAt"] for application in gitops.applications}
    state = "{.metadata.name} {.status.sync.status}"
    watch = ("kubectl", "--namespace=argocd", "get", "applications", "--watch", f"--output=jsonpath={state}\n")
    said = gitops.site.run("timeout", str(REST_SECONDS), *watch, accept=(124,))
    assert set(said.splitlines()) == {f"{name} Synced" for name in looked}
    for application in gitops.applications:
        assert application.found()["status"]["reconciledAt"] != looked[application.name], "Argo CD never looked"


def test_a_deleted_service_and_an_edited_statefulset_are_healed(
    gitops: GitOps, site: InNamespace, ledger: LedgerPod
) -> None:
    def service() -> str:
        found = json.loads(site.kubectl("get", "service", "shardmart", "-o", "json"))
        return str(found["metadata"]["uid"])

    def grace() -> int:
        found = json.loads(site.kubectl("get", "statefulset", "shardmart-mongos", "-o", "json"))
        return int(found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])

    uid, seconds = service(), grace()
    with ledger.writing(step := "a deleted Service is back"):
        begun = time.monotonic()
        site.kubectl("delete", "service", "shardmart")
        site.wait("the Service to be made again", lambda: service() != uid)
        gitops.steps.timed(step, begun)
    patch = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": seconds + 7}}}}
    with ledger.writing(step := "an edited StatefulSet is as in git"):
        begun = time.monotonic()
        site.kubectl("patch", "statefulset", "shardmart-mongos", "--type=merge", f"-p={json.dumps(patch)}")
        site.wait("the StatefulSet to be as in git", lambda: grace() == seconds)
        gitops.steps.timed(step, begun)
        site.wait("the routers", lambda: all(ready(workload) for workload in site.get("statefulset")))


def with_a_third_shard(gitops: GitOps) -> None:
    """Commit a third shard, and budgets away, and wait until it is so; nothing where git has it already."""
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
    gitops.repository.merge(gitops.repository.values, member={"disruptionBudget": {"enabled": False}})
    gitops.cluster.wait_until("a third shard", gitops.repository.commit("A third shard"))


def test_a_commit_that_adds_a_shard_grows_the_cluster(gitops: GitOps, site: InNamespace, ledger: LedgerPod) -> None:
    with ledger.writing(step := "a commit adds a shard"):
        begun = time.monotonic()
        with_a_third_shard(gitops)
        gitops.steps.timed(step, begun)
    assert site.shards() == ["shard1ReplSet", "shard2ReplSet", "shard3ReplSet"]
    site.wait_until_well()


def test_a_commit_that_changes_the_members_memory_loses_no_write(
    gitops: GitOps, site: InNamespace, ledger: LedgerPod
) -> None:
    def members() -> dict[str, str]:
        pods = site.get("pods", "--selector=app.kubernetes.io/component=shard")
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}

    before = members()
    with ledger.writing(step := "a commit changes the members' memory: each is replaced"):
        begun = time.monotonic()
        gitops.repository.merge(gitops.repository.values, member={"resources": {"limits": {"memory": "800Mi"}}})
        gitops.cluster.wait_until("more memory", gitops.repository.commit("More memory"), seconds=600)
        gitops.steps.timed(step, begun)
    after = members()
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values()), "every member was to be replaced"


def refused(
    gitops: GitOps, ledger: LedgerPod, words: str, change: Callable[[], None], file: Path, reason: Callable[[], str]
) -> str:
    """Commit a change that must be refused, and then the file as it was: what the Application says of it.

    `words` names the step. The objects in the cluster stay as they are, and so do writes.
    """
    good = file.read_text()
    before = gitops.site.generations()
    with ledger.writing(step := f"{words} is refused"):
        begun = time.monotonic()
        change()
        gitops.repository.commit(words)
        gitops.cluster.refresh()
        said: str = gitops.site.wait("the reason", reason)
        gitops.steps.timed(step, begun)
        assert gitops.site.generations() == before
    file.write_text(good)
    begun = time.monotonic()
    gitops.cluster.wait_until("what was good", gitops.repository.commit("As before"))
    gitops.steps.timed(f"after {words[0].lower()}{words[1:]}, the next good commit is live", begun)
    return said


def test_a_commit_that_no_schema_allows_is_refused_and_nothing_is_touched(gitops: GitOps, ledger: LedgerPod) -> None:
    file = gitops.repository.values

    def reason() -> str:
        conditions = gitops.cluster.found()["status"].get("conditions", [])
        return "".join(c["message"] for c in conditions if c["type"] == "ComparisonError")

    words = "A commit against the schema"
    said = refused(
        gitops, ledger, words, lambda: gitops.repository.merge(file, routers={"replicas": "many"}), file, reason
    )
    assert "replicas" in said


def test_a_commit_that_removes_a_shard_is_refused_and_the_next_good_one_goes_through(
    gitops: GitOps, site: InNamespace, ledger: LedgerPod
) -> None:
    with_a_third_shard(gitops)
    file = gitops.repository.cluster

    def remove() -> None:
        gitops.repository.merge(file, shards=yaml.safe_load(file.read_text())["shards"][:2])

    def reason() -> str:
        phase, message = gitops.cluster.hooks().get("shardmart-preflight", ("", ""))
        return message if phase == "Failed" else ""

    said = refused(gitops, ledger, "A commit that removes a shard", remove, file, reason)
    assert "shardmart-shard3 runs here and these values do not have it" in said
    assert "shard3ReplSet" in site.shards()


def test_secrets_survive_sync_self_heal_and_prune_and_git_never_saw_them(gitops: GitOps, site: InNamespace) -> None:
    with_a_third_shard(gitops)
    pruned = [one for one in gitops.first["resources"] if one["kind"] == "PodDisruptionBudget"]
    assert {one["name"] for one in pruned} >= {"shardmart-configsvr", "shardmart-shard1"}
    budgets = {found["metadata"]["name"] for found in site.get("poddisruptionbudget")}
    assert not budgets & {"shardmart-configsvr", "shardmart-shard1"}, "what git no longer has was to be pruned"
    (secret,) = site.get("secret", "--field-selector=metadata.name=shardmart-auth")
    assert {"keyfile", "admin.password", "loader.password"} <= secret["data"].keys()
    assert "argocd.argoproj.io/tracking-id" not in secret["metadata"].get("annotations", {})
    text = "".join(f.read_text() for f in Path(gitops.repository.folder).rglob("*.yaml"))
    assert not [value for value in secret["data"].values() if value in text]
    made = secret["metadata"]["creationTimestamp"]
    assert made <= gitops.first["operationState"]["finishedAt"], "a later sync made it anew"
