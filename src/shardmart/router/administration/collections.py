"""Databases, collections and indexes: each command to the shard or config server that carries it out.

Source: MongoDB 6.0 manual, "Database Commands"; the `_shardsvr…` and `_configsvr…` forms were checked against
mongod 6.0.5.
"""

from __future__ import annotations

from typing import Any

from bson import Int64

from ..operations.authorization import Access, Need, on_collection, on_database, pipeline_needs, public
from ..operations.context import Context, Reply, command
from ..operations.cursors import keep_cursor
from ..operations.send import ask, empty_cursor, everywhere, until_fresh
from ..operations.targeting import routing_of
from ..protocol import rawbson
from ..protocol.errors import Code, RouterError
from ..routing.catalog import Routing


async def on_primary_shard(context: Context, fields: dict[str, Any], *, create: bool = False, db: str = "") -> Reply:
    """Run `fields` with the database's version on its primary shard; raises RouterError 26 without the database."""
    name = db or context.db
    catalog = context.service.catalog

    async def attempt() -> Reply:
        database = await (catalog.create_database(name) if create else catalog.database(name))
        versions = {"databaseVersion": database.version} if database.version else {}
        return (await ask(context, database.primary, {**fields, **versions}, write=True))[1].body

    try:
        return await until_fresh(context, f"{name}.", attempt)
    finally:
        catalog.forget_database(name)


def _of_view(context: Context, action: str) -> list[Need]:
    """`action`, and what the view's pipeline needs: or a view would show what its maker may not read."""
    needs = [Need(action, context.db, context.collection)]
    source = context.head.get("viewOn")
    if isinstance(source, str):
        needs += pipeline_needs(context.db, source, list(context.head.get("pipeline", [])))
    return needs


@command("create", access=lambda context: _of_view(context, "createCollection"), transaction=True)
async def create(context: Context) -> Reply:
    """Create an unsharded collection or a view, on the primary shard."""
    fields = {"create": context.collection, **context.options(), **await context.write_concern()}
    return await on_primary_shard(context, fields, create=True)


@command("drop", access=on_collection("dropCollection"))
async def drop(context: Context) -> Reply:
    """Drop a collection on all shards."""
    fields = {"_shardsvrDropCollection": context.collection, "writeConcern": {"w": "majority"}}
    try:
        await on_primary_shard(context, fields)
    except RouterError as error:
        if error.code != Code.NamespaceNotFound:
            raise
        raise RouterError(Code.NamespaceNotFound, "ns not found") from None
    return {"ns": context.namespace, "ok": 1.0}


@command("dropDatabase", access=on_database("dropDatabase"))
async def drop_database(context: Context) -> Reply:
    """Drop a database on all shards."""
    if context.db in ("admin", "config"):
        raise RouterError(Code.IllegalOperation, f"Cannot drop the {context.db} database")
    try:
        await on_primary_shard(context, {"_shardsvrDropDatabase": 1, "writeConcern": {"w": "majority"}})
    except RouterError as error:
        if error.code != Code.NamespaceNotFound:
            raise
        return {"info": "database does not exist", "ok": 1.0}
    return {"dropped": context.db, "ok": 1.0}


def _rename_needs(context: Context) -> list[Need]:
    source, target = (str(context.head.get(k, "")).partition(".") for k in ("renameCollection", "to"))
    needs = [Need(a, source[0], source[2]) for a in ("renameCollectionSameDB", "find", "dropCollection")]
    return needs + [Need(a, target[0], target[2]) for a in ("renameCollectionSameDB", "insert", "createIndex")]


@command("renameCollection", access=_rename_needs)
async def rename_collection(context: Context) -> Reply:
    """Rename within a database."""
    source, target = str(context.head["renameCollection"]), str(context.head.get("to", ""))
    database, _, collection = source.partition(".")
    if target.partition(".")[0] != database:
        raise RouterError(Code.IllegalOperation, "Source and destination collections must be on the same database")
    context.db = database
    options = {k: v for k, v in context.head.items() if k in ("to", "dropTarget")}
    fields = {"_shardsvrRenameCollection": collection, **options, "writeConcern": {"w": "majority"}}
    await on_primary_shard(context, fields)
    return {"ok": 1.0}


@command("collMod", access=lambda context: _of_view(context, "collMod"))
async def collection_modify(context: Context) -> Reply:
    """Change validator, TTL and the like on all shards."""
    fields = {"_shardsvrCollMod": context.collection, **context.options(), "writeConcern": {"w": "majority"}}
    return await on_primary_shard(context, fields)


@command("createIndexes", access=on_collection("createIndex"), transaction=True)
async def create_indexes(context: Context) -> Reply:
    """Build indexes on every shard that has chunks."""
    concern = await context.write_concern()

    async def attempt() -> dict[str, Any]:
        await context.service.catalog.create_database(context.db)
        routing = await context.service.catalog.routing(context.namespace)
        owners = routing.owners_of_prefix(())
        fields = {"createIndexes": context.collection, **context.options(), **concern}
        replies = await everywhere(ask(context, s, fields | routing.versions(s), write=True) for s in owners)
        return await _raw(context, owners, replies)

    return await until_fresh(context, context.namespace, attempt)


