"""What a router says about itself, and statistics summed over the shards."""

from __future__ import annotations

import itertools
import json
import logging
import os
import platform
import resource
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bson import Int64

from .. import MEMBER_VERSION, NOTICE
from ..operations.authorization import Access, on_cluster, on_database, public
from ..operations.context import COMMANDS, Context, Reply, command, own
from ..operations.send import ask, ask_all
from ..protocol.errors import Code, RouterError

PARAMETERS: dict[str, Any] = {
    "authenticationMechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"], "clusterAuthMode": "keyFile",
    "enableTestCommands": False, "maxBSONDepth": 200, "quiet": False,
}  # fmt: skip
log = logging.getLogger("router")


def _says(*names: str, access: Access, reply: Callable[[Context], dict[str, Any]], public: bool = False) -> None:
    """Serve a command that asks nobody."""

    @command(*names, access=access, public=public)
    async def handler(context: Context) -> Reply:
        return {**reply(context), "ok": 1.0}


_BUILD = {
    "version": MEMBER_VERSION, "versionArray": [*map(int, MEMBER_VERSION.split(".")), 0],
    "gitVersion": "development router", "modules": ["shardmart development router"], "bits": 64, "debug": False,
    "maxBsonObjectSize": 16 * 1024 * 1024, "javascriptEngine": "none", "sysInfo": platform.platform(),
}  # fmt: skip
_says("ping", access=public, public=True, reply=lambda _: {})
_says("buildInfo", "buildinfo", access=public, public=True, reply=lambda _: _BUILD)
_says("whatsmyuri", access=public, public=True, reply=lambda context: {"you": context.client.peer})
_says("listCommands", access=public, reply=lambda _: {"commands": {name: {"help": ""} for name in sorted(COMMANDS)}})
_says(
    "getCmdLineOpts", access=on_cluster("getCmdLineOpts"),
    reply=lambda context: {"argv": context.service.options.get("argv", []), "parsed": {}},
)  # fmt: skip


@command("connectionStatus", access=public, public=True)
async def connection_status(context: Context) -> Reply:
    """Who the client is, and what it may do."""
    users: list[dict[str, str]] = []
    document: dict[str, Any] = {}
    if context.client.user:
        document, _ = await context.service.users.load(*context.client.user)
        users = [{"user": context.client.user[0], "db": context.client.user[1]}]
    roles = document.get("inheritedRoles", document.get("roles", []))
    info: dict[str, Any] = {"authenticatedUsers": users, "authenticatedUserRoles": roles}
    if context.head.get("showPrivileges"):
        info["authenticatedUserPrivileges"] = document.get("inheritedPrivileges", [])
    return {"authInfo": info, "ok": 1.0}


@command("hostInfo", access=on_cluster("hostInfo"))
async def host_info(_: Context) -> Reply:
    """The machine the router runs on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    system = {"currentTime": datetime.now(UTC), "hostname": socket.gethostname(), "memSizeMB": memory}
    system |= {"numCores": os.cpu_count() or 1, "cpuArch": platform.machine()}
    version = {"type": platform.system(), "name": platform.platform(), "version": platform.release()}
    return {"system": system, "os": version, "extra": {"python": platform.python_version()}, "ok": 1.0}


@command("getLog", access=on_cluster("getLog"))
async def get_log(context: Context) -> Reply:
    """The notice of what this router is; it keeps no other log in memory."""
    if context.head["getLog"] == "*":
        return {"names": ["global", "startupWarnings"], "ok": 1.0}
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    entry = {"t": {"$date": now}, "s": "W", "c": "CONTROL", "id": 1, "ctx": "router", "msg": NOTICE}
    lines = [json.dumps(entry | {"tags": ["startupWarnings"]})] if context.head["getLog"] == "startupWarnings" else []
    return {"totalLinesWritten": len(lines), "log": lines, "ok": 1.0}


@command("getParameter", access=on_cluster("getParameter"))
async def get_parameter(context: Context) -> Reply:
    """The few parameters a router without tuning has; and featureCompatibilityVersion is a member's business."""
    asked = context.head["getParameter"]
    names = [name for name in context.options() if name not in ("comment", "maxTimeMS")]
    found = PARAMETERS if asked == "*" else {name: PARAMETERS[name] for name in names if name in PARAMETERS}
    if not found:
        raise RouterError(Code.InvalidOptions, "no option found to get")
    return {**found, "ok": 1.0}


