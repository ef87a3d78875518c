"""What a platform is: where servers run, how they are started and stopped, and the way to them.

Everything that differs between a cluster of processes and one of pods is a method here; nobody else asks which platform
it is.  A server is known by its name in the description (`shardmart.cluster.description`).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..cluster.description import Cluster, Node
from ..cluster.protocol.connection import Client, Credentials, Tls, connect
from ..errors import UnreachableError

STOP_LINE = b"\n"
"""What a process of `Platform.spawn` is told before its standard input is closed; it means the same: end.

`kubectl exec` sends the end of input under the time limit of its last write, 60 s (client-go's WebSocket streams; seen
with kubectl 1.34): later than that it is lost, and the connection breaks a minute after.  A line renews the limit.
"""


class PlatformError(UnreachableError):
    """The platform cannot do this: something is missing on this machine, or a server does not start or stop in time."""


@dataclass(frozen=True)
class Way:
    """A way to one server: its address, and who to connect as.

    Where `direct` is False, address and files mean something beside the servers only (`Platform.run`).
    """

    address: str
    credentials: Credentials
    direct: bool

    @contextmanager
    def connect(self, *, timeout_seconds: float = 10) -> Iterator[Client]:
        """A client of exactly this server.  PlatformError where there is no direct way."""
        if not self.direct:
            raise PlatformError(f"{self.address} cannot be connected to from here: work through the toolbox")
        with connect(self.address, self.credentials, timeout_seconds=timeout_seconds) as client:
            yield client


class Platform(Protocol):
    """One cluster on its platform.  Methods raise PlatformError; `start`, `stop` also ClusterError (DeadlineError)."""

    cluster: Cluster
    direct: bool
    """Whether this process can open connections to the servers; where not, `run` and `spawn` work beside them."""
    python: str
    """The interpreter for `run` and `spawn` that has the package `shardmart`."""
    state_folder: Path
    """The state folder as those processes see it."""

    @property
    def name(self) -> str:
        """`embedded` or `kubernetes`."""

    def address(self, node: Node) -> str:
        """ "host:port" of a server, for whoever is beside the servers."""

    def reach(self, node: Node, user: str | None = None) -> Way:
        """The way to a server as `user`, or as `__system` by the keyfile when none is named."""

    def run(self, command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        """Run a command beside the servers to its end, without input; its exit code is the caller's to judge."""

    def spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """A process beside the servers with pipes to all three streams.  It has to end at STOP_LINE and at the end of
        its input: a signal to what is returned need not reach it."""

    def start(self, names: Iterable[str] = (), *, wait_s: float = 60) -> list[str]:
        """Start those of these servers (all when none is named) that do not run, wait until they listen, name them."""

    def shop_nodes(self) -> list[Node]:
        """The shop's processes now (see `shop_nodes`); none where there is no shop, or this process may not ask."""

    def shop_is_short_of(self) -> list[str]:
        """Parts of the shop with fewer processes than declared, beside what each process says of itself."""

    def stop(self, names: Iterable[str] = (), *, wait_s: float = 60) -> list[str]:
        """Ask those of these servers (all when none is named) that run to end, wait until they have, name them."""


def way(cluster: Cluster, node: Node, folder: Path, user: str | None, *, direct: bool) -> Way:
    """The way that the secrets in a state folder open; `user` as in `Platform.reach`."""
    tls = Tls.trusting(folder / "tls" / "ca.pem" if cluster.tls.spoken else None)
    secrets = folder / "secrets"
    if user is None:
        return Way(node.address, Credentials(keyfile=secrets / "keyfile", tls=tls), direct)
    return Way(node.address, Credentials(user, secrets / f"{user}.password", tls=tls), direct)


def chosen(cluster: Cluster, names: Iterable[str]) -> list[Node]:
    """The nodes of these names, every node when none is named; DescriptionError for a name that there is not."""
    return [cluster.node(name) for name in names] or list(cluster.nodes)


def last_line(text: bytes) -> str:
    """The last line of standard error that says something; `kubectl` adds one that says only that there was one."""
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("command terminated with")]
    return (told or lines or [""])[-1].strip()


def last_words(process: subprocess.Popen[bytes]) -> str:
    """What a process that has ended said last on standard error; nothing while it runs."""
    return last_line(process.stderr.read()) if process.stderr and process.poll() is not None else ""


def play_of(cluster: Cluster, *, shop: bool = False) -> str:
    """What a person runs to have a cluster as it is declared; plain `make up` would stop its shop.

    With `shop` it is to have the shop, though the description does not say so.
    """
    if there := cluster.kubernetes:
        inventory = "inventories/kubernetes" if there.kubeconfig else "inventories/kind"
        return f"`ansible-playbook -i {inventory} site.yml`, with the topology that made it"
    if cluster.shop or shop:
        return "`make shop`, or `make up` with the topology that has its services"
    return "`make up`"
