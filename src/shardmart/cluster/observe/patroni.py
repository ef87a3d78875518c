"""What the nodes of a PostgreSQL under Patroni say of themselves, by Patroni's REST API (its manual, "REST API").

Reading needs no login there.  It changes nothing.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..shop import PATRONI_PORTS, Instance
from .health import DOWN, NOT_READY, READY, Health

TIMEOUT_SECONDS = 2.0
LEADER = "leader"
STANDBYS = ("quorum_standby", "sync_standby")
"""Who may take over.  One that streams and is none of these may not: while nobody may, a leader that dies is missed."""


@dataclass(frozen=True)
class Member:
    """What one node is: `leader`, `quorum_standby`, `replica`, or empty where it does not say; lag in bytes."""

    node: Instance
    health: Health
    role: str = ""
    lag: int | None = None

    @property
    def leads(self) -> bool:
        """Whether it has the lease and takes writes."""
        return self.role == LEADER

    @property
    def follows(self) -> bool:
        """Whether it receives what the leader writes, and may take over."""
        return self.health.ready and bool(self.role) and not self.leads

    def as_document(self) -> dict[str, Any]:
        """Plain data."""
        found = {"name": self.node.name, "address": self.node.address, "state": self.health.state}
        return found | {"reason": self.health.reason, "role": self.role, "lag_bytes": self.lag}


def ask(node: Instance, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> tuple[int, Mapping[str, Any]]:
    """Status and document of a GET to the Patroni of a node; OSError or HTTPException when there is no answer."""
    connection = http.client.HTTPConnection(node.host, node.port + PATRONI_PORTS, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        document = json.loads(answer.read(1_000_000) or b"{}")
        return answer.status, document if isinstance(document, dict) else {}
    except ValueError:
        return answer.status, {}
    finally:
        connection.close()


def members(nodes: Sequence[Instance]) -> list[Member]:
    """Every node, by its own word; its role and lag as those say that answer."""
    own: dict[str, Health] = {}
    told: dict[str, Mapping[str, Any]] = {}
    for node in nodes:
        try:
            status, document = ask(node, "/cluster")
            running = ask(node, "/health")[0] == http.client.OK
        except (OSError, http.client.HTTPException) as error:
            own[node.name] = Health(
                DOWN, f"Patroni: {getattr(error, 'strerror', None) or error or type(error).__name__}"
            )
            continue
        own[node.name] = Health(READY) if running else Health(NOT_READY, "PostgreSQL does not run")
        if status == http.client.OK and not told:
            told = {one["name"]: one for one in document.get("members", ()) if isinstance(one, dict)}
    return [_member(node, own[node.name], told.get(node.name, {})) for node in nodes]


def is_whole(members: Sequence[Member]) -> bool:
    """Whether one of them leads and all others follow."""
    return sum(one.leads for one in members) == 1 and all(one.leads or one.follows for one in members)


def leader(nodes: Sequence[Instance]) -> Instance | None:
    """The node that has the lease by its own word; None when none says so."""
    for node in nodes:
        try:
            if ask(node, "/primary")[0] == http.client.OK:
                return node
        except (OSError, http.client.HTTPException):
            continue
    return None


def _member(node: Instance, health: Health, told: Mapping[str, Any]) -> Member:
    role, state, lag = str(told.get("role", "")), str(told.get("state", "")), told.get("lag")
    if not health.ready:
        return Member(node, health)
    if role != LEADER and state != "streaming":
        health = Health(NOT_READY, f"{role or 'unknown to the others'}, {state or 'no state'}")
    elif role != LEADER and role not in STANDBYS:
        health = Health(NOT_READY, f"{role}, {state}, and may not take over yet")
    return Member(node, health, role, lag if isinstance(lag, int) else None)
