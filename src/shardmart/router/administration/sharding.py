"""Sharding administration: shards, zones, chunks, the balancer; carried out by the config servers and primary shards.

Source: MongoDB 6.0 manual, "Sharding Commands"; the `_configsvr…` and `_shardsvr…` forms were checked against
mongod 6.0.5.
"""

from __future__ import annotations

from typing import Any

from bson.raw_bson import RawBSONDocument

from ..operations.authorization import Access, Need, on_cluster, on_namespace
from ..operations.context import Context, Reply, as_document, command
from ..operations.send import ask
from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..routing.catalog import Routing
from ..routing.shard_key import KeyPattern
from .collections import MAJORITY, on_primary_shard


def _zones(*collections: str) -> Access:
    """enableSharding on the cluster, or the right to change these collections of `config`, as mongos has it."""
    needs = tuple(Need("update", "config", collection) for collection in collections)
    return lambda _: [Need("enableSharding", instead=needs)]


def _settings(action: str) -> Access:
    """`action` on config.settings, where the balancer's mode is kept: what mongos asks for (BalancerControlCommand)."""
    return lambda _: [Need(action, "config", "settings")]


async def on_config_primary(context: Context, fields: dict[str, Any], *, retryable: bool = True) -> Reply:
    """Run a command on the config primary; raises RouterError."""
    data = wire.command({**fields, **context.service.clock.gossip(), "$db": context.db})
    return wire.checked((await context.service.config.call_primary(data, retryable=retryable))[1]).body


def _forward(name: str, access: Access, concern: dict[str, Any] = MAJORITY) -> None:
    """Serve an admin command by its `_configsvr` counterpart with the same fields."""
    internal = f"_configsvr{name[0].upper()}{name[1:]}"

    @command(name, access=access)
    async def handler(context: Context) -> Reply:
        context.admin_only()
        reply = await on_config_primary(context, {internal: context.head[name], **context.options(), **concern})
        if name in ("addShard", "removeShard"):
            await context.service.catalog.load_shards()
        return reply


_forward("addShard", on_cluster("addShard"))
_forward("removeShard", on_cluster("removeShard"))
_forward("addShardToZone", _zones("shards"))
_forward("removeShardFromZone", _zones("shards", "tags"))
_forward("updateZoneKeyRange", _zones("tags"))
_forward("balancerStatus", _settings("find"), {})
_forward("balancerStart", _settings("update"), {})
_forward("balancerStop", _settings("update"), {})
_forward("balancerCollectionStatus", on_cluster("inprog"), {})
_forward("configureCollectionBalancing", _zones("collections"))
_forward("clearJumboFlag", on_cluster("clearJumboFlag"))
_forward("moveRange", on_namespace("moveChunk"))


@command("listShards", access=on_cluster("listShards"))
async def list_shards(context: Context) -> Reply:
    """The shards as config.shards has them."""
    context.admin_only()
    return {"shards": await context.service.catalog.read_config("shards", {}), "ok": 1.0}


def _on_database(action: str) -> Access:
    return lambda context: [Need(action, str(context.head[context.name]))]


@command("enableSharding", access=_on_database("enableSharding"))
async def enable_sharding(context: Context) -> Reply:
    """Create the database in the catalogue; since 6.0 nothing else is left to do."""
    context.admin_only()
    name, primary = context.head[context.name], context.head.get("primaryShard")
    if not isinstance(name, str) or not name or set(name) & set('/\\. "$\0'):
        raise RouterError(Code.InvalidNamespace, f"invalid db name specified: {name!r}")
    if name in ("admin", "config", "local"):
        raise RouterError(Code.IllegalOperation, f"can't shard {name} database")
    await context.service.catalog.create_database(name, primary if isinstance(primary, str) else None)
    return {"ok": 1.0}


def _split_namespace(context: Context) -> tuple[str, str]:
    """Database and collection of a command for `admin` that names both."""
    context.admin_only()
    database, _, collection = str(context.head[context.name]).partition(".")
    if not database or not collection:
        raise RouterError(Code.InvalidNamespace, f"Invalid namespace specified '{context.head[context.name]}'")
    return database, collection


@command("shardCollection", access=on_namespace("enableSharding"))
async def shard_collection(context: Context) -> Reply:
    """Shard a collection; once more with the same key and uniqueness changes nothing."""
    context.db, collection = _split_namespace(context)
    namespace, options = f"{context.db}.{collection}", context.options()
    key = options.pop("key", None)
    if not isinstance(key, RawBSONDocument) or not list(key):
        raise RouterError(Code.FailedToParse, "shardCollection needs a shard key, such as {key: {_id: 'hashed'}}")
    fields = {"_shardsvrCreateCollection": collection, "shardKey": key, **options, **MAJORITY}
    made = as_document(await on_primary_shard(context, fields, create=True))
    return {"collectionsharded": namespace, "collectionUUID": made.get("collectionUUID"), "ok": 1.0}


@command("reshardCollection", access=on_namespace("reshardCollection"))
async def reshard_collection(context: Context) -> Reply:
    """Shard a collection by another key, while it is in use."""
    database, collection = _split_namespace(context)
    fields = {"_shardsvrReshardCollection": f"{database}.{collection}", **context.options(), **MAJORITY}
    return await on_primary_shard(context, fields, db=database)  # sent to `admin`, like movePrimary


