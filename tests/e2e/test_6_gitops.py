"""The platform from git alone: a real Argo CD follows a repository, in the order of a team's first week.

Each test leaves the cluster whole, and makes what it needs of the tests before it where that is missing. Writes go on
through every change, and are counted; what each step took is printed at the end (docs/gitops.md has the table).
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from shardmart.declare import release
from tests.support.experiments import assert_no_order_was_lost, summary_of_last_run
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


def test_a_commit_that_changes_the_shops_memory_replaces_its_pods_and_no_other(
    gitops: GitOps, site: InNamespace
) -> None:
    def pods(instance: str) -> dict[str, str]:
        # Those of Jobs end, and are made anew by every sync.
        found = site.get("pods", f"--selector=app.kubernetes.io/instance={instance}")
        lasting = ("ReplicaSet", "StatefulSet")
        about = [pod["metadata"] for pod in found if pod["metadata"].get("ownerReferences")]
        return {pod["uid"]: pod["name"] for pod in about if pod["ownerReferences"][0]["kind"] in lasting}

    cluster, shop = pods("shardmart"), pods("shardmart-shop")
    begun = time.monotonic()
    gitops.repository.merge(gitops.repository.shop_values, pod={"resources": {"limits": {"memory": "300Mi"}}})
    gitops.shop.wait_until("more memory for the shop", gitops.repository.commit("The shop's memory"), seconds=600)
    gitops.steps.timed("a commit changes the shop's memory: each pod is replaced, an order is confirmed", begun)
    assert gitops.shop.hooks()["shardmart-shop-test"][0] == "Succeeded"
    of_services = {uid for uid, name in shop.items() if not name.startswith("shardmart-shop-cache")}
    site.wait("the shop's old pods to be gone", lambda: not of_services & pods("shardmart-shop").keys())
    assert pods("shardmart") == cluster


@pytest.mark.full  # one to two minutes; by --full only, until it has been seen to pass
def test_an_instance_of_every_service_is_killed_and_no_order_is_lost(site: InNamespace, tmp_path: Path) -> None:
    # A laptop knows of this cluster what its chart says; every secret stays in the toolbox.
    said = site.kubectl("get", "configmap/shardmart-cluster", "-o", r"jsonpath={.data.release\.json}")
    cluster = release.describe(json.loads(said))
    assert cluster.kubernetes
    reached = replace(cluster.kubernetes, kubeconfig=str(site.kubeconfig))
    (tmp_path / "cluster.json").write_text(replace(cluster, kubernetes=reached).dumps())
    site.run("env", f"SHARDMART_STATE={tmp_path}", "shardmart", "chaos", "run", "chaos/kill-service.json")
    assert_no_order_was_lost(summary_of_last_run(tmp_path))
    site.wait_until_well()


@pytest.mark.full  # two to three minutes
def test_the_cluster_is_never_out_of_sync_in_five_minutes_of_rest(gitops: GitOps) -> None:
    """Git changes meanwhile, but not the cluster's files; they begin with the end of the first sync."""
    states = gitops.rest.states(REST_SECONDS)
    assert len({at for _, at in states}) > 1, f"Argo CD never looked: {states}"
    assert {state for state, _ in states} == {"Synced"}


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


@pytest.mark.full  # two to three minutes
def test_a_commit_that_changes_the_members_memory_loses_no_write(
    gitops: GitOps, site: InNamespace, ledger: LedgerPod
) -> None:
    def members() -> dict[str, tuple[str, str]]:
        """By the name of each set, and the member's number: when its pod was made, and which pod it is."""
        pods = site.get("pods", "--selector=app.kubernetes.io/component in (shard,config-server)")
        about = [pod["metadata"] for pod in pods]
        return {pod["name"]: (pod["creationTimestamp"], pod["uid"]) for pod in about}

    site.first_members_lead()
    before = members()
    with ledger.writing(step := "a commit changes the members' memory: each is replaced"):
        begun = time.monotonic()
        gitops.repository.merge(gitops.repository.values, member={"resources": {"limits": {"memory": "800Mi"}}})
        gitops.cluster.wait_until("more memory", gitops.repository.commit("More memory"), seconds=600)
        gitops.steps.timed(step, begun)
    after = members()
    assert after.keys() == before.keys()
    assert not {uid for _, uid in after.values()} & {uid for _, uid in before.values()}, "each was to be replaced"
    for found in site.get("statefulset", "--selector=app.kubernetes.io/component in (shard,config-server)"):
        name, size = found["metadata"]["name"], found["spec"]["replicas"]
        made = [after[f"{name}-{number}"][0] for number in range(size, 0, -1)]
        assert made == sorted(made), f"{name}: the primary, its first member, was not the last to go"


def refused(
    gitops: GitOps, ledger: LedgerPod, words: str, change: Callable[[], None], file: Path, reason: Callable[[], str]
) -> str:
    """Commit a change that must be refused, and then the file as it was: what the Application says of it.

    `words` names the step. The objects in the cluster stay as they are, and so do writes.
    """
    good = file.read_text()
    before = gitops.site.servers()
    with ledger.writing(step := f"{words} is refused"):
        begun = time.monotonic()
        change()
        gitops.repository.commit(words)
        gitops.cluster.refresh()
        said: str = gitops.site.wait("the reason", reason)
        gitops.steps.timed(step, begun)
        assert gitops.site.servers() == before
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


@pytest.mark.full  # two to three minutes
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
