"""Sharding administration: shards, zones, chunks, the balancer; carried out by the config servers and primary shards.

Source: MongoDB 6.0 manual, "Sharding Commands"; the `_configsvr…` and `_shardsvr…` forms were checked against
mongod 6.0.5.
"""

from __future__ import annotations

from typing import Any

from bson.raw_bson import RawBSONDocument

from ..operations.authorization import Access, Need, on_cluster, on_namespace, public
from ..operations.context import Context, Reply, command
from ..operations.send import ask, until_fresh
from ..protocol import rawbson
from ..protocol.errors import Code, RouterError
from ..routing.catalog import Routing
from ..routing.shard_key import Key
from .collections import on_primary_shard

MAJORITY = {"writeConcern": {"w": "majority"}}


async def on_config_primary(context: Context, fields: dict[str, Any]) -> dict[str, Any]:
    """Run an internal command on the config primary; the reply without what is for members only."""
    reply = await context.service.config.command({**fields, **context.service.clock.gossip(), "$db": "admin"})
    return {k: v for k, v in reply.items() if k not in ("lastCommittedOpTime", "$clusterTime", "operationTime")}


def _zones(*collections: str) -> Access:
    """enableSharding on the cluster, or the right to change these collections of `config`, as mongos has it."""
    needs = tuple(Need("update", "config", collection) for collection in collections)
    return lambda _: [Need("enableSharding", instead=needs)]


def _settings(action: str) -> Access:
    """`action` on config.settings, where the balancer's mode is kept: what mongos asks for (BalancerControlCommand)."""
    return lambda _: [Need(action, "config", "settings")]


def _forward(name: str, internal: str, *, access: Access, concern: bool = True) -> None:
    """Serve an admin command by its `_configsvr` counterpart with the same fields."""

    @command(name, access=access)
    async def handler(context: Context) -> Reply:
        _admin_only(context)
        fields = {internal: context.head[name], **_plain(context), **(MAJORITY if concern else {})}
        reply = await on_config_primary(context, fields)
        if name in ("addShard", "removeShard"):
            await context.service.catalog.load_shards()
        return reply


def _plain(context: Context) -> dict[str, Any]:
    return context.options()


def _admin_only(context: Context) -> None:
    if context.db != "admin":
        raise RouterError(Code.Unauthorized, f"{context.name} may only be run against the admin database.")


_forward("addShard", "_configsvrAddShard", access=on_cluster("addShard"))
_forward("removeShard", "_configsvrRemoveShard", access=on_cluster("removeShard"))
_forward("addShardToZone", "_configsvrAddShardToZone", access=_zones("shards"))
_forward("removeShardFromZone", "_configsvrRemoveShardFromZone", access=_zones("shards", "tags"))
_forward("updateZoneKeyRange", "_configsvrUpdateZoneKeyRange", access=_zones("tags"))
_forward("balancerStatus", "_configsvrBalancerStatus", access=_settings("find"), concern=False)
_forward("balancerStart", "_configsvrBalancerStart", access=_settings("update"), concern=False)
_forward("balancerStop", "_configsvrBalancerStop", access=_settings("update"), concern=False)
_forward("balancerCollectionStatus", "_configsvrBalancerCollectionStatus", access=on_cluster("inprog"), concern=False)
_forward("configureCollectionBalancing", "_configsvrConfigureCollectionBalancing", access=_zones("collections"))
_forward("clearJumboFlag", "_configsvrClearJumboFlag", access=on_cluster("clearJumboFlag"))


@command("listShards", access=on_cluster("listShards"))
async def list_shards(context: Context) -> Reply:
    """The shards as config.shards has them."""
    _admin_only(context)
    return {"shards": await context.service.catalog.read_config("shards", {}), "ok": 1.0}


def _database_need(context: Context) -> list[Need]:
    return [Need("enableSharding", str(context.head[context.name]))]


@command("enableSharding", "enablesharding", access=_database_need)
async def enable_sharding(context: Context) -> Reply:
    """Create the database in the catalogue; since 6.0 nothing else is left to do."""
    _admin_only(context)
    name = context.head[context.name]
    if not isinstance(name, str) or not name or set(name) & set('/\\. "$\0'):
        raise RouterError(Code.InvalidNamespace, f"invalid db name specified: {name!r}")
    if name in ("admin", "config", "local"):
        raise RouterError(Code.IllegalOperation, f"can't shard {name} database")
    primary = context.head.get("primaryShard")
    await context.service.catalog.create_database(name, primary if isinstance(primary, str) else None)
    return {"ok": 1.0}


def _split_namespace(context: Context) -> tuple[str, str]:
    namespace = context.head[context.name]
    if not isinstance(namespace, str):
        raise RouterError(Code.TypeMismatch, f"{context.name} takes a namespace, found {namespace!r}")
    database, _, collection = namespace.partition(".")
    if not database or not collection:
        raise RouterError(Code.InvalidNamespace, f"Invalid namespace specified '{namespace}'")
    return database, collection


