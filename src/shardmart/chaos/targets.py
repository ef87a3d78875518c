"""Servers of the cluster and the words that select them.

Actions, probes and the engine resolve their selectors here, against cluster.json in the state folder:

    shard1-1                    one member or router by name        routers       every router
    shard1ReplSet               every member of a set               members       every member of every set
    primary:shard1ReplSet       the set's primary now               config        the config servers
    secondary:shard1ReplSet     one secondary (the last by name)    all           members and routers
    primary:config              the config servers' primary         outside       everybody else (network peers only)

It asks members as `__system`, the way `chaos.access` says, and only reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from shardmart.platforms.state import State

from .access import Access, DirectAccess, ToolboxAccess
from .errors import ChaosError
from .toolbox import Toolbox, inside_kubernetes

OUTSIDE = "outside"


@dataclass(frozen=True)
class Server:
    """A member or router.  `set_name` is None for routers; `role` is config, shard or router."""

    name: str
    host: str
    port: int
    role: str
    set_name: str | None

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"


_accesses: dict[Path, Access] = {}


def _access(state: State, cluster: Mapping[str, Any]) -> Access:
    """One way in per state folder and process: a way through the toolbox takes a second to open."""
    if state.folder not in _accesses:
        on_laptop = cluster["platform"] == "kind" and not inside_kubernetes(state)
        _accesses[state.folder] = ToolboxAccess(Toolbox.of(state, cluster)) if on_laptop else DirectAccess(state)
    return _accesses[state.folder]


class Targets:
    """The servers of one cluster.  Raises StateError when the state folder has none."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.cluster: Mapping[str, Any] = state.cluster()
        self.platform: str = self.cluster["platform"]
        self.access = _access(state, self.cluster)
        config = self.cluster["config_servers"]
        self.config_set: str = config["name"]
        self.servers: list[Server] = [
            Server(member["name"], member["host"], member["port"], role, replica_set["name"])
            for role, sets in (("config", [config]), ("shard", self.cluster["shards"]))
            for replica_set in sets
            for member in replica_set["members"]
        ]
        self.servers += [Server(r["name"], r["host"], r["port"], "router", None) for r in self.cluster["routers"]]

    @property
    def set_names(self) -> list[str]:
        """The config servers' set, then the shards."""
        return list(dict.fromkeys(s.set_name for s in self.servers if s.set_name))

    def set_named(self, name: str) -> str:
        """A set's name; `config` stands for the config servers."""
        name = self.config_set if name == "config" else name
        if name not in self.set_names:
            raise ChaosError(f"no replica set {name!r}; there are {', '.join(self.set_names)} and config")
        return name

    def members(self, set_name: str) -> list[Server]:
        """The members of a set."""
        name = self.set_named(set_name)
        return [server for server in self.servers if server.set_name == name]

    def server(self, name: str) -> Server:
        """The server called `name`; ChaosError that lists the names there are."""
        for server in self.servers:
            if server.name == name:
                return server
        raise ChaosError(f"no server {name!r}; there are {', '.join(s.name for s in self.servers)}")

    def resolve(self, selector: str | Iterable[str], wait_seconds: float = 20) -> list[Server]:
        """The servers a selector (or several, or a comma list) means now; a primary is waited for.

        Raises ChaosError for a word that means nothing, or when there is no such primary or secondary in time.
        """
        words = selector.split(",") if isinstance(selector, str) else list(selector)
        found: dict[str, Server] = {}
        for word in words:
            for server in self._resolve_one(word.strip(), wait_seconds):
                found[server.name] = server
        return list(found.values())

    def _resolve_one(self, word: str, wait_seconds: float) -> list[Server]:
        groups: dict[str, Callable[[Server], bool]] = {
            "all": lambda s: True,
            "members": lambda s: s.role != "router",
            "routers": lambda s: s.role == "router",
            "config": lambda s: s.role == "config",
        }
        if word in groups:
            return [server for server in self.servers if groups[word](server)]
        if ":" in word:
            kind, _, set_name = word.partition(":")
            name = self.set_named(set_name)
            if kind == "primary":
                return [self.wait_for_primary(name, wait_seconds)]
            if kind == "secondary":
                primary = self.wait_for_primary(name, wait_seconds)
                return [[m for m in self.members(name) if m != primary][-1]]
            raise ChaosError(f"selector {word!r}: only primary:SET and secondary:SET are known")
        if word in self.set_names:
            return self.members(word)
        return [self.server(word)]

    def command(self, server: Server, command: Mapping[str, Any], timeout_seconds: float = 2) -> dict[str, Any] | None:
        """A server's answer to a command on `admin` (or on its `$db`) as `__system`; None when it does not answer."""
        return self.access.command(server.address, command, timeout_seconds)

    def hello(self, server: Server, timeout_seconds: float = 1) -> dict[str, Any] | None:
        """What a server says of itself, without authentication; None when it does not answer."""
        return self.access.hello(server.address, timeout_seconds)

    def connect_ms(self, server: Server, timeout_seconds: float) -> float | None:
        """How long a TCP handshake with a server takes, milliseconds; None when there is none."""
        return self.access.connect_ms(server.address, timeout_seconds)

    def primary(self, set_name: str) -> Server | None:
        """The member that calls itself writable primary with the newest election, or None."""
        best: tuple[Any, Server] | None = None
        for member in self.members(set_name):
            answer = self.hello(member)
            if answer and answer.get("isWritablePrimary"):
                # A cut-off primary goes on calling itself primary for a while: the newer election wins.
                election = answer.get("electionId")
                if best is None or str(election) > str(best[0]):
                    best = election, member
        return best[1] if best else None

    def wait_for_primary(self, set_name: str, wait_seconds: float = 20) -> Server:
        """The set's primary; ChaosError when there is none in time."""
        end = time.monotonic() + wait_seconds
        while True:
            if primary := self.primary(set_name):
                return primary
            if time.monotonic() >= end:
                raise ChaosError(f"waited {wait_seconds:g} s for a primary of {set_name}")
            time.sleep(0.1)

    def pid_file(self, server: Server) -> Path:
        """Where the embedded platform keeps the server's pid."""
        return self.state.folder / "run" / f"{server.name}.pid"

    def process(self, server: Server) -> psutil.Process | None:
        """The server's live process on the embedded platform; None when it is down."""
        try:
            process = psutil.Process(int(self.pid_file(server).read_text().split()[0]))
            # The pid may have been given to another program: a server's command line names the state folder.
            if str(self.state.folder) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (OSError, ValueError, IndexError, psutil.Error):
            pass
        return None
