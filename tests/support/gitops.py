"""A real Argo CD in a kind cluster, and the git repository that it follows: this project's charts and environments."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.kind_site import ROOT, KindSite
from tests.support.step_table import StepTable

LABORATORY = ROOT.parent / "shared" / "kube-lab"
SERVED = "http://git.argocd.svc/project.git"
OURS = "https://git.example.org/shardmart.git"
NAMESPACE = "shardmart-staging"
"""Where the staging environment lives; its Applications have the same name, and one with shop in it."""


STEP_UP = """
from pathlib import Path
from shardmart.cluster.protocol.connection import Credentials, Tls, connect
from shardmart.platforms.state import State
state = State(Path("/state"))
keyfile = Credentials(keyfile=state.keyfile, tls=Tls.trusting(state.authority))
for declared in state.description().replica_sets:
    with connect(declared.members[0].address, keyfile, timeout_seconds=3) as client:
        if not client.admin.command("hello")["isWritablePrimary"]:
            client.admin.command("replSetStepUp")
"""


class Repository:
    """A git repository of the charts and k8s/gitops, published inside the cluster; a change is a commit."""

    def __init__(self, folder: Path, site: KindSite) -> None:
        self.folder = folder
        self._site = site
        for name in ("helm/sharded-mongodb", "helm/shop", "k8s/gitops"):
            shutil.copytree(ROOT / name, folder / name)
        self._staging = folder / "k8s" / "gitops" / "staging"
        self._git("init", "--quiet", "--initial-branch=main")

    @property
    def cluster(self) -> Path:
        """The staging environment's cluster.yaml."""
        return self._staging / "cluster.yaml"

    @property
    def values(self) -> Path:
        """The staging environment's values.yaml."""
        return self._staging / "values.yaml"

    @property
    def shop_values(self) -> Path:
        """The staging environment's shop-values.yaml."""
        return self._staging / "shop-values.yaml"

    def merge(self, file: Path, **changes: Any) -> None:
        """Write changes over a YAML file, mappings key by key, everything else as a whole."""
        file.write_text(yaml.safe_dump(_merged(yaml.safe_load(file.read_text()), changes), sort_keys=False))

    def commit(self, subject: str) -> str:
        """Commit what was changed and publish it; the commit's id."""
        self._git("add", "--all")
        self._git(
            "-c", "user.name=operator", "-c", "user.email=operator@example.org", "commit", "--quiet", f"-m{subject}"
        )
        serve = [str(LABORATORY / "git-serve"), "--repo", str(self.folder), "--name", self._site.name]
        self._site.run(*serve, "--kubeconfig", str(self._site.kubeconfig))
        return self.head()

    def head(self) -> str:
        """The last commit's id."""
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True).stdout