@command("shardCollection", "shardcollection", access=on_namespace("enableSharding"))
async def shard_collection(context: Context) -> Reply:
    """Shard a collection, created if it is not there; presplitHashedZones spreads its chunks at once."""
    _admin_only(context)
    database, collection = _split_namespace(context)
    options = context.options()
    key = options.pop("key", None)
    if not isinstance(key, RawBSONDocument) or not list(key):
        raise RouterError(Code.FailedToParse, "shardCollection needs a shard key, such as {key: {_id: 'hashed'}}")
    known = await context.service.catalog.read_config("collections", {"_id": f"{database}.{collection}"})
    if known:
        same = list(known[0]["key"].items()) == list(rawbson.decode(key).items())
        if same and bool(known[0].get("unique")) == bool(options.get("unique", False)):
            return {"collectionsharded": f"{database}.{collection}", "collectionUUID": known[0]["uuid"], "ok": 1.0}
        raise RouterError(Code.AlreadyInitialized, f"sharding already enabled for collection {database}.{collection}")
    context.db = database
    await context.service.catalog.create_database(database)
    fields = {"_shardsvrCreateCollection": collection, "shardKey": key, **options, **MAJORITY}
    reply = await on_primary_shard(context, fields, create=True)
    document = rawbson.decode(reply) if isinstance(reply, bytes) else reply
    result = {"collectionsharded": f"{database}.{collection}", "collectionUUID": document.get("collectionUUID")}
    return {**result, "ok": 1.0}


@command("reshardCollection", access=on_namespace("reshardCollection"))
async def reshard_collection(context: Context) -> Reply:
    """Shard a collection by another key, while it is in use."""
    _admin_only(context)
    database, collection = _split_namespace(context)
    fields = {"_shardsvrReshardCollection": f"{database}.{collection}", **context.options(), **MAJORITY}
    return await on_primary_shard(context, fields, db=database)  # sent to `admin`, like movePrimary


@command("refineCollectionShardKey", access=on_namespace("refineCollectionShardKey"))
async def refine_shard_key(context: Context) -> Reply:
    """Add fields to a shard key."""
    _admin_only(context)
    context.db, collection = _split_namespace(context)
    options = context.options()
    options["newShardKey"] = options.pop("key", None)  # the one field that has another name between members
    return await on_primary_shard(context, {"_shardsvrRefineCollectionShardKey": collection, **options, **MAJORITY})


@command("movePrimary", "moveprimary", access=lambda c: [Need("moveChunk", str(c.head[c.name]), "")])
async def move_primary(context: Context) -> Reply:
    """Move a database's unsharded collections to another shard."""
    _admin_only(context)
    database = str(context.head[context.name])
    to = context.head.get("to")
    if not isinstance(to, str) or not to:
        raise RouterError(Code.InvalidOptions, "you have to specify where you want to move it")
    await context.service.catalog.shard(to)
    fields = {"_shardsvrMovePrimary": database, "to": to, **MAJORITY}
    # Sent to `admin` of the shard; it names the database itself.
    return await on_primary_shard(context, fields, db=database)


async def _bounds(context: Context, routing: Routing) -> tuple[Key, tuple[dict[str, Any], dict[str, Any], str]]:
    """The key a `find`, `bounds` or `middle` argument names, and the chunk that holds it."""
    if routing.pattern is None:
        raise RouterError(Code.NamespaceNotSharded, f"ns not sharded: {routing.namespace}")
    bounds, find, middle = (context.head.get(k) for k in ("bounds", "find", "middle"))
    if isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(b, RawBSONDocument) for b in bounds):
        key = routing.pattern.key_of_bound(rawbson.decode(bounds[0]))
        chunk = routing.chunk_of(key)
        upper = routing.pattern.key_of_bound(rawbson.decode(bounds[1]))
        if key != routing.pattern.key_of_bound(chunk[0]) or upper != routing.pattern.key_of_bound(chunk[1]):
            raise RouterError(Code.IllegalOperation, "no chunk found with the shard key bounds given")
        return key, chunk
    if isinstance(middle, RawBSONDocument):
        key = routing.pattern.key_of_bound(rawbson.decode(middle))
    elif isinstance(find, RawBSONDocument):
        key = routing.pattern.prefix_of_query(rawbson.raw(find))
        if len(key) < len(routing.pattern.fields):
            raise RouterError(Code.ShardKeyNotFound, f"no shard key found in chunk query {rawbson.decode(find)}")
    else:
        raise RouterError(Code.InvalidOptions, "need to specify find, middle or bounds")
    return key, routing.chunk_of(key)


@command("moveChunk", "movechunk", access=on_namespace("moveChunk"))
async def move_chunk(context: Context) -> Reply:
    """Move a chunk to another shard."""
    _admin_only(context)
    namespace = ".".join(_split_namespace(context))
    to = context.head.get("to")
    if not isinstance(to, str):
        raise RouterError(Code.TypeMismatch, "you have to specify where you want to move the chunk")
    await context.service.catalog.shard(to)
    context.service.catalog.forget(namespace)
    routing = await context.service.catalog.routing(namespace)
    _, (low, high, owner) = await _bounds(context, routing)
    if owner == to:
        return {"millis": 0, "ok": 1.0}
    options = {
        "forceJumbo": 1 if context.head.get("forceJumbo") else 0,
        "waitForDelete": bool(context.head.get("_waitForDelete", context.head.get("waitForDelete"))),
    }
    command = {"_configsvrMoveRange": namespace, "toShard": to, "min": low, "max": high, **options, **MAJORITY}
    reply = await on_config_primary(context, command)
    context.service.catalog.forget(namespace)
    return reply


