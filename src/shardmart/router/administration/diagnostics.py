"""What a router says about itself, and statistics summed over the shards."""

from __future__ import annotations

import json
import logging
import os
import platform
import resource
import socket
import sys
import time
from datetime import UTC, datetime
from typing import Any

from bson import Int64

from .. import MEMBER_VERSION, NOTICE
from ..operations.authorization import Need, on_cluster, on_collection, on_database, on_namespace, public
from ..operations.context import COMMANDS, Context, Reply, command
from ..operations.send import ask, everywhere, until_fresh
from ..operations.targeting import routing_of
from ..protocol import rawbson
from ..protocol.errors import Code, RouterError

PARAMETERS: dict[str, Any] = {
    "authenticationMechanisms": ["SCRAM-SHA-1", "SCRAM-SHA-256"],
    "clusterAuthMode": "keyFile",
    "enableTestCommands": False,
    "maxBSONDepth": 200,
    "quiet": False,
}
log = logging.getLogger("router")
_AVERAGED = frozenset({"avgObjSize"})


@command("ping", access=public, public=True)
async def ping(_: Context) -> Reply:
    """Alive."""
    return {"ok": 1.0}


@command("buildInfo", "buildinfo", access=public, public=True)
async def build_info(_: Context) -> Reply:
    """Version and limits, as the 6.0 members have them."""
    return {
        "version": MEMBER_VERSION,
        "versionArray": [*map(int, MEMBER_VERSION.split(".")), 0],
        "gitVersion": "development router", "modules": ["shardmart development router"],
        "bits": 64, "debug": False, "maxBsonObjectSize": 16 * 1024 * 1024,
        "javascriptEngine": "none", "sysInfo": platform.platform(), "ok": 1.0,
    }  # fmt: skip


@command("whatsmyuri", access=public, public=True)
async def whats_my_uri(context: Context) -> Reply:
    """The client's address."""
    return {"you": context.client.peer, "ok": 1.0}


@command("connectionStatus", access=public, public=True)
async def connection_status(context: Context) -> Reply:
    """Who the client is, and what it may do."""
    users, roles, privileges = [], [], []
    if context.client.user:
        document, _ = await context.service.users.load(*context.client.user)
        users = [{"user": context.client.user[0], "db": context.client.user[1]}]
        roles = document.get("inheritedRoles", document.get("roles", []))
        privileges = document.get("inheritedPrivileges", [])
    info: dict[str, Any] = {"authenticatedUsers": users, "authenticatedUserRoles": roles}
    if context.head.get("showPrivileges"):
        info["authenticatedUserPrivileges"] = privileges
    return {"authInfo": info, "ok": 1.0}


