"""A ring on this machine: its servers run, its users, settings and membership are as the topology declares them.

Everything lies in `rings/NAME` of the state folder.  A node that the topology has more or less is moved to or from
while clients work, by the ring's own mover; servers that are not needed any more stop last.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cluster.host.files import write_whole
from ..cluster.host.processes import Process, stop
from ..ring.declared import Declared, wait_until_whole
from ..ring.declared import converge as have
from ..ring.node.nodes import NOTICED_SECONDS
from ..ring.settings import FILE, Settings
from . import keyfile
from .platform import PlatformError
from .standalone import Standalone, keyfile_in, start_all, stop_all

USER = "ring"
TIMEOUT_SECONDS = 2.0


def settings_of(state: Path, ring: str) -> Path:
    """The file of a ring's settings in a state folder."""
    return state / "rings" / ring / FILE


def left_over(state: Path, declared: Iterable[str]) -> dict[str, list[Process]]:
    """The servers that run of each ring in a state folder that is not among `declared`: an earlier topology's."""
    known = set(declared)
    found = {}
    for folder in sorted((state / "rings").glob("*/run")):
        if (ring := folder.parent).name not in known:
            processes = [Standalone(file.stem, 0).process(ring, "mongod") for file in sorted(folder.glob("*.pid"))]
            found[ring.name] = [process for process in processes if process.running()]
    return {name: running for name, running in found.items() if running}


@dataclass(frozen=True)
class EmbeddedRing:
    """One declared ring (`declare.rings.Ring.as_variable`) in a state folder."""

    declared: Mapping[str, Any]
    state: Path

    @property
    def name(self) -> str:
        """The ring's name."""
        return str(self.declared["name"])

    @property
    def folder(self) -> Path:
        """Where it keeps everything but its password."""
        return settings_of(self.state, self.name).parent

    @property
    def settings_file(self) -> Path:
        """What clients are given; it holds passwords."""
        return settings_of(self.state, self.name)

    @property
    def servers(self) -> list[Standalone]:
        """The store, then the nodes."""
        tls = self.state / "tls" if self.declared.get("tls") else None
        declared = (self.declared["store"], *self.declared["nodes"])
        return [Standalone.of(one, self.declared["cache_mb"], tls) for one in declared]

    def converge(self, mongod: str, *, wait_seconds: float, check: bool) -> list[str]:
        """Make it as declared; what was (or with `check` would be) changed.  ShardmartError, DeadlineError."""
        processes = [server.process(self.folder, mongod) for server in self.servers]
        changes = [f"start {process.name}" for process in processes if not process.running()]
        outdated = [process for process in processes if process.running() and process.configuration_change()]
        changes += [f"restart {process.name}: its configuration changed" for process in outdated]
        if check:
            return changes
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        password = self._password()
        self._restart(outdated, mongod, self._document(password), wait_seconds)
        start_all(self.servers, self.folder, mongod, wait_seconds=wait_seconds)
        system = keyfile.read(keyfile_in(self.folder))
        for server in self.servers:
            uri = server.uri(USER, password)
            if keyfile.have_user(server.name, uri, system, f"ring_{self.name}", wait_seconds):
                changes.append(f"create the user of {server.name}")
            keyfile.take_certificate(server.name, uri, system, wait_seconds)
        known = self._known()
        document = self._document(password)
        during = document | {"nodes": known.get("nodes", {}) | document["nodes"]}
        settings = Settings(**during)
        if known != document:
            self._write(during)
            changes.append("write the settings")
        changes += asyncio.run(have(settings, self._members(), wait_seconds))
        if during != document:
            self._write(document)
        # Also what an earlier run left that ended before this: nothing in the folder tells then that nodes have gone.
        changes += [f"stop {name}" for name in self._stop_others(mongod, wait_seconds)]
        return changes

    def _restart(self, outdated: list[Process], mongod: str, document: Mapping[str, Any], wait_seconds: float) -> None:
        """Restart these one at a time, each compared with the others before the next goes: the ring answers all along.

        All at once where clients reach them otherwise afterwards (TLS turned on or off), which no settings bridge.
        """
        known = self._known()
        as_before = known.get("store") == document["store"] and all(
            known["nodes"].get(name, uri) == uri for name, uri in document["nodes"].items()
        )
        if not as_before or not outdated:
            stop(outdated, wait_seconds=wait_seconds)
            return
        settings = Settings(**known)
        start_all(self.servers, self.folder, mongod, wait_seconds=wait_seconds)
        for process in outdated:
            asyncio.run(wait_until_whole(settings, wait_seconds))
            # Clients are in other processes and tell nobody what they know: one that still does without the node before
            # would have no holder left for the keys of the two.
            time.sleep(NOTICED_SECONDS)
            stop([process], wait_seconds=wait_seconds)
            start_all(self.servers, self.folder, mongod, wait_seconds=wait_seconds)

    def stop(self, *, wait_seconds: float, check: bool) -> list[str]:
        """Stop its servers, nodes first."""
        servers = list(reversed(self.servers))
        if check:
            running = [server.name for server in servers if server.process(self.folder, "mongod").running()]
        else:
            running = stop_all(servers, self.folder, wait_seconds=wait_seconds)
            running += self._stop_others("mongod", wait_seconds)
        return [f"stop {name}" for name in running]

    def _members(self) -> Declared:
        weights = {node["name"]: node["weight"] for node in self.declared["nodes"]}
        return Declared(weights, self.declared["copies"], self.declared["virtual_nodes"])

    def _document(self, password: str) -> dict[str, Any]:
        store, *nodes = self.servers
        return {
            "name": self.name,
            "nodes": {node.name: node.uri(USER, password) for node in nodes},
            "store": store.uri(USER, password),
            "timeout_seconds": TIMEOUT_SECONDS,
        }

    def _known(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.settings_file.read_text())
        except FileNotFoundError:
            return {}
        return found

    def _write(self, document: dict[str, Any]) -> None:
        write_whole(self.settings_file, json.dumps(document, indent=2) + "\n")

    def _password(self) -> str:
        file = self.state / "secrets" / f"ring-{self.name}-{USER}.password"
        try:
            return file.read_text().strip()
        except FileNotFoundError:
            raise PlatformError(f"no password in {file}: the role `ring` makes it") from None

    def _stop_others(self, mongod: str, wait_seconds: float) -> list[str]:
        declared = {server.name for server in self.servers}
        names = sorted({pid_file.stem for pid_file in (self.folder / "run").glob("*.pid")} - declared)
        found = [Standalone(name, 0).process(self.folder, mongod) for name in names]
        return stop(found, wait_seconds=wait_seconds)