async def _raw(context: Context, owners: list[str], replies: list[Any]) -> dict[str, Any]:
    raw = {}
    for shard, (_, reply) in zip(owners, replies, strict=True):
        replica_set = await context.service.catalog.shard(shard)
        document = rawbson.decode(reply.body)
        kept = ("numIndexesBefore", "numIndexesAfter", "createdCollectionAutomatically", "note", "commitQuorum", "ok")
        raw[f"{replica_set.name}/{','.join(sorted(replica_set.members))}"] = {
            k: document[k] for k in kept if k in document
        }
    return {"raw": raw, "ok": 1.0}


@command("dropIndexes", "deleteIndexes", access=on_collection("dropIndex"))
async def drop_indexes(context: Context) -> Reply:
    """Drop indexes on all shards."""
    fields = {"_shardsvrDropIndexes": context.collection, **context.options(), "writeConcern": {"w": "majority"}}
    return await on_primary_shard(context, fields)


def _first_owner(routing: Routing) -> str:
    return routing.owners_of_prefix(())[0]


@command("listIndexes", access=on_collection("listIndexes"), cancel=True)
async def list_indexes(context: Context) -> Reply:
    """The indexes, as one shard with chunks has them."""

    async def attempt() -> Reply:
        routing = await routing_of(context)
        if routing is None:
            raise RouterError(Code.NamespaceNotFound, f"ns does not exist: {context.namespace}")
        shard = _first_owner(routing)
        fields = {"listIndexes": context.collection, **context.options(), **routing.versions(shard)}
        return keep_cursor(context, *await ask(context, shard, fields))

    return await until_fresh(context, context.namespace, attempt)


@command("listCollections", access=on_database("listCollections"), cancel=True)
async def list_collections(context: Context) -> Reply:
    """The collections, as the primary shard has them."""

    async def attempt() -> Reply:
        try:
            database = await context.service.catalog.database(context.db)
        except RouterError as error:
            if error.code != Code.NamespaceNotFound:
                raise
            return empty_cursor(f"{context.db}.$cmd.listCollections")
        options = {k: v for k, v in context.options().items() if k != "authorizedCollections"}
        versions = {"databaseVersion": database.version} if database.version else {}
        fields = {"listCollections": 1, **options, **versions}
        return keep_cursor(context, *await ask(context, database.primary, fields))

    return await until_fresh(context, f"{context.db}.", attempt)


@command("listDatabases", access=public, cancel=True)
async def list_databases(context: Context) -> Reply:
    """All databases with their sizes summed over the shards; those the user may not see are left out."""
    shards = await context.service.catalog.load_shards()
    fields = {"listDatabases": 1, **{k: v for k, v in context.options().items() if k in ("filter", "nameOnly")}}
    sizes: dict[str, dict[str, Any]] = {}
    for shard in [*sorted(shards), "config"]:
        _, reply = await ask(context, shard, fields)
        for database in rawbson.decode(reply.body)["databases"]:
            name = database["name"]
            if name == "local" or (name in ("admin", "config")) != (shard == "config"):
                continue
            entry = sizes.setdefault(name, {"name": name})
            if "sizeOnDisk" in database:
                entry["sizeOnDisk"] = Int64(entry.get("sizeOnDisk", 0) + database["sizeOnDisk"])
                entry["empty"] = entry.get("empty", True) and database["empty"]
                entry.setdefault("shards", {})[shard] = Int64(database["sizeOnDisk"])
    visible = await _visible(context, sorted(sizes))
    databases = [sizes[name] for name in visible]
    if context.head.get("nameOnly"):
        return {"databases": databases, "ok": 1.0}
    total = sum(int(database.get("sizeOnDisk", 0)) for database in databases)
    return {"databases": databases, "totalSize": Int64(total), "totalSizeMb": Int64(total >> 20), "ok": 1.0}


async def _visible(context: Context, names: list[str]) -> list[str]:
    if not context.service.users.enabled or context.client.user is None:
        return names
    _, privileges = await context.service.users.load(*context.client.user)
    if privileges.allow(Need("listDatabases")) and not context.head.get("authorizedDatabases"):
        return names
    return [name for name in names if privileges.allow_somewhere("find", name)]


def passthrough(name: str, access: Access) -> None:
    """Serve `name` by sending it to each shard that owns part of the collection, replies under `raw`."""

    @command(name, access=access)
    async def handler(context: Context) -> Reply:
        async def attempt() -> Reply:
            routing = await routing_of(context)
            if routing is None:
                raise RouterError(Code.NamespaceNotFound, f"ns not found: {context.namespace}")
            owners = routing.owners_of_prefix(())
            fields = {name: context.collection, **context.options()}
            replies = await everywhere(ask(context, s, fields | routing.versions(s), write=True) for s in owners)
            documents: dict[str, Any] = {s: rawbson.decode(r.body) for s, (_, r) in zip(owners, replies, strict=True)}
            if len(owners) == 1:
                only: dict[str, Any] = next(iter(documents.values()))
                return only
            valid = {"valid": all(d.get("valid", True) for d in documents.values())} if name == "validate" else {}
            return {**valid, "raw": documents, "ok": 1.0}

        return await until_fresh(context, context.namespace, attempt)


passthrough("validate", on_collection("validate"))
passthrough("compact", on_collection("compact"))
passthrough("planCacheClear", on_collection("planCacheWrite"))