@command("hostInfo", access=on_cluster("hostInfo"))
async def host_info(_: Context) -> Reply:
    """The machine the router runs on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    system = {
        "currentTime": datetime.now(UTC),
        "hostname": socket.gethostname(),
        "cpuAddrSize": 64,
        "memSizeMB": memory,
    }
    system |= {"numCores": os.cpu_count() or 1, "cpuArch": platform.machine()}
    version = {"type": platform.system(), "name": platform.platform(), "version": platform.release()}
    return {"system": system, "os": version, "extra": {"python": sys.version.split()[0]}, "ok": 1.0}


@command("getCmdLineOpts", access=on_cluster("getCmdLineOpts"))
async def command_line(context: Context) -> Reply:
    """The flags the router was started with."""
    return {"argv": list(context.service.options.get("argv", [])), "parsed": {}, "ok": 1.0}


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


@command("listCommands", access=public)
async def list_commands(_: Context) -> Reply:
    """The commands that are served."""
    return {
        "commands": {name: {"help": (c.handler.__doc__ or "").strip()} for name, c in sorted(COMMANDS.items())},
        "ok": 1.0,
    }


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
                        "active": sum(client.busy for client in service.clients)},
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
    if context.db != "admin":
        raise RouterError(Code.Unauthorized, "rotateCertificates may only be run against the admin database.")
    tls = context.service.tls
    if tls is None:
        raise RouterError(
            Code.IllegalOperation, "the router was started without --tlsMode requireTLS: it has no certificate"
        )
    message = context.head.get("message", "")
    try:
        tls.rotate()
    except OSError as error:
        log.warning("certificates stay as they are: %s", error)
        raise RouterError(Code.InvalidSSLConfiguration, f"certificates stay as they are: {error}") from None
    log.info("certificates were read anew: the router's ends %s. %s", tls.end.isoformat(), message)
    return {"ok": 1.0}


@command("replSetGetStatus", access=on_cluster("replSetGetStatus"))
async def replica_set_status(_: Context) -> Reply:
    """Not here: the words mongos has for it."""
    raise RouterError(Code.CommandFailed, "replSetGetStatus is not supported through mongos", extra={"info": "mongos"})


@command("dbStats", "dbstats", access=on_database("dbStats"), cancel=True)
async def database_statistics(context: Context) -> Reply:
    """Sums over all shards."""
    shards = await context.service.catalog.load_shards()
    names = sorted(shards) if context.db not in ("config", "admin") else ["config"]
    fields = {"dbStats": 1, **context.options()}
    replies = await everywhere(ask(context, shard, fields) for shard in names)
    documents = {shard: rawbson.decode(reply.body) for shard, (_, reply) in zip(names, replies, strict=True)}
    total = _sum(list(documents.values()))
    total["avgObjSize"] = total.get("dataSize", 0) / total["objects"] if total.get("objects") else 0.0
    return {"raw": {s: _own(d) for s, d in documents.items()}, "db": context.db, **total, "ok": 1.0}


@command("collStats", "collstats", access=on_collection("collStats"), cancel=True)
async def collection_statistics(context: Context) -> Reply:
    """Sums over the shards that own chunks."""

    async def attempt() -> Reply:
        routing = await routing_of(context)
        if routing is None:
            return {
                "ns": context.namespace,
                "sharded": False,
                "size": 0,
                "count": 0,
                "storageSize": 0,
                "nindexes": 0,
                "ok": 1.0,
            }
        owners = routing.owners_of_prefix(())
        fields = {"collStats": context.collection, **context.options()}
        replies = await everywhere(ask(context, shard, fields) for shard in owners)
        documents = {shard: _own(rawbson.decode(reply.body)) for shard, (_, reply) in zip(owners, replies, strict=True)}
        first = next(iter(documents.values()))
        if not routing.sharded:
            return {"sharded": False, "primary": owners[0], **first, "ok": 1.0}
        total = _sum(list(documents.values()))
        total |= {"nindexes": first.get("nindexes", 0), "nchunks": len(routing.bounds)}
        total["avgObjSize"] = total.get("size", 0) / total["count"] if total.get("count") else 0
        sizes: dict[str, Any] = {}
        for document in documents.values():
            for index, size in document.get("indexSizes", {}).items():
                sizes[index] = sizes.get(index, 0) + size
        return {"sharded": True, "ns": context.namespace, **total, "indexSizes": sizes, "shards": documents, "ok": 1.0}

    return await until_fresh(context, context.namespace, attempt)


def _own(document: dict[str, Any]) -> dict[str, Any]:
    member = ("$clusterTime", "operationTime", "lastCommittedOpTime", "$gleStats", "$configServerState", "$configTime")
    return {k: v for k, v in document.items() if k not in member}


def _sum(documents: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for document in documents:
        for name, value in _own(document).items():
            if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("ok", "scaleFactor"):
                total[name] = total.get(name, 0) + value
    return {name: value for name, value in total.items() if name not in _AVERAGED}


@command("dataSize", "datasize", access=on_namespace("find"))
async def data_size(_: Context) -> Reply:
    """Refused, with the alternative."""
    raise RouterError(
        Code.CommandNotSupported, "dataSize is not served by the development router; use collStats or $collStats"
    )


def _current_operation_needs(context: Context) -> list[Need]:
    return [] if context.head.get("$ownOps") else [Need("inprog")]


@command("currentOp", access=_current_operation_needs)
async def current_operations(context: Context) -> Reply:
    """Operations in progress on the primaries of all shards."""
    shards = await context.service.catalog.load_shards()
    options = {k: v for k, v in context.options().items() if k not in ("filter", "$ownOps")}
    if context.head.get("$ownOps") and context.service.users.enabled:
        options["lsid.uid"] = context.client.digest  # to the members, all is done by the router
    names = sorted(shards)
    replies = await everywhere(ask(context, shard, {"currentOp": 1, **options}) for shard in names)
    operations = []
    for shard, (_, reply) in zip(names, replies, strict=True):
        for operation in rawbson.decode(reply.body)["inprog"]:
            named = {"opid": f"{shard}:{operation['opid']}"} if "opid" in operation else {}
            operations.append({"shard": shard, **operation, **named})
    return {"inprog": operations, "ok": 1.0}


@command("killOp", access=on_cluster("killop"))
async def kill_operation(context: Context) -> Reply:
    """Kill `shard:opid` on that shard."""
    shard, _, number = str(context.head.get("op", "")).rpartition(":")
    if not shard or not number.lstrip("-").isdigit():
        raise RouterError(Code.BadValue, "The op argument to killOp must be of the format shardid:opid")
    await ask(context, shard, {"killOp": 1, "op": int(number)}, write=True, session=False)
    return {"shard": shard, "shardid": int(number), "ok": 1.0}