class InNamespace(KindSite):
    """The platform that git made: release `shardmart` in the staging namespace of a site's kind cluster."""

    def __init__(self, site: KindSite) -> None:
        self.__dict__ |= site.__dict__

    def kubectl(self, *arguments: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        return self.run("kubectl", f"--namespace={NAMESPACE}", *arguments, text=text, accept=accept)

    def toolbox(self, *command: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        return self.kubectl("exec", "-i", "deploy/shardmart-toolbox", "--", *command, text=text, accept=accept)

    def status(self) -> dict[str, Any]:
        """What `shardmart status --json` says."""
        found: dict[str, Any] = json.loads(self.toolbox("shardmart", "status", "--json"))
        return found

    def wait_until_well(self) -> None:
        """Until `shardmart status` finds nothing that is wrong, in the shop either."""
        self.wait("a status without problems", lambda: self.status()["problems"] == [])

    def shards(self) -> list[str]:
        """Names of the shards there are."""
        return [shard["name"] for shard in self.status()["sharding"]["shards"]]

    def first_members_lead(self) -> None:
        """Have every set led by its first member, as the bootstrap left it: an election may have moved the primary."""

        def lead() -> bool:
            self.toolbox("python3", "-", text=STEP_UP)
            sets = self.sets().values()
            return all(next(iter(found["states"].values())) == "PRIMARY" for found in sets)

        self.wait("the first member of every set to be its primary", lead)

    def servers(self) -> dict[str, str]:
        """What a change of the cluster would change: each StatefulSet's generation, and which pods there are."""
        sets = {found["metadata"]["name"]: str(found["metadata"]["generation"]) for found in self.get("statefulset")}
        pods = self.get("pods", "--selector=app.kubernetes.io/component in (config-server,shard,router)")
        return sets | {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}


def install_argocd(site: KindSite) -> None:
    """Have a real Argo CD in the site's kind cluster."""
    site.run(str(LABORATORY / "argocd-up"), "--name", site.name, "--kubeconfig", str(site.kubeconfig))


def hooks(operation: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Phase and message of every Job and Pod that was a hook of an operation, by name.

    Argo CD gives every object a hookPhase, and a hook alone a hookType; a hook's rights are hooks, too.
    """
    results = operation.get("syncResult", {}).get("resources", [])
    ran = [one for one in results if one.get("hookType") and one["kind"] in ("Job", "Pod")]
    return {one["name"]: (one["hookPhase"], one.get("message", "")) for one in ran}


class Application:
    """One Application of k8s/gitops/argocd, and what Argo CD says of it."""

    def __init__(self, site: KindSite, name: str) -> None:
        self._site = site
        self.name = name

    def apply(self, repository: Repository, *files: str) -> None:
        """Apply files of k8s/gitops/argocd as the repository has them, but for its address."""
        for name in files:
            text = (repository.folder / "k8s" / "gitops" / "argocd" / f"{name}.yaml").read_text()
            assert OURS in text
            self._site.run("kubectl", "apply", "-f", "-", text=text.replace(OURS, SERVED))

    def delete(self) -> None:
        """Have Argo CD forget it; what it made stays, because the Application has no finalizer."""
        self._kubectl("delete", "application", self.name, "--ignore-not-found")

    def exists(self) -> bool:
        """Whether it was applied."""
        return bool(self._kubectl("get", "application", self.name, "--ignore-not-found", "--output=name"))

    def found(self) -> dict[str, Any]:
        """The Application as it is."""
        found: dict[str, Any] = json.loads(self._kubectl("get", "application", self.name, "-o", "json"))
        return found

    def refresh(self, how: str = "normal") -> None:
        """Have it look at git now ("hard": render anew too) instead of in some minutes."""
        self._kubectl("annotate", "--overwrite", "application", self.name, f"argocd.argoproj.io/refresh={how}")

    def look(self, how: str) -> None:
        """Refresh, and wait until it has looked."""

        def at() -> str | None:
            found: str | None = self.found().get("status", {}).get("reconciledAt")
            return found

        before = at()
        self.refresh(how)
        self._site.wait(f"{self.name} to look at the cluster", lambda: at() not in (None, before))

    def operation(self) -> dict[str, Any]:
        """The last operation; empty for the moment in which the next one begins."""
        found: dict[str, Any] = self.found().get("status", {}).get("operationState") or {}
        return found

    def hooks(self) -> dict[str, tuple[str, str]]:
        """Phase and message of every hook that ran in the last operation, by name."""
        return hooks(self.operation())

    def out_of_sync(self) -> list[dict[str, Any]]:
        """Objects that are not as git has them; the Application itself where it is not Synced as a whole."""
        status = self.found()["status"]
        apart = [one for one in status.get("resources", []) if one.get("status") not in ("Synced", None)]
        return apart or ([] if status["sync"]["status"] == "Synced" else [status["sync"]])

    def wait_until(self, state: str, commit: str, seconds: float = 420) -> dict[str, Any]:
        """What Argo CD says once it is Synced and Healthy at this commit and its last operation succeeded.

        A commit that changes no object needs no operation of its own.
        """
        self.refresh()

        def reached() -> dict[str, Any] | None:
            status = self.found().get("status", {})
            operation = status.get("operationState") or {}
            synced = status.get("sync", {})
            healthy = status.get("health", {}).get("status") == "Healthy"
            good = healthy and synced.get("status") == "Synced" and synced.get("revision") == commit
            return status if good and operation.get("phase") == "Succeeded" else None

        found: dict[str, Any] = self._site.wait(f"{state}: Synced and Healthy at {commit[:12]}", reached, seconds)
        return found

    def _kubectl(self, *arguments: str) -> str:
        return self._site.run("kubectl", "--namespace=argocd", *arguments)


class Rest:
    """What Argo CD says of an Application from now on: every state that it writes is read as it comes.

    Nobody may commit what changes this Application meanwhile. It looks by itself every two to three minutes.
    """

    def __init__(self, site: KindSite, application: Application, folder: Path) -> None:
        self.name = application.name
        self._begun = time.monotonic()
        self._file = folder / f"{self.name}-at-rest"
        state = r'jsonpath={.status.sync.status} {.status.reconciledAt}{"\n"}'
        watch = ["kubectl", "--namespace=argocd", "get", "application", self.name, "--watch", f"--output={state}"]
        with self._file.open("w") as file:
            self._watch = subprocess.Popen(watch, env=site.environment, stdout=file, stderr=subprocess.STDOUT)

    def states(self, seconds: float) -> list[tuple[str, str]]:
        """Wait until it has rested that long; each state with the time of the look, ISO 8601, that gave it."""
        left = max(0.0, seconds - (time.monotonic() - self._begun))
        try:
            code = self._watch.wait(left)
        except subprocess.TimeoutExpired:
            said = self._file.read_text()
            return [(state, at) for state, _, at in (line.partition(" ") for line in said.splitlines())]
        raise AssertionError(f"the watch of {self.name} ended with {code}: {self._file.read_text()[-2000:]}")

    def end(self) -> None:
        """Stop reading."""
        self._watch.terminate()
        self._watch.wait(30)


@dataclass
class GitOps:
    """The repository, the Applications of its staging environment, and the platform that Argo CD made of it.

    `first` is what Argo CD said of the cluster after its first sync; `steps` has what each step took;
    `rest` is what is read of the cluster's Application since.
    """

    repository: Repository
    cluster: Application
    shop: Application
    site: InNamespace
    first: dict[str, Any]
    steps: StepTable
    rest: Rest

    @property
    def applications(self) -> tuple[Application, Application]:
        """Cluster and shop."""
        return self.cluster, self.shop


@contextmanager
def synchronised(site: KindSite, folder: Path, steps: StepTable) -> Iterator[GitOps]:
    """Argo CD in a site's kind cluster, and the staging environment synchronised once; gone afterwards."""
    used = {c["name"]: c["image"].split(":") for pod in site.get("pods") for c in pod["spec"]["containers"]}
    images = {name: dict(zip(("repository", "tag"), used[name], strict=True)) for name in ("mongod", "toolbox")}
    there = KindSite(folder, site.name, services={})
    there.kubeconfig = site.kubeconfig
    install_argocd(there)
    repository = Repository(folder / "repository", there)
    # What an operator writes into the environment first: the registry.
    repository.merge(repository.values, image=images["mongod"], toolbox={"image": images["toolbox"]})
    repository.commit("Our images")
    cluster, shop = Application(there, NAMESPACE), Application(there, "shardmart-shop-staging")
    rest: Rest | None = None
    begun = time.monotonic()
    cluster.apply(repository, "project", "staging")
    try:
        built = there.images()  # while the cluster is made
        repository.merge(repository.shop_values, image=built["shop"], cache={"image": built["cache"]})
        commit = repository.commit("The shop's images")
        first = cluster.wait_until("the first sync", commit, seconds=600)
        steps.timed("first sync of the cluster, from nothing to seeded and verified", begun)
        rest = Rest(there, cluster, folder)
        begun = time.monotonic()
        shop.apply(repository, "staging-shop")
        shop.wait_until("the shop", commit, seconds=600)
        steps.timed("first sync of the shop, from nothing to an order confirmed", begun)
        yield GitOps(repository, cluster, shop, InNamespace(there), first, steps, rest)
    finally:
        if rest:
            rest.end()
        shop.delete()
        cluster.delete()
        there.run("kubectl", "delete", "namespace", NAMESPACE, "--wait=false", "--ignore-not-found")


def _merged(before: Any, after: Any) -> Any:
    if isinstance(before, dict) and isinstance(after, dict):
        return before | {key: _merged(before.get(key), value) for key, value in after.items()}
    return after
