"""The chart's toolbox pod, from outside: where it is, and processes in it by `kubectl exec`.

A laptop cannot reach pods, the toolbox can.
Exec, not port-forward: a forwarded port dies with the router pod it leads to, which is what experiments kill.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shardmart.cluster.description import Cluster, Kubernetes
from shardmart.platforms.state import State

from ..errors import ChaosError

CONTAINER = "toolbox"
AGENT = ("python3", "-m", "shardmart.chaos.agents.toolbox")
"""The program that works there; a word follows that says what it does."""
STOP_LINE = b"\n"
"""Said before the standard input of the agent is closed, and means the same.

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
class Toolbox:
    """The toolbox of one release, and the kubeconfig that leads there: None is the user's own."""

    release: Kubernetes
    kubeconfig: Path | None

    @classmethod
    def between(cls, state: State, cluster: Cluster) -> Toolbox | None:
        """The toolbox that stands between this process and the cluster; None when it reaches the servers by itself."""
        if cluster.kubernetes is None or inside_kubernetes(state):
            return None
        kubeconfig = state.folder / "kubeconfig"
        return cls(cluster.kubernetes, kubeconfig if kubeconfig.exists() else None)

    def exec_command(self, *words: str) -> list[str]:
        """The command line that runs `words` in the toolbox.  ChaosError when there is no kubectl."""
        program = shutil.which("kubectl")
        if program is None:
            raise ChaosError("kubectl is not on PATH: pods cannot be reached without it")
        return [
            program,
            *([f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []),
            f"--namespace={self.release.namespace}",
            *("exec", "--stdin", "--quiet", f"--container={CONTAINER}", f"deploy/{self.release.toolbox}", "--"),
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