@command("moveRange", access=on_namespace("moveChunk"))
async def move_range(context: Context) -> Reply:
    """Move a range to another shard."""
    _admin_only(context)
    namespace = ".".join(_split_namespace(context))
    reply = await on_config_primary(context, {"_configsvrMoveRange": namespace, **context.options(), **MAJORITY})
    context.service.catalog.forget(namespace)
    return reply


@command("split", access=on_namespace("splitChunk"))
async def split(context: Context) -> Reply:
    """Split a chunk, at `middle` or in halves."""
    _admin_only(context)
    namespace = ".".join(_split_namespace(context))
    context.service.catalog.forget(namespace)
    routing = await context.service.catalog.routing(namespace)
    _, (low, high, owner) = await _bounds(context, routing)
    assert routing.pattern is not None
    identity = routing.versions(owner)["shardVersion"]
    middle = context.head.get("middle")
    if isinstance(middle, RawBSONDocument):
        points = [rawbson.decode(middle)]
    else:
        asked = {
            "splitVector": namespace,
            "keyPattern": routing.pattern.pattern,
            "min": low,
            "max": high,
            "force": True,
        }
        _, reply = await ask(context, owner, asked, write=True, session=False)
        points = rawbson.decode(reply.body)["splitKeys"]
    if not points:
        raise RouterError(Code.CommandFailed, "no split key found: the chunk holds too few different keys")
    command = {
        "splitChunk": namespace, "from": owner, "keyPattern": routing.pattern.pattern, "epoch": identity["e"],
        "timestamp": identity["t"], "min": low, "max": high, "splitKeys": points,
    }  # fmt: skip
    await ask(context, owner, command, write=True, session=False)
    context.service.catalog.forget(namespace)
    return {"ok": 1.0}


@command("mergeChunks", access=on_namespace("splitChunk"))
async def merge_chunks(context: Context) -> Reply:
    """Merge neighbouring chunks of one shard."""
    _admin_only(context)
    namespace = ".".join(_split_namespace(context))
    context.service.catalog.forget(namespace)
    routing = await context.service.catalog.routing(namespace)
    bounds = context.head.get("bounds")
    bounds = [b for b in bounds if isinstance(b, RawBSONDocument)] if isinstance(bounds, list) else []
    if routing.pattern is None or len(bounds) != 2:
        raise RouterError(Code.BadValue, "mergeChunks needs a sharded collection and bounds: [lower, upper]")
    low, high = (rawbson.decode(bound) for bound in bounds)
    owner = routing.chunk_of(routing.pattern.key_of_bound(low))[2]
    identity = routing.versions(owner)["shardVersion"]
    command = {"mergeChunks": namespace, "bounds": [low, high], "epoch": identity["e"], "timestamp": identity["t"]}
    await ask(context, owner, command, write=True, session=False)
    context.service.catalog.forget(namespace)
    return {"ok": 1.0}


@command("flushRouterConfig", access=on_cluster("flushRouterConfig"))
async def flush_router_config(context: Context) -> Reply:
    """Forget the catalogue; it is read again when needed."""
    context.service.catalog.forget_everything()
    return {"flushed": True, "ok": 1.0}


@command("getShardMap", access=on_cluster("getShardMap"))
async def get_shard_map(context: Context) -> Reply:
    """The replica sets by shard."""
    shards = await context.service.catalog.load_shards()
    sets = {**shards, "config": context.service.config}
    strings = {shard: f"{s.name}/{','.join(sorted(s.members))}" for shard, s in sets.items()}
    hosts = {member: shard for shard, s in sets.items() for member in s.members}
    return {"map": strings, "hosts": hosts, "ok": 1.0}


@command("getShardVersion", access=on_namespace("getShardVersion"))
async def get_shard_version(context: Context) -> Reply:
    """The version of the routing table the router has."""
    namespace = ".".join(_split_namespace(context))

    async def attempt() -> Reply:
        routing = await context.service.catalog.routing(namespace)
        if not routing.sharded:
            raise RouterError(Code.NamespaceNotSharded, f"Collection {namespace} is not sharded.")
        version = max((routing.versions(s)["shardVersion"] for s in routing.owners_of_prefix(())), key=lambda v: v["v"])
        return {"version": version["v"], "versionEpoch": version["e"], "versionTimestamp": version["t"], "ok": 1.0}

    return await until_fresh(context, namespace, attempt)


@command("isdbgrid", access=public)
async def is_router(context: Context) -> Reply:
    """Yes, this is a router."""
    return {"isdbgrid": 1, "hostname": str(context.service.options.get("bind_ip", "")), "ok": 1.0}