@command("refineCollectionShardKey", access=on_namespace("refineCollectionShardKey"))
async def refine_shard_key(context: Context) -> Reply:
    """Add fields to a shard key."""
    context.db, collection = _split_namespace(context)
    options = context.options()
    options["newShardKey"] = options.pop("key", None)  # the one field that has another name between members
    return await on_primary_shard(context, {"_shardsvrRefineCollectionShardKey": collection, **options, **MAJORITY})


async def _shard_named(context: Context) -> str:
    """The shard that `to` names; raises RouterError 72 or 70."""
    to = context.head.get("to")
    if not isinstance(to, str) or not to:
        raise RouterError(Code.InvalidOptions, "you have to specify where you want to move it")
    await context.service.catalog.shard(to)
    return to


@command("movePrimary", access=_on_database("moveChunk"))
async def move_primary(context: Context) -> Reply:
    """Move a database's unsharded collections to another shard."""
    context.admin_only()
    database = str(context.head[context.name])
    fields = {"_shardsvrMovePrimary": database, "to": await _shard_named(context), **MAJORITY}
    # Sent to `admin` of the shard; it names the database itself.
    return await on_primary_shard(context, fields, db=database)


async def _chunk(context: Context) -> tuple[Routing, KeyPattern, dict[str, Any]]:
    """The newest routing table, and the chunk that `find`, `bounds` or `middle` names in it."""
    namespace = ".".join(_split_namespace(context))
    context.service.catalog.forget(namespace)
    routing = await context.service.catalog.routing(namespace)
    pattern = routing.pattern
    if pattern is None:
        raise RouterError(Code.NamespaceNotSharded, f"ns not sharded: {namespace}")
    bounds, find, middle = (context.head.get(k) for k in ("bounds", "find", "middle"))
    if isinstance(bounds, list) and len(bounds) == 2:
        low, high = (pattern.key_of_bound(rawbson.decode(bound)) for bound in context.array("bounds"))
        chunk = routing.chunk_of(low)
        if (low, high) != tuple(pattern.key_of_bound(chunk[side]) for side in ("min", "max")):
            raise RouterError(Code.IllegalOperation, "no chunk found with the shard key bounds given")
        return routing, pattern, chunk
    if isinstance(middle, RawBSONDocument):
        key = pattern.key_of_bound(rawbson.decode(middle))
    elif isinstance(find, RawBSONDocument):
        key = pattern.prefix_of_query(rawbson.raw(find))
        if len(key) < len(pattern.fields):
            raise RouterError(Code.ShardKeyNotFound, f"no shard key found in chunk query {rawbson.decode(find)}")
    else:
        raise RouterError(Code.InvalidOptions, "need to specify find, middle or bounds")
    return routing, pattern, routing.chunk_of(key)


@command("moveChunk", access=on_namespace("moveChunk"))
async def move_chunk(context: Context) -> Reply:
    """Move a chunk to another shard."""
    routing, _, chunk = await _chunk(context)
    to = await _shard_named(context)
    if chunk["shard"] == to:
        return {"millis": 0, "ok": 1.0}
    bounds, forced = {"min": chunk["min"], "max": chunk["max"]}, 1 if context.head.get("forceJumbo") else 0
    wait = bool(context.head.get("_waitForDelete", context.head.get("waitForDelete")))
    move = {"_configsvrMoveRange": routing.namespace, "toShard": to, **bounds, "forceJumbo": forced}
    return await on_config_primary(context, {**move, "waitForDelete": wait, **MAJORITY})


@command("split", access=on_namespace("splitChunk"))
async def split(context: Context) -> Reply:
    """Split a chunk, at `middle` or in halves."""
    routing, pattern, found = await _chunk(context)
    owner, chunk = found["shard"], {"keyPattern": pattern.pattern, "min": found["min"], "max": found["max"]}
    points = [context.document("middle")]
    if "middle" not in context.head:
        _, reply = await ask(context, owner, {"splitVector": routing.namespace, **chunk, "force": True}, write=True)
        points = reply.document["splitKeys"]
    if not points:
        raise RouterError(Code.CommandFailed, "no split key found: the chunk holds too few different keys")
    version = routing.versions(owner)["shardVersion"]
    command = {"splitChunk": routing.namespace, "from": owner, **chunk, "splitKeys": points}
    await ask(context, owner, {**command, "epoch": version["e"], "timestamp": version["t"]}, write=True)
    return {"ok": 1.0}


@command("getShardVersion", access=on_namespace("getShardVersion"))
async def get_shard_version(context: Context) -> Reply:
    """The version of the routing table the router has."""
    routing = await context.service.catalog.routing(".".join(_split_namespace(context)))
    if not routing.sharded:
        raise RouterError(Code.NamespaceNotSharded, f"Collection {routing.namespace} is not sharded.")
    version = max((routing.versions(s)["shardVersion"] for s in routing.owners_of_prefix(())), key=lambda v: v["v"])
    return {"version": version["v"], "versionEpoch": version["e"], "versionTimestamp": version["t"], "ok": 1.0}
