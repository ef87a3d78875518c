"""A real Argo CD in a kind cluster, and the git repository that it follows: this project's chart and environments."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.kind_site import ROOT, KindSite

LABORATORY = ROOT.parent / "shared" / "kube-lab"
SERVED = "http://git.argocd.svc/project.git"
OURS = "https://git.example.org/shardmart.git"
APPLICATION = "shardmart-staging"


class Repository:
    """A git repository of the chart and k8s/gitops, published inside the cluster; a change is a commit."""

    def __init__(self, folder: Path, site: KindSite) -> None:
        self.folder = folder
        self._site = site
        for name in ("helm/sharded-mongodb", "k8s/gitops"):
            shutil.copytree(ROOT / name, folder / name)
        self._git("init", "--quiet", "--initial-branch=main")

    @property
    def cluster(self) -> Path:
        """The staging environment's cluster.yaml."""
        return self.folder / "k8s" / "gitops" / "staging" / "cluster.yaml"

    @property
    def values(self) -> Path:
        """The staging environment's values.yaml."""
        return self.folder / "k8s" / "gitops" / "staging" / "values.yaml"

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
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True).stdout


class ArgoCd:
    """The Application of the staging environment, and what Argo CD says of it."""

    def __init__(self, site: KindSite) -> None:
        self._site = site
        site.run(str(LABORATORY / "argocd-up"), "--name", site.name, "--kubeconfig", str(site.kubeconfig))

    def follow(self, repository: Repository) -> None:
        """Apply project and staging Application as the repository has them, but for its address."""
        for name in ("project", "staging"):
            text = (repository.folder / "k8s" / "gitops" / "argocd" / f"{name}.yaml").read_text()
            assert OURS in text
            self._site.run("kubectl", "apply", "-f", "-", text=text.replace(OURS, SERVED))

    def application(self) -> dict[str, Any]:
        """The Application as it is."""
        found: dict[str, Any] = json.loads(self._kubectl("get", "application", APPLICATION, "-o", "json"))
        return found

    def refresh(self, how: str = "normal") -> None:
        """Have it look at git now ("hard": render anew too) instead of in some minutes."""
        self._kubectl("annotate", "--overwrite", "application", APPLICATION, f"argocd.argoproj.io/refresh={how}")

    def look(self, how: str) -> None:
        """Refresh, and wait until it has looked."""

        def at() -> str | None:
            found: str | None = self.application().get("status", {}).get("reconciledAt")
            return found

        before = at()
        self.refresh(how)
        self._site.wait("a look at the cluster", lambda: at() not in (None, before))

    def operation(self) -> dict[str, Any]:
        """The last operation; empty for the moment in which the next one begins."""
        found: dict[str, Any] = self.application().get("status", {}).get("operationState") or {}
        return found

    def wait_until(self, state: str, commit: str, seconds: float = 420) -> dict[str, Any]:
        """The Application, once it is Synced and Healthy at this commit and its last operation succeeded.

        A commit that changes no object needs no operation of its own.
        """
        self.refresh()

        def reached() -> dict[str, Any] | None:
            status = self.application().get("status", {})
            operation = status.get("operationState") or {}
            synced = status.get("sync", {})
            healthy = status.get("health", {}).get("status") == "Healthy"
            good = healthy and synced.get("status") == "Synced" and synced.get("revision") == commit
            return status if good and operation.get("phase") == "Succeeded" else None

        found: dict[str, Any] = self._site.wait(f"{state}: Synced and Healthy at {commit[:12]}", reached, seconds)
        return found

    def _kubectl(self, *arguments: str) -> str:
        return self._site.run("kubectl", "--namespace=argocd", *arguments)


def _merged(before: Any, after: Any) -> Any:
    if isinstance(before, dict) and isinstance(after, dict):
        return before | {key: _merged(before.get(key), value) for key, value in after.items()}
    return after
