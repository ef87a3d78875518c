"""The chart's toolbox pod, from outside: where it is, and processes in it by `kubectl exec`.

On kind a laptop cannot reach pods, the toolbox can: `chaos.access`, `chaos.observation` and some faults use it.
Exec, not port-forward: a forwarded port dies with the router pod it leads to, which is what experiments kill.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardmart.declare.chart import ROUTERS
from shardmart.platforms.state import State

from .errors import ChaosError

CONTAINER = "toolbox"
STOP_LINE = b"\n"
"""Said before the standard input of `chaos.inside` is closed, and means the same.

`kubectl exec` sends the end of input under the time limit of its last write, 60 s (client-go's WebSocket streams; seen
with kubectl 1.34): later than that it is lost, and the connection breaks a minute after.  A line renews the limit.
"""


def inside_kubernetes(state: State) -> bool:
    """Whether this process runs in a pod, beside the servers."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and not (state.folder / "kubeconfig").exists()


def last_line(text: bytes) -> str:
    """The last line of standard error that says something; `kubectl` adds one that says only that there was one."""
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("command terminated with")]
    return (told or lines or [""])[-1].strip()


def last_words(process: subprocess.Popen[bytes]) -> str:
    """What a process that has ended said last."""
    return last_line(process.stderr.read()) if process.stderr and process.poll() is not None else ""


@dataclass(frozen=True)
class Release:
    """Where the chart was installed, read from the pods' addresses: RELEASE-mongos-1.RELEASE-mongos.NAMESPACE.svc."""

    name: str
    namespace: str

    @classmethod
    def of(cls, cluster: Mapping[str, Any]) -> Release:
        """The release of a cluster.json of the platform kind."""
        pod, workload, namespace, *_ = cluster["routers"][0]["host"].split(".")
        del pod
        return cls(workload.removesuffix(f"-{ROUTERS}"), namespace)

    @property
    def chaos_namespace(self) -> str:
        """The namespace of the pods that hold faults: not the database's, which forbids what they need."""
        return f"{self.namespace}-chaos"


@dataclass(frozen=True)
class Toolbox:
    """The toolbox of one release.  Raises ChaosError when there is no kubectl."""

    release: Release
    kubeconfig: Path | None

    @classmethod
    def of(cls, state: State, cluster: Mapping[str, Any]) -> Toolbox:
        """The toolbox of the cluster in this state folder: `kubeconfig` there, else the user's own."""
        kubeconfig = state.folder / "kubeconfig"
        return cls(Release.of(cluster), kubeconfig if kubeconfig.exists() else None)

    def exec_command(self, *words: str) -> list[str]:
        """The command line that runs `words` in the toolbox."""
        program = shutil.which("kubectl")
        if program is None:
            raise ChaosError("kubectl is not on PATH: a cluster on kind cannot be reached without it")
        return [
            program,
            *([f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []),
            f"--namespace={self.release.namespace}",
            *("exec", "--stdin", "--quiet", f"--container={CONTAINER}", f"deploy/{self.release.name}-toolbox", "--"),
            *words,
        ]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A process in the toolbox with pipes to it.  It has to end at STOP_LINE and when its standard input does: a
        signal to `kubectl` does not reach it."""
        return subprocess.Popen(  # noqa: S603
            self.exec_command(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C stops the experiment; what works in the toolbox is stopped in order
        )

    def run(self, *words: str, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; ChaosError when it takes longer than `timeout_s`."""
        try:
            return subprocess.run(  # noqa: S603
                self.exec_command(*words), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise ChaosError(f"waited {timeout_s:g} s for {' '.join(words[:4])} in the toolbox") from None
