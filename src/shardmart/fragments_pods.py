"""`shardmart fragments` where the nodes are pods: the command runs beside them, in the pod of the repair's timer.

That pod has the configuration and the passwords; a laptop has neither a way to the nodes nor, for it, a need of one.
Nothing here knows what a command does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from shardmart import platforms
from shardmart.cluster.errors import ClusterError
from shardmart.command import ending
from shardmart.declare import fragments_chart
from shardmart.errors import ShardmartError, UnreachableError
from shardmart.fragments import cli
from shardmart.fragments.configuration import FILE
from shardmart.fragments.connection import UnknownOutcomeError
from shardmart.platforms.kubernetes import KubernetesPlatform
from shardmart.platforms.state import State

ENDED = "command terminated with exit code"
OWN = ("Error from server", "error: ", "Unable to connect to the server", "The connection to the server", "E0", "E1")
"""How lines of kubectl begin when it fails itself."""
NEVER = OWN[2:4]
"""So it begins where it reached nobody."""
LOST = ("EOF", "connection reset", "broken pipe", "lost connection", "stream error", "connection unexpectedly closed")
"""What kubectl says of a connection that there was."""
HERE = {"--help", "-h", "layout"}
"""Words of commands that ask no store."""


@dataclass(frozen=True)
class There:
    """A command of kubectl, and the environment in which it leads to the right Kubernetes."""

    words: Sequence[str]
    environment: Mapping[str, str]
    deployment: str


def invocation_beside(arguments: Sequence[str]) -> There | None:
    """How to run `shardmart fragments` with `arguments` beside the nodes; None where it runs here.

    It runs here with a configuration that is named or in the state folder, and where the cluster is no pods.
    """
    named = any(word.split("=")[0] == "--configuration" for word in arguments) or "SHARDMART_FRAGMENTS" in os.environ
    if named or not arguments or HERE & set(arguments):
        return None
    state = State.find()
    if (state.folder / FILE).exists() or (Path(os.environ.get("SHARDMART_STATE") or ".shardmart") / FILE).exists():
        return None
    try:
        platform = platforms.of(state)
    except (ShardmartError, ClusterError):
        return None  # no cluster: the command says itself what it misses
    if platform.direct or not isinstance(platform, KubernetesPlatform):
        return None
    deployment = f"{fragments_chart.release_of(platform.release.release)}-repair"
    words = ["exec", "--quiet", "--container=repair", f"deploy/{deployment}", "--", "shardmart", "fragments"]
    return There(platform.kubectl_command(*words, *arguments), platform.environment(), deployment)


def run(there: There) -> int:
    """Run it, pass on what it says as it says it, and return its exit code.

    UnreachableError where kubectl did not get as far as the command; UnknownOutcomeError where it lost it on the way.
    """
    process = subprocess.Popen(  # noqa: S603
        there.words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=there.environment,
    )
    said: list[str] = []
    assert process.stdout
    assert process.stderr
    # In a thread: a pipe that nobody reads stops who writes to it.
    listener = threading.Thread(target=_keep, args=(process.stderr, said), daemon=True)
    listener.start()
    try:
        heard = False
        for line in process.stdout:
            heard = True
            print(line, end="", flush=True)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        listener.join(5)
    if code == 1 and any("(NotFound)" in line for line in said):
        raise UnreachableError(f"there is no deployment {there.deployment}: run playbooks/fragments.yml")
    # kubectl's own last line says the exit code once more; where it has none, the command did not end, or never ran.
    ended = any(line.startswith(ENDED) for line in said)
    own = [line.strip() for line in said if line.startswith(OWN)] if code and not ended else []
    lost = (
        bool(own)
        and not own[-1].startswith(NEVER)
        and (heard or len(own) < len(said) or any(word in own[-1] for word in LOST))
    )
    if own and not lost:
        raise UnreachableError(f"kubectl does not get to deployment {there.deployment}: {own[-1]}")
    for line in said:
        if not line.startswith(ENDED):
            print(line, end="", file=sys.stderr, flush=True)
    if lost:
        raise UnknownOutcomeError(
            f"kubectl lost the command in deployment {there.deployment}, which may have done its work: look before "
            f"you run it again: {own[-1]}"
        )
    return code


def _keep(stream: IO[str], said: list[str]) -> None:
    said.extend(stream)


def main(arguments: list[str]) -> int:
    """Run `shardmart fragments` with `arguments`, here or there; returns the exit code."""

    def body() -> int:
        there = invocation_beside(arguments)
        return run(there) if there else cli.main(arguments)

    return ending("fragments", body)
