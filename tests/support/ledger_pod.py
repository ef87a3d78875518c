"""A pod that writes through the routers while something else is done, and counts afterwards what became of each write.

It is like the toolbox's pod and none of its Deployment: a change that replaces the toolbox leaves the writer alone.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.kind_site import KindSite
from tests.support.step_table import StepTable

POD = "ledger"
# The image has no pkill.
STOP = """
import os, signal
from pathlib import Path
for file in Path("/proc").glob("[0-9]*/cmdline"):
    if b"ledger\\0run" in file.read_bytes():
        os.kill(int(file.parent.name), signal.SIGINT)
"""
WORK = ("--workload=orders", "--clients=2", "--rate=40", "--duration=1800", "--state=/state", "--json")
ENDED = (0, 130)


@dataclass
class LedgerPod:
    """The pod of the release `shardmart`, made at once; what the ledger says of each step goes into the table."""

    site: KindSite
    steps: StepTable
    _journals: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        toolbox = json.loads(self.site.kubectl("get", "deployment", "shardmart-toolbox", "-o", "json"))
        template = toolbox["spec"]["template"]
        # The bootstrap Job's policy: it may speak to the cluster, and `kubectl exec deploy/...` does not take it.
        labels = template["metadata"]["labels"] | {"app.kubernetes.io/component": "bootstrap"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "labels": labels}, "spec": template["spec"]}
        self.site.kubectl("apply", "-f", "-", text=json.dumps(pod))
        self.site.kubectl("wait", f"pod/{POD}", "--for=condition=Ready", "--timeout=240s")

    def run(self, *command: str, text: str | None = None, accept: tuple[int, ...] = (0,)) -> str:
        """Output of a command in the pod."""
        return self.site.kubectl("exec", "-i", POD, "--", *command, text=text, accept=accept)

    @contextmanager
    def writing(self, step: str) -> Iterator[None]:
        """Write within the block; AssertionError when the writer ended early, or a write is lost or there twice."""
        journal = f"/tmp/{next(self._journals)}"
        said: list[str] = []
        over = threading.Event()

        def write() -> None:
            try:
                said.append(self.run("shardmart", "ledger", "run", f"--journal={journal}", *WORK, accept=ENDED))
            except AssertionError as error:
                said.append(str(error))
            over.set()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            written = ("find", journal, "-name", "orders-*", "-size", "+4")
            self.site.wait("the ledger to write", lambda: over.is_set() or self.run(*written))
            assert not over.is_set(), f"the ledger ended before {step}: {said}"
            yield
            assert not over.is_set(), f"the ledger ended while {step}: {said}"
        finally:
            self.run("python3", "-", text=STOP)
            writer.join(240)
            assert not writer.is_alive(), "the ledger was told to stop"
        told = self.run("shardmart", "ledger", "check", journal, "--state=/state", "--json", accept=(0, 1))
        verdict = json.loads(told)
        self.steps.judged(step, verdict)
        assert verdict["clean"], f"{step}: {told}"

    def delete(self) -> None:
        """End it."""
        self.site.kubectl("delete", "pod", POD, "--ignore-not-found", "--grace-period=1")
