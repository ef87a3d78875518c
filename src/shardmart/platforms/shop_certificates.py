"""Have the shop's servers in pods serve the certificate that lies in their Secret, and lose no service by it.

What a server serves is seen in a handshake, so it counts for nothing who renewed, and what was interrupted is finished
the next time.  The cache's Envoy takes a renewed certificate by itself and is only awaited.  PostgreSQL reads it when
it is told (`pg_reload_conf`; open connections stay).  A broker of Kafka reads it when it starts, so brokers are
restarted, one after the other and each only while all are there.  Nothing here makes a certificate.
"""

from __future__ import annotations

import argparse
import base64
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

from .. import libpq
from ..cluster.converge.rotation import SHOWN, NotAcceptedError, served
from ..cluster.description import host_and_port
from ..cluster.host.certificates import fingerprint
from ..cluster.protocol.connection import Deadline, Tls
from ..errors import BadUseError, ShardmartError, UnreachableError
from .pod_api import PodApi

FILE_POLL_SECONDS = 5
"""Between two looks while a file is on its way into a pod, which takes up to a minute and a half: PostgreSQL writes a
line into its log each time it is told."""
POD_POLL_SECONDS = 1
WAIT_SECONDS = 300
"""For each server."""


class Api(Protocol):
    """What is asked of the Kubernetes API; None for an object that is not there."""

    def call(self, method: str, path: str, body: Any = None, *, group: str = "") -> Any:
        """The answer to a request below the pod's namespace.  Raises UnreachableError."""


@dataclass(frozen=True)
class Wanted:
    """The certificate that servers should serve: its SHA-256, and the file of the authority that signed it."""

    fingerprint: str
    authority: Path


def wanted(api: Api, name: str, folder: Path) -> Wanted:
    """What lies in the Secret `name`; its authority goes into `folder`.

    Raises BadUseError for a Secret without them, UnreachableError where it cannot be read.
    """
    found = (api.call("GET", f"secrets/{name}") or {}).get("data") or {}
    content = {key: base64.b64decode(value) for key, value in found.items()}
    authority = content.get("ca.crt")
    if not authority:
        raise BadUseError(f"the Secret {name} has no ca.crt, by which its server could be checked")
    try:
        mark = fingerprint(content.get("tls.crt") or content.get("tls.pem") or b"")
    except ValueError:
        raise BadUseError(f"the Secret {name} has no certificate in tls.crt or tls.pem") from None
    file = folder / f"{name}.crt"
    file.write_bytes(authority)
    return Wanted(mark, file)


def await_cache(address: str, certificate: Wanted, seconds: float) -> list[str]:
    """Wait until the cache's Envoy, which watches its files, serves it; what changed.  Raises DeadlineError."""
    return _served_at_last(address, certificate, seconds, lambda: None)


def tell_postgres(address: str, certificate: Wanted, user: str, password: str, seconds: float) -> list[str]:
    """Have PostgreSQL read its files anew until it serves it; what changed.  Raises DeadlineError."""
    host, port = host_and_port(address)
    options: dict[str, Any] = libpq.checked_by(certificate.authority)

    def tell() -> str | None:
        try:
            with psycopg.connect(
                host=host,
                port=port,
                user=user,
                password=password,
                dbname="postgres",
                connect_timeout=10,
                autocommit=True,
                application_name="shop-rotation",
                **options,
            ) as connection:
                connection.execute("SELECT pg_reload_conf()")
        except psycopg.Error as error:
            return f"it cannot be told: {str(error).strip().splitlines()[-1]}"
        return None

    return _served_at_last(address, certificate, seconds, tell, _ask_for_tls)


def restart_brokers(
    api: Api, statefulset: str, brokers: Mapping[str, str], certificate: Wanted, seconds: float
) -> list[str]:
    """Restart each broker that serves another certificate; what was done.  `brokers`: the address of each pod.

    Evicted, not deleted: a disruption budget is kept.  A broker that does not answer is left alone.  Raises
    DeadlineError after so many `seconds` for one step, ClusterError for a broker that does not answer.
    """
    changes = []
    for pod, address in brokers.items():
        _await_all(api, statefulset, seconds)
        if not _serves_another(address, certificate):
            continue
        before = _evict(api, pod, seconds)

        def not_yet(pod: str = pod, address: str = address, before: str = before) -> str | None:
            found = api.call("GET", f"pods/{pod}")
            if not found or found["metadata"]["uid"] == before:
                return "its pod has not begun anew"
            return _problem(address, certificate)

        _until(not_yet, f"{pod} to serve certificate {certificate.fingerprint[:SHOWN]}", seconds, POD_POLL_SECONDS)
        changes.append(f"{address}: started again with certificate {certificate.fingerprint[:SHOWN]}")
    if changes:
        _await_all(api, statefulset, seconds)
    return changes


def _served_at_last(
    address: str,
    certificate: Wanted,
    seconds: float,
    tell: Callable[[], str | None],
    before: Callable[[socket.socket], None] | None = None,
) -> list[str]:
    first = _problem(address, certificate, before)
    if not first:
        return []

    def not_yet() -> str | None:
        untold = tell()
        problem = _problem(address, certificate, before)
        return problem and (untold or problem)

    _until(not_yet, f"{address} to serve certificate {certificate.fingerprint[:SHOWN]}", seconds, FILE_POLL_SECONDS)
    return [f"{address}: serves certificate {certificate.fingerprint[:SHOWN]}; before, {first}"]


