"""Who works on a Helm release: a Lease beside it with the name of the run, renewed while the run lives.

Helm marks a release as pending and says neither who works on it nor whether anybody still does; an upgrade whose hooks
move data for an hour looks like one that was killed an hour ago.  A run of ours therefore keeps a Lease
(`coordination.k8s.io/v1`) of the release's name.  One that is renewed has a live run; one that is not, or an old one,
has none.  Where Leases are not allowed nothing is kept, and nothing fails.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType

from .kubernetes_commands import Commands

LEASE_SECONDS = 60
"""A run that has not renewed its Lease for so long is dead."""
RENEW_SECONDS = 10
LOOKED_AT_SECONDS = 25
"""As long as a Lease is watched before it counts as old: clocks of two machines differ, and a live run renews it."""
FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


def lease_of(release: str) -> str:
    """The name of a release's Lease."""
    return f"shardmart-{release}"


@dataclass(frozen=True)
class Release:
    """One release, and how to ask for what is beside it."""

    commands: Commands
    namespace: str
    name: str

    def run(self, *words: str, data: str | None = None) -> str | None:
        """What kubectl says in the release's namespace; None when it fails."""
        done = self.commands.run(self.commands.kubectl(f"--namespace={self.namespace}", *words), data)
        return None if done.returncode else done.stdout


class Held:
    """A context in which this process is the one that works on a release."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.identity = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._over = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> None:
        self._write()
        self._renewing.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._renewing.join()
        self.release.run("delete", "lease", lease_of(self.release.name), "--ignore-not-found", "--wait=false")

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            self._write()

    def _write(self) -> None:
        document = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": lease_of(self.release.name), "labels": {"shardmart/made-by": "site.yml"}},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": datetime.now(UTC).strftime(FORMAT),
            },
        }
        words = ("apply", "--server-side", "--force-conflicts", "--field-manager=shardmart", "--filename=-")
        self.release.run(*words, data=json.dumps(document))


@dataclass
class Watched:
    """What was seen of a release's Lease while somebody else may be working on it."""

    release: Release
    _renewed: str | None = None
    _seen: float = 0.0
    _holder: str | None = None

    def was_held(self, pending_seconds: float) -> bool:
        """Whether a run that kept a Lease began the work that has been pending for so long.

        One from before that is another run's.  Both times are of the machine of that run, which writes its Lease first.
        """
        return self._renewed is not None and age(self._renewed) <= pending_seconds + LEASE_SECONDS

    def holder(self) -> str | None:
        """The name of the run that works on the release; None when none is known, or the one that was is dead.

        Where the Lease cannot be asked for, it is as it was.
        """
        words = ("--ignore-not-found", "--request-timeout=20s", "--output=json")
        answer = self.release.run("get", "lease", lease_of(self.release.name), *words)
        if answer is None:
            return self._holder
        spec = json.loads(answer or "{}").get("spec") or {}
        renewed = spec.get("renewTime")
        if renewed and renewed != self._renewed:
            self._renewed, self._seen = renewed, time.monotonic()
        lives = renewed and (age(renewed) < LEASE_SECONDS or time.monotonic() - self._seen < LOOKED_AT_SECONDS)
        self._holder = str(spec.get("holderIdentity")) if lives else None
        return self._holder


def age(renewed: str) -> float:
    """Seconds since a time of a Lease; many for one that cannot be read."""
    try:
        moment = datetime.strptime(renewed, FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return float("inf")
    return (datetime.now(UTC) - moment).total_seconds()
