"""etcd's members: their configuration, and the users that let Patroni in and nobody else.

Spoken to by the JSON gateway that every member has (etcd's manual, "gRPC gateway").  Nothing here starts one.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...cluster.errors import ClusterError
from ...cluster.protocol.connection import Deadline
from ...cluster.shop import ETCD_PEER_PORTS, Instance

ROOT, PATRONI = "root", "patroni"
NAMESPACE = "/shardmart/"
"""What Patroni keeps is below it, and its user may go nowhere else."""
TIMEOUT_SECONDS = 5.0
NOT_ENABLED = "authentication is not enabled"
THERE = ("already exists", "already has")


class EtcdError(ClusterError):
    """etcd refused, in its own words."""


def settings(members: Sequence[Instance], me: Instance, data: Path, peers: Path) -> dict[str, Any]:
    """The configuration of one member; `peers` is the folder with the certificate that they show one another."""
    cluster = ",".join(f"{one.name}={_peer_url(one)}" for one in members)
    tls = {"cert-file": peers / "peer.pem", "key-file": peers / "peer.pem", "trusted-ca-file": peers / "ca.pem"}
    return {
        "name": me.name,
        "data-dir": str(data),
        "listen-client-urls": me.url,
        "advertise-client-urls": me.url,
        "listen-peer-urls": _peer_url(me),
        "initial-advertise-peer-urls": _peer_url(me),
        "initial-cluster": cluster,
        "initial-cluster-token": "shardmart-shop",
        "initial-cluster-state": "new",
        "peer-transport-security": {name: str(file) for name, file in tls.items()} | {"client-cert-auth": True},
        # A machine with two cores and everything else on it is often late.
        "heartbeat-interval": 250,
        "election-timeout": 2500,
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        "log-level": "warn",
    }


def _peer_url(member: Instance) -> str:
    return f"https://{member.host}:{member.port + ETCD_PEER_PORTS}"


def call(
    member: Instance,
    path: str,
    document: Mapping[str, Any],
    token: str | None = None,
    *,
    seconds: float = TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """A member's answer to one call.  EtcdError when it refuses or does not answer."""
    connection = http.client.HTTPConnection(member.host, member.port, timeout=seconds)
    headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
    try:
        connection.request("POST", path, json.dumps(document), headers)
        answer = connection.getresponse()
        found = json.loads(answer.read(1_000_000) or b"{}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EtcdError(f"{member.name} does not answer: {error or type(error).__name__}") from None
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise EtcdError(f"{member.name} refuses {path}: {found.get('message') or found.get('error') or answer.status}")
    return dict(found)


def login(member: Instance, user: str, password: str) -> str:
    """A token of `user`.  EtcdError."""
    found = call(member, "/v3/auth/authenticate", {"name": user, "password": password})
    return str(found["token"])


def wait_until_ready(members: Sequence[Instance], root: str, deadline: Deadline) -> None:
    """Until every member has a leader and says whether it asks for passwords; DeadlineError names those that do not."""
    waiting = list(members)
    while waiting := [one for one in waiting if not _serves(one, root)]:
        deadline.pause(f"{', '.join(one.name for one in waiting)} to serve; see server.log beside its data")


def _serves(member: Instance, root: str) -> bool:
    try:
        login(member, ROOT, root)
    except EtcdError as error:
        return NOT_ENABLED in str(error)
    return True


def secure(member: Instance, root: str, patroni: str) -> list[str]:
    """Have the users `root` and `patroni` and no way in without; what was made.  Re-entrant.

    EtcdError, as when the file of a password is not the one that etcd was made with.
    """
    try:
        token: str | None = login(member, ROOT, root)
    except EtcdError as error:
        if NOT_ENABLED not in str(error):
            raise
        token = None
    if token is not None:
        try:
            login(member, PATRONI, patroni)
        except EtcdError:
            _have(member, "/v3/auth/user/changepw", {"name": PATRONI, "password": patroni}, token)
            return ["change the password of etcd's user patroni"]
        return []
    begin = base64.b64encode(NAMESPACE.encode()).decode()
    end = base64.b64encode((NAMESPACE[:-1] + chr(ord(NAMESPACE[-1]) + 1)).encode()).decode()
    for path, document in (
        ("user/add", {"name": ROOT, "password": root}),
        # From a run that was killed, perhaps with other passwords.
        ("user/changepw", {"name": ROOT, "password": root}),
        ("user/grant", {"user": ROOT, "role": ROOT}),
        ("role/add", {"name": PATRONI}),
        ("role/grant", {"name": PATRONI, "perm": {"permType": "READWRITE", "key": begin, "range_end": end}}),
        ("user/add", {"name": PATRONI, "password": patroni}),
        ("user/changepw", {"name": PATRONI, "password": patroni}),
        ("user/grant", {"user": PATRONI, "role": PATRONI}),
        ("enable", {}),
    ):
        _have(member, f"/v3/auth/{path}", document)
    return ["make etcd's users, and let nobody in without"]


def _have(member: Instance, path: str, document: Mapping[str, Any], token: str | None = None) -> None:
    try:
        call(member, path, document, token)
    except EtcdError as error:
        if not any(words in str(error) for words in THERE):
            raise
