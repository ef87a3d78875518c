"""Forms the cache's Redis Cluster: its nodes meet, share the slots among the primaries, and replicas follow.

Each step looks first, so a second run changes nothing and one that was killed is finished by the next.  Where a replica
was elected, the roles stay as they are.  It moves no slot that has an owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...cluster.errors import ClusterError
from ...cluster.protocol.connection import Deadline
from ...cluster.shop import CACHE_BUS_PORTS, Instance
from .configuration import CACHE_ADMINISTRATOR

SLOTS = 16_384
TIMEOUT_SECONDS = 5.0


class RefusedError(ClusterError):
    """The server answered with an error."""


class Connection:
    """Commands to one node, one after the other."""

    def __init__(self, node: Instance, client: Any) -> None:
        self.node, self._client = node, client

    def __call__(self, *words: str | int) -> Any:
        """Its answer, in which text is text.  RefusedError, or ClusterError where there is none."""
        from redis.exceptions import RedisError, ResponseError

        try:
            return self._client.execute_command(*words)
        except ResponseError as error:
            raise RefusedError(f"{self.node.name} refuses: {error}") from None
        except RedisError as error:
            raise ClusterError(f"{self.node.name} at {self.node.address} does not answer: {error}") from None


@contextmanager
def connected(node: Instance, user: str, password: str, authority: Path | None = None) -> Iterator[Connection]:
    """A connection of this user, by TLS with `authority`.  ClusterError."""
    from redis import Redis  # here: a cluster without a shop is made without it
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    with Redis(
        host=node.host,
        port=node.port,
        username=user,
        password=password,
        ssl=authority is not None,
        ssl_ca_certs=str(authority) if authority else None,
        decode_responses=True,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),  # each step looks first: who begins again is the next run
    ) as client:
        made = Connection(node, client)
        made("PING")
        yield made


@dataclass
class View:
    """What a node says of itself and of the others (CLUSTER NODES)."""

    id: str = ""
    primary: str | None = None
    """Whom it follows; None for a primary."""
    slots: set[int] = field(default_factory=set)
    known: set[str] = field(default_factory=set)


def form(
    nodes: Sequence[Instance],
    replicas: int,
    password: str,
    deadline: Deadline,
    *,
    authority: Path | None = None,
    check_mode: bool = False,
) -> list[str]:
    """Have these nodes be one cluster, each primary with `replicas`; what was done.  ClusterError or DeadlineError."""
    with ExitStack() as stack:
        login = (CACHE_ADMINISTRATOR, password, authority)
        ask = {one.name: stack.enter_context(connected(one, *login)) for one in nodes}
        views = {name: _view(connection) for name, connection in ask.items()}
        changes = _forget(ask, views, check_mode=check_mode)
        changes += _meet(nodes, ask, views, deadline, check_mode=check_mode)
        primaries = nodes[: len(nodes) // (1 + replicas)]
        if not check_mode and changes:
            views = {name: _view(connection) for name, connection in ask.items()}
        changes += _share(primaries, ask, views, check_mode=check_mode)
        changes += _follow(nodes, len(primaries), ask, views, deadline, check_mode=check_mode)
        if not check_mode:
            _wait_until_well(ask, deadline)
    return changes


def _view(connection: Connection) -> View:
    view = View()
    for line in str(connection("CLUSTER", "NODES")).splitlines():
        id_, _, flags, primary, _, _, _, _, *slots = line.split()
        if "myself" not in flags:
            if "handshake" not in flags:  # one without an address, whose place another took, is known still
                view.known.add(id_)
            continue
        view.id, view.primary = id_, None if primary == "-" else primary
        for part in slots:
            if not part.startswith("["):  # of slots that are being moved
                first, _, last = part.partition("-")
                view.slots.update(range(int(first), int(last or first) + 1))
    return view


def _forget(ask: Mapping[str, Connection], views: Mapping[str, View], *, check_mode: bool) -> list[str]:
    """Whom the topology has no more, or who came back with another name, holds no slots for the others."""
    ours = {view.id for view in views.values()}
    foreign = sorted(set[str]().union(*(view.known for view in views.values())) - ours)
    for id_ in () if check_mode else foreign:
        for name, connection in ask.items():
            if id_ in views[name].known:
                if views[name].primary == id_:
                    connection("CLUSTER", "RESET", "SOFT")
                else:
                    connection("CLUSTER", "FORGET", id_)
    return [f"forget the node {id_[:8]} of the cache" for id_ in foreign]


def _meet(
    nodes: Sequence[Instance],
    ask: Mapping[str, Connection],
    views: Mapping[str, View],
    deadline: Deadline,
    *,
    check_mode: bool,
) -> list[str]:
    first, *others = nodes
    new = [one for one in others if views[one.name].id not in views[first.name].known]
    if check_mode:
        return [f"{one.name} meets {first.name}" for one in new]
    for one in new:
        ask[first.name]("CLUSTER", "MEET", one.host, one.port, one.port + CACHE_BUS_PORTS)
    everybody = {view.id for view in views.values()}
    while lacking := [name for name, connection in ask.items() if everybody - _met(connection)]:
        deadline.pause(f"{', '.join(lacking)} to know every node of the cache")
    return [f"{one.name} meets {first.name}" for one in new]


def _met(connection: Connection) -> set[str]:
    view = _view(connection)
    return view.known | {view.id}


def _share(
    primaries: Sequence[Instance], ask: Mapping[str, Connection], views: Mapping[str, View], *, check_mode: bool
) -> list[str]:
    """Give slots without an owner to the primary whose part they are in, or to whom that one follows."""
    by_id = {view.id: name for name, view in views.items()}
    free = set(range(SLOTS)) - set[int]().union(*(view.slots for view in views.values()))
    changes = []
    for n, primary in enumerate(primaries):
        part = free & set(range(n * SLOTS // len(primaries), (n + 1) * SLOTS // len(primaries)))
        if not part:
            continue
        owner = by_id.get(views[primary.name].primary or "", primary.name)
        changes.append(f"give {len(part)} slots to {owner}")
        if not check_mode:
            ask[owner]("CLUSTER", "ADDSLOTSRANGE", *_ranges(part))
            views[owner].slots |= part
    return changes


def _ranges(slots: Iterable[int]) -> list[int]:
    """First and last of each run."""
    found: list[int] = []
    for slot in sorted(slots):
        if found and found[-1] == slot - 1:
            found[-1] = slot
        else:
            found += [slot, slot]
    return found


def _follow(
    nodes: Sequence[Instance],
    parts: int,
    ask: Mapping[str, Connection],
    views: Mapping[str, View],
    deadline: Deadline,
    *,
    check_mode: bool,
) -> list[str]:
    """Have who has no slots follow the one that has those of its part."""
    changes = []
    for n, node in enumerate(nodes):
        if views[node.name].slots or views[node.name].primary:
            continue
        owner = next((one for one in nodes[n % parts :: parts] if views[one.name].slots), None)
        if owner is None or owner is node:
            continue
        changes.append(f"{node.name} follows {owner.name}")
        while not check_mode:
            try:
                ask[node.name]("CLUSTER", "REPLICATE", views[owner.name].id)
                break
            except RefusedError as error:  # it has not heard yet that the other is a primary
                deadline.pause(f"{node.name} to follow {owner.name}: {error}")
    return changes


def _wait_until_well(ask: Mapping[str, Connection], deadline: Deadline) -> None:
    """Wait until every node says that all slots are served, and every replica has its primary's contents."""
    while ill := [name for name, connection in ask.items() if not _is_well(connection)]:
        deadline.pause(f"{', '.join(ill)} to be well as a part of the cache")


def _is_well(connection: Connection) -> bool:
    told = dict(line.split(":", 1) for line in str(connection("CLUSTER", "INFO")).splitlines() if ":" in line)
    following = connection("INFO", "replication")
    return (
        told["cluster_state"] == "ok"
        and told["cluster_slots_ok"] == str(SLOTS)
        and following.get("master_link_status", "up") == "up"
    )