def _problem(address: str, certificate: Wanted, before: Callable[[socket.socket], None] | None = None) -> str | None:
    """Why the server does not serve it; None when it does."""
    try:
        found = served(address, Tls(str(certificate.authority)), before)
    except ShardmartError as error:
        return str(error)
    return None if found == certificate.fingerprint else f"it served {found[:SHOWN]}"


def _serves_another(address: str, certificate: Wanted) -> bool:
    try:
        return served(address, Tls(str(certificate.authority))) != certificate.fingerprint
    except NotAcceptedError:  # one that has ended is another one, too
        return True


def _ask_for_tls(connection: socket.socket) -> None:
    connection.sendall(libpq.SSL_REQUEST)
    if connection.recv(1) != b"S":
        raise OSError("PostgreSQL speaks none")


def _evict(api: Api, pod: str, seconds: float) -> str:
    """Have the pod begun anew, as soon as its disruption budget lets it go; the uid that it had."""
    there = api.call("GET", f"pods/{pod}")
    if not there:
        raise UnreachableError(f"there is no pod {pod}, though all of its StatefulSet's were there")
    uid: str = there["metadata"]["uid"]
    options = {"preconditions": {"uid": uid}}
    eviction = {
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}, "deleteOptions": options,
    }  # fmt: skip

    def refused() -> str | None:
        found = api.call("GET", f"pods/{pod}")
        if not found or found["metadata"]["uid"] != uid or found["metadata"].get("deletionTimestamp"):
            return None  # an answer was lost on its way, or somebody else was faster
        try:
            api.call("POST", f"pods/{pod}/eviction", eviction)
        except UnreachableError as error:
            return str(error)
        return None

    _until(refused, f"{pod} to be evicted", seconds, POD_POLL_SECONDS)
    return uid


def _await_all(api: Api, statefulset: str, seconds: float) -> None:
    """Until every pod of it was ready for as long as the StatefulSet asks for."""

    def lacks() -> str | None:
        found = api.call("GET", f"statefulsets/{statefulset}", group="apps/v1")
        if not found:
            raise UnreachableError(f"there is no StatefulSet {statefulset}")
        wanted, status = found["spec"]["replicas"], found.get("status", {})
        available = status.get("availableReplicas", 0)
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        updated = status.get("updatedReplicas", 0)
        if current and available == wanted == updated:
            return None
        return f"{available} of {wanted} are available"

    _until(lacks, f"every pod of {statefulset}", seconds, POD_POLL_SECONDS)


def _until(problem: Callable[[], str | None], awaited: str, seconds: float, every: float) -> None:
    """Look until there is no problem any more.  DeadlineError with the last one."""
    deadline = Deadline(seconds)
    while (found := problem()) is not None:
        deadline.pause(f"{awaited}; {found}")
        time.sleep(min(every, deadline.remaining))


def _broker(text: str) -> tuple[str, str]:
    pod, _, address = text.partition("=")
    host_and_port(address)
    return pod, address


def main(arguments: Sequence[str] | None = None, api: Api | None = None) -> int:
    """Have every server that is named serve its Secret's certificate; 1 when one does not, with a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cache", metavar="HOST:PORT")
    parser.add_argument("--cache-secret", metavar="NAME")
    parser.add_argument("--postgres", metavar="HOST:PORT")
    parser.add_argument("--postgres-secret", metavar="NAME")
    parser.add_argument("--administrator", default="postgres", metavar="USER", help="who tells PostgreSQL")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="that one's password")
    parser.add_argument("--brokers", metavar="NAME", help="the brokers' StatefulSet")
    parser.add_argument("--brokers-secret", metavar="NAME")
    parser.add_argument("--broker", action="append", default=[], type=_broker, metavar="POD=HOST:PORT", help="repeat")
    parser.add_argument("--wait-seconds", type=float, default=WAIT_SECONDS, help="for each server")
    chosen = parser.parse_args(arguments)
    for part in ("cache", "postgres", "brokers"):
        if bool(getattr(chosen, part)) != bool(getattr(chosen, f"{part}_secret")):
            parser.error(f"--{part} and --{part}-secret go together")
    if chosen.postgres and not chosen.password_file:
        parser.error("--postgres needs --password-file")
    try:
        kubernetes = api or PodApi()
    except ShardmartError as error:
        print(error, file=sys.stderr)
        return 1
    return _all(kubernetes, chosen)


def _all(api: Api, chosen: argparse.Namespace) -> int:
    seconds, code = chosen.wait_seconds, 0

    def postgres(certificate: Wanted) -> list[str]:
        password = chosen.password_file.read_text().strip()
        return tell_postgres(chosen.postgres, certificate, chosen.administrator, password, seconds)

    parts: dict[str, Callable[[Wanted], list[str]]] = {
        "cache": lambda certificate: await_cache(chosen.cache, certificate, seconds),
        "postgres": postgres,
        "brokers": lambda certificate: restart_brokers(api, chosen.brokers, dict(chosen.broker), certificate, seconds),
    }
    with tempfile.TemporaryDirectory() as folder:
        for part, take in parts.items():
            if not (secret := getattr(chosen, f"{part}_secret")):
                continue
            # One that cannot be reached holds up no other.
            try:
                changes = take(wanted(api, secret, Path(folder)))
            except (ShardmartError, OSError) as error:
                print(error, file=sys.stderr)
                code = 1
            else:
                print("\n".join(changes) or f"{part}: the certificate of {secret} is served")
    return code
