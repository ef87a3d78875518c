"""Servers of the cluster and the words that select them.

Actions, probes and the engine resolve their selectors here, against the description in the state folder:

    shard1-1                    one member or router by name        routers       every router
    shard1ReplSet               every member of a set               members       every member of every set
    primary:shard1ReplSet       the set's primary now               config        the config servers
    secondary:shard1ReplSet     one secondary (the last by name)    all           members and routers
    primary:config              the config servers' primary         outside       everybody else (network peers only)
    payment-1                   a process of the shop by name       service:NAME  every instance of a service
    cache, load-balancer        what stands beside the services     shop          every process of the shop
    brokers, kafka-2            Kafka's, where events are on it    store         PostgreSQL, where the store is in it
    primary:store               the one of those that leads
    carts-2                     one server of a ring by name        ring:carts    the nodes of a ring, not its store

It asks members as `__system`, the way `targets.access` says, and only reads.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from shardmart import platforms
from shardmart.cluster.description import Cluster, Member, Node, ReplicaSet, Role
from shardmart.platforms import shop_nodes
from shardmart.platforms.embedded import EmbeddedPlatform, ring_servers
from shardmart.platforms.platform import Platform
from shardmart.platforms.state import State

from ..errors import ChaosError
from . import databases, regions, shop
from .access import Access, DirectAccess, ToolboxAccess

OUTSIDE = "outside"
AGENT = "shardmart.chaos.agents.toolbox"
"""The program that works beside the servers for an experimenter who cannot reach them."""

_accesses: dict[Path, Access] = {}


def start_agent(platform: Platform, word: str) -> subprocess.Popen[bytes]:
    """A process beside the servers that does what `word` says (see `agents.toolbox`)."""
    return platform.spawn([platform.python, "-m", AGENT, word])


def _access(state: State, platform: Platform) -> Access:
    """One way in per state folder and process: a way through the toolbox takes a second to open."""
    if state.folder not in _accesses:
        way = DirectAccess(state) if platform.direct else ToolboxAccess(partial(start_agent, platform, "answer"))
        _accesses[state.folder] = way
    return _accesses[state.folder]


NO_CLUSTER = Cluster("rings", EmbeddedPlatform.name, ReplicaSet("none", Role.CONFIG, ()), (), ())
"""What there is of a cluster where only rings are."""


class Targets:
    """The servers of one cluster and of the rings beside it.  StateError when the state folder has none of either."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.rings: Sequence[Node] = ring_servers(state.folder)
        only_rings = self.rings and not state.describes_a_cluster()
        self.platform: Platform = EmbeddedPlatform(state, NO_CLUSTER) if only_rings else platforms.of(state)
        self.cluster: Cluster = self.platform.cluster
        self.access = _access(state, self.platform)

    @property
    def servers(self) -> Sequence[Node]:
        """Every member, then every router, then the servers of rings."""
        return (*self.cluster.nodes, *self.rings)

    def require_cluster(self) -> None:
        """StateError where only rings are."""
        if not self.cluster.nodes:
            self.state.description()

    @property
    def everybody(self) -> Sequence[Node]:
        """The servers, and the processes of the shop beside them: whoever may be a peer in a network fault."""
        return (*self.servers, *self.platform.shop_nodes())

    @property
    def set_names(self) -> list[str]:
        """The config servers' set, then the shards."""
        return [replica_set.name for replica_set in self.cluster.replica_sets]

    def set_named(self, name: str) -> str:
        """A set's name; `config` stands for the config servers."""
        name = self.cluster.config_servers.name if name == "config" else name
        if name not in self.set_names:
            raise ChaosError(f"no replica set {name!r}; there are {', '.join(self.set_names)} and config")
        return name

    def members(self, set_name: str) -> Sequence[Member]:
        """The members of a set."""
        return self.cluster.replica_set(self.set_named(set_name)).members

    def ring(self, name: str) -> list[Node]:
        """The nodes of a ring; ChaosError that lists the rings there are."""
        found = [server for server in self.rings if server.group == name and server.name != f"{name}-store"]
        if not found:
            known = sorted({server.group for server in self.rings})
            raise ChaosError(f"no ring {name!r}; there is {', '.join(known) or 'none: run `make ring`'}")
        return found

    def server(self, name: str) -> Node:
        """The server, region node or process of the shop called `name`; ChaosError that lists the names there are."""
        for server in self._known():
            if server.name == name:
                return server
        raise ChaosError(f"no server {name!r}; there are {', '.join(s.name for s in self.everybody)}")

    def _known(self) -> Iterator[Node]:
        """Whoever has a name; the shop last, since its pods have to be asked for."""
        yield from (*self.servers, *shop_nodes.store_nodes(self.cluster), *regions.servers(self.state))
        yield from self._of_the_shop

    @cached_property
    def _of_the_shop(self) -> list[Node]:
        """The shop's processes as they were when one was first asked for by name: pods come and go."""
        return self.platform.shop_nodes()

    def resolve(self, selector: str | Iterable[str], wait_seconds: float = 20) -> list[Node]:
        """The servers a selector (or several, or a comma list) means now; a primary is waited for.

        Raises ChaosError for a word that means nothing, or when there is no such primary or secondary in time.
        """
        words = selector.split(",") if isinstance(selector, str) else list(selector)
        found: dict[str, Node] = {}
        for word in words:
            for server in self._resolve_one(word.strip(), wait_seconds):
                found[server.name] = server
        return list(found.values())

    def _resolve_one(self, word: str, wait_seconds: float) -> Sequence[Node]:
        if (found := shop.select(self.platform, word)) is not None:
            return found
        if word in (shop_nodes.STORE, databases.LEADER) and (stores := shop_nodes.store_nodes(self.cluster)):
            return stores if word == shop_nodes.STORE else [databases.leader(self.cluster, wait_seconds)]
        groups: dict[str, set[Role]] = {
            "all": {Role.CONFIG, Role.SHARD, Role.ROUTER},
            "members": {Role.CONFIG, Role.SHARD},
            "routers": {Role.ROUTER},
            "config": {Role.CONFIG},
        }
        if word in groups:
            return [server for server in self.servers if server.role in groups[word]]
        if ":" in word:
            kind, _, set_name = word.partition(":")
            if kind == "ring":
                return self.ring(set_name)
            name = self.set_named(set_name)
            if kind == "primary":
                return [self.wait_for_primary(name, wait_seconds)]
            if kind == "secondary":
                primary = self.wait_for_primary(name, wait_seconds)
                return [m for m in self.members(name) if m != primary][-1:]
            raise ChaosError(f"selector {word!r}: only primary:SET and secondary:SET of sets, and ring:RING, are known")
        if word in self.set_names:
            return self.members(word)
        return [self.server(word)]

    def command(self, server: Node, command: Mapping[str, Any], timeout_seconds: float = 2) -> dict[str, Any] | None:
        """A server's answer to a command on `admin` (or on its `$db`) as `__system`; None when it does not answer."""
        return self.access.command(server.address, command, timeout_seconds)

    def hello(self, server: Node, timeout_seconds: float = 1) -> dict[str, Any] | None:
        """What a server says of itself, without authentication; None when it does not answer."""
        return self.access.hello(server.address, timeout_seconds)

    def connect_ms(self, server: Node, timeout_seconds: float) -> float | None:
        """How long a TCP handshake with a server takes, milliseconds; None when there is none."""
        return self.access.connect_ms(server.address, timeout_seconds)

    def primary(self, set_name: str) -> Member | None:
        """The member that calls itself writable primary with the newest election, or None."""
        best: tuple[Any, Member] | None = None
        for member in self.members(set_name):
            answer = self.hello(member)
            if answer and answer.get("isWritablePrimary"):
                # A cut-off primary goes on calling itself primary for a while: the newer election wins.
                election = answer.get("electionId")
                if best is None or str(election) > str(best[0]):
                    best = election, member
        return best[1] if best else None

    def wait_for_primary(self, set_name: str, wait_seconds: float = 20) -> Member:
        """The set's primary; ChaosError when there is none in time."""
        end = time.monotonic() + wait_seconds
        while True:
            if primary := self.primary(set_name):
                return primary
            if time.monotonic() >= end:
                raise ChaosError(f"waited {wait_seconds:g} s for a primary of {set_name}")
            time.sleep(0.1)
