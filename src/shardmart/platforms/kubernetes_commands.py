"""Command lines of kubectl and Helm that work on exactly one Kubernetes, whatever the environment says.

Both programs take from the environment what a command line leaves out (`HELM_KUBEAPISERVER`, `KUBECONFIG`, a personal
`kuberc`), so file and context are always said and nothing that could name another cluster is passed on.  Nothing here
reads or writes a kubeconfig.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from .kubernetes import names_another


@dataclass(frozen=True)
class Commands:
    """kubectl and Helm with one kubeconfig and one context of it; `context` None is the file's current one."""

    kubeconfig: str
    context: str | None = None

    def kubectl(self, *words: str) -> list[str]:
        """The command line of kubectl."""
        return ["kubectl", f"--kubeconfig={self.kubeconfig}", *self._context("--context"), *words]

    def helm(self, program: str, *words: str) -> list[str]:
        """The command line of Helm, whose name or path is `program`."""
        return [program, f"--kubeconfig={self.kubeconfig}", *self._context("--kube-context"), *words]

    def run(
        self, command: Sequence[str], data: str | None = None, timeout_s: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run one of these command lines to its end; `data` is its standard input.

        FileNotFoundError when the program is missing, subprocess.TimeoutExpired when it is too slow.
        """
        return subprocess.run(  # noqa: S603
            command,
            env=environment(),
            input=data or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def _context(self, option: str) -> list[str]:
        return [f"{option}={self.context}"] if self.context else []


def environment() -> dict[str, str]:
    """This process's environment without a variable that may name another Kubernetes, and without personal defaults."""
    return {name: value for name, value in os.environ.items() if not names_another(name)} | {"KUBERC": "off"}