@command("serverStatus", access=on_cluster("serverStatus"))
async def server_status(context: Context) -> Reply:
    """Counters of the router."""
    service = context.service
    resident = _resident_bytes() >> 20
    return {
        "host": f"{socket.gethostname()}:{service.options.get('port')}", "version": MEMBER_VERSION, "process": "mongos",
        "pid": Int64(service.pid), "uptime": time.time() - service.started,
        "uptimeMillis": Int64((time.time() - service.started) * 1000), "localTime": datetime.now(UTC),
        "connections": {"current": len(service.clients), "available": 10_000,
                        "totalCreated": service.connections_created,
                        "active": sum(client.running is not None for client in service.clients)},
        "mem": {"bits": 64, "resident": resident, "virtual": resident, "supported": True},
        "metrics": {"cursor": {"open": {"total": Int64(len(service.cursors.open))}}},
        "opcounters": dict(service.counters),
        "sharding": {"configsvrConnectionString": str(service.options.get("configdb"))},
        "network": {"numRequests": Int64(service.counters["command"])},
        **({"security": {"SSLServerCertificateExpirationDate": service.tls.end}} if service.tls else {}), "ok": 1.0,
    }  # fmt: skip


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123  # one read, on every serverStatus
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@command("rotateCertificates", access=on_cluster("rotateCertificates"))
async def rotate_certificates(context: Context) -> Reply:
    """Read certificate, key and authority anew; open connections stay."""
    context.admin_only()
    tls = context.service.tls
    if tls is None:
        raise RouterError(Code.IllegalOperation, "the router was started without --tlsMode requireTLS")
    message = context.head.get("message", "")
    try:
        tls.rotate()
    except OSError as error:
        log.warning("certificates stay as they are: %s", error)
        raise RouterError(Code.InvalidSSLConfiguration, f"certificates stay as they are: {error}") from None
    log.info("certificates were read anew: the router's ends %s. %s", tls.end.isoformat(), message)
    return {"ok": 1.0}


@command("dbStats", "dbstats", access=on_database("dbStats"), cancel=True)
async def database_statistics(context: Context) -> Reply:
    """Sums over all shards."""
    internal = context.db in ("config", "admin")
    shards = ["config"] if internal else sorted(await context.service.catalog.load_shards())
    answers = await ask_all(context, shards, {"dbStats": 1, **context.options()})
    raw = {shard: own(reply) for shard, (_, reply) in answers.items()}
    total: dict[str, Any] = {}
    for name, value in itertools.chain.from_iterable(document.items() for document in raw.values()):
        if isinstance(value, int | float) and name not in ("ok", "scaleFactor"):
            total[name] = total.get(name, 0) + value
    total["avgObjSize"] = total["dataSize"] / total["objects"] if total.get("objects") else 0.0
    return {"raw": raw, "db": context.db, **total, "ok": 1.0}


@command("killOp", access=on_cluster("killop"))
async def kill_operation(context: Context) -> Reply:
    """Kill `shard:opid` on that shard."""
    shard, _, number = str(context.head.get("op", "")).rpartition(":")
    if not shard or not number.lstrip("-").isdigit():
        raise RouterError(Code.BadValue, "The op argument to killOp must be of the format shardid:opid")
    await ask(context, shard, {"killOp": 1, "op": int(number)}, write=True)
    return {"shard": shard, "shardid": int(number), "ok": 1.0}
