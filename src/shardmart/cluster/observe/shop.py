"""What the shop's processes say of themselves: who is ready, who is not and why, who is gone.

Asks `/readyz` of each instance past the load balancer, each service through it, and the cache by PING.  Reads only.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..protocol.connection import Deadline
from ..shop import Instance, Service, Shop
from . import patroni
from .health import DOWN, NOT_READY, READY, Health

TIMEOUT_SECONDS = 2.0
LONGEST_REASON = 200
NOBODY_BEHIND = "nobody answers behind its TLS"


def ask(host: str, port: int, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Health:
    """Ask a service's `/readyz`."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(10_000)
    except TimeoutError:
        return Health(DOWN, f"no answer within {timeout_seconds:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Health(DOWN, getattr(error, "strerror", None) or str(error) or type(error).__name__)
    finally:
        connection.close()
    return Health(READY) if answer.status == http.client.OK else Health(NOT_READY, _reason(body, answer.status))


def _reason(body: bytes, status: int) -> str:
    """What a body says is missing, in one line."""
    try:
        document = json.loads(body)
    except ValueError:
        return f"answered {status}"
    if not isinstance(document, dict):
        return f"answered {status}"
    told = {key: value for key, value in document.items() if key not in {"ready", "type", "title", "status"} and value}
    text = "; ".join(f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in told.items())
    return text[:LONGEST_REASON] or f"answered {status}"


def ask_cache(cache: Instance, authority: Path | None = None, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Health:
    """PING without a login: a server that asks for one is alive.  By TLS with `authority`."""
    try:
        with socket.create_connection((cache.host, cache.port), timeout=timeout_seconds) as connection:
            answer = _pinged(connection, cache.host, authority)
    except TimeoutError:
        return Health(DOWN, f"no answer within {timeout_seconds:g} s")
    except (ssl.SSLEOFError, ConnectionResetError):
        return Health(DOWN, NOBODY_BEHIND if authority else "it closes connections at once")
    except OSError as error:
        return Health(DOWN, error.strerror or str(error))
    if authority and not answer:
        return Health(DOWN, NOBODY_BEHIND)
    if answer.startswith((b"+PONG", b"-NOAUTH")):
        return Health(READY)
    return Health(NOT_READY, answer.decode(errors="replace").strip())


def _pinged(connection: socket.socket, host: str, authority: Path | None) -> bytes:
    if authority is None:
        connection.sendall(b"PING\r\n")
        return connection.recv(100)
    context = ssl.create_default_context(cafile=str(authority))
    with context.wrap_socket(connection, server_hostname=host) as speaking:
        speaking.sendall(b"PING\r\n")
        return speaking.recv(100)


def wait_until_ready(instances: Sequence[Instance], deadline: Deadline) -> None:
    """Wait until every instance says that it is ready; DeadlineError names those that do not, and what they say."""
    waiting = list(instances)
    while True:
        found = [(one, health) for one, health in zip(waiting, _all(waiting), strict=True) if not health.ready]
        if not found:
            return
        waiting = [one for one, _ in found]
        deadline.pause(f"{', '.join(f'{one.name} ({health.reason})' for one, health in found)} to be ready")


def _all(instances: Sequence[Instance]) -> list[Health]:
    with ThreadPoolExecutor(max_workers=max(1, len(instances))) as threads:
        return list(threads.map(lambda one: ask(one.host, one.port), instances))


def gather(shop: Shop, authority: Path | None = None) -> dict[str, Any]:
    """Every service and instance with its state, as plain data, and a line for each problem.

    `authority` signed the certificate of the cache, where that speaks TLS.
    """
    problems: list[str] = []
    checked = authority if shop.cache_speaks_tls else None
    instances = dict(zip((one.name for one in shop.instances), _all(shop.instances), strict=True))
    services = []
    for service in shop.services:
        rows = [
            {"name": one.name, "address": one.address, "state": instances[one.name].state,
             "reason": instances[one.name].reason}
            for one in service.instances
        ]  # fmt: skip
        services.append({"name": service.name, "url": service.url, "instances": rows})
        problems += [f"{row['name']} is {row['state']}: {row['reason']}" for row in rows if row["state"] != READY]
        if shop.load_balancer and not _is_its_own_address(service):
            through = ask(service.host, service.port)
            if not through.ready and any(row["state"] == READY for row in rows):
                problems.append(f"{service.name} is not served at {service.url}: {through.reason}")
    document: dict[str, Any] = {"services": services, "cache": None, "cache_nodes": [], "mail": None}
    document["problems"] = problems
    if shop.cache:
        unknown = shop.cache_speaks_tls and authority is None
        health = Health(NOT_READY, "nobody here knows its authority") if unknown else ask_cache(shop.cache, checked)
        document["cache"] = {"name": shop.cache.name, "address": shop.cache.address, "state": health.state}
        if not health.ready:
            instead = (
                "the catalogue has no stock" if shop.backends.catalogue == "postgres" else "answers come from the store"
            )
            problems.append(f"{shop.cache.name} is {health.state}: {health.reason}; {instead}")
    for node in shop.cache_nodes:
        health = ask_cache(node, checked)
        document["cache_nodes"].append({"name": node.name, "address": node.address, "state": health.state})
        if not health.ready:
            instead = (
                "its replica serves" if shop.backends.cache_replicas else "answers of its part come from the store"
            )
            problems.append(f"{node.name} is {health.state}: {health.reason}; {instead}")
    for broker in shop.kafka:
        if reason := _refusal(broker):
            problems.append(f"{broker.name} is {DOWN}: {reason}; {_without(shop)}")
    if shop.mail:
        reason = _refusal(shop.mail)
        document["mail"] = {"name": shop.mail.name, "address": shop.mail.address, "state": DOWN if reason else READY}
        if reason:
            problems.append(f"{shop.mail.name} is {DOWN}: {reason}; customers are told when it is back")
    if shop.postgres and (reason := _refusal(shop.postgres)):
        problems.append(f"{shop.postgres.name} is {DOWN}: {reason}; {_without_postgres(shop)}")
    if shop.postgres_entrance and (reason := _refusal(shop.postgres_entrance)):
        problems.append(f"the one address of the store, {shop.postgres_entrance.address}, is {DOWN}: {reason}")
    nodes = patroni.members(shop.postgres_nodes)
    document["postgres_nodes"] = [node.as_document() for node in nodes]
    problems += [f"{one.node.name} is {one.health.state}: {one.health.reason}" for one in nodes if not one.health.ready]
    if nodes and not any(one.leads for one in nodes):
        problems.append("no node of the store leads: no order is taken, and what was begun goes on when one does")
    for member in shop.etcd:
        if reason := _refusal(member):
            problems.append(f"{member.name} is {DOWN}: {reason}; two of the three decide who leads")
    return document


def _without(shop: Shop) -> str:
    return "the others have its events" if len(shop.kafka) > 1 else "orders are taken, and go on when it is back"


def _without_postgres(shop: Shop) -> str:
    if shop.backends.store == "postgres":
        return "no order is taken, and what was begun goes on when it is back"
    return "the catalogue has no names and prices"


def _refusal(server: Instance) -> str:
    """Why nobody takes connections there; empty when somebody does."""
    try:
        with socket.create_connection((server.host, server.port), timeout=TIMEOUT_SECONDS):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _is_its_own_address(service: Service) -> bool:
    return [(service.host, service.port)] == [(one.host, one.port) for one in service.instances]
