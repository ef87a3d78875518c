"""Databases, collections and indexes: each command to the shard or config server that carries it out.

Source: MongoDB 6.0 manual, "Database Commands"; the `_shardsvr…` and `_configsvr…` forms were checked against
mongod 6.0.5.
"""

from __future__ import annotations

from typing import Any

from bson import Int64

from ..operations.authorization import Access, Need, on_collection, on_database, pipeline_needs, public
from ..operations.context import Context, Reply, command, own
from ..operations.cursors import keep_cursor
from ..operations.send import ask, ask_all, attempt_until_fresh, empty_cursor, until_fresh
from ..operations.targeting import routing_of
from ..protocol.errors import Code, RouterError

MAJORITY = {"writeConcern": {"w": "majority"}}


async def on_primary_shard(context: Context, fields: dict[str, Any], *, create: bool = False, db: str = "") -> Reply:
    """Run `fields` with the database's version on its primary shard; raises RouterError 26 without the database."""
    name = db or context.db
    catalog = context.service.catalog

    async def attempt() -> Reply:
        database = await (catalog.create_database(name) if create else catalog.database(name))
        versions = {"databaseVersion": database.version} if database.version else {}
        return (await ask(context, database.primary, {**fields, **versions}, write=True))[1].body

    try:
        return await attempt_until_fresh(context, f"{name}.", attempt)
    finally:
        catalog.forget_database(name)


def _of_view(context: Context, action: str) -> list[Need]:
    """`action`, and what the view's pipeline needs: or a view would show what its maker may not read."""
    needs = [Need(action, context.db, context.collection)]
    source = context.head.get("viewOn")
    if isinstance(source, str):
        needs += pipeline_needs(context.db, source, list(context.head.get("pipeline", [])))
    return needs


def _for_all_shards(name: str, internal: str, access: Access) -> None:
    """Serve a command on a collection by its counterpart on the primary shard, which has all shards do it."""

    @command(name, access=access)
    async def handler(context: Context) -> Reply:
        return await on_primary_shard(context, {internal: context.collection, **context.options(), **MAJORITY})


_for_all_shards("drop", "_shardsvrDropCollection", on_collection("dropCollection"))
_for_all_shards("collMod", "_shardsvrCollMod", lambda context: _of_view(context, "collMod"))
_for_all_shards("dropIndexes", "_shardsvrDropIndexes", on_collection("dropIndex"))


@command("create", access=lambda context: _of_view(context, "createCollection"), transaction=True)
async def create(context: Context) -> Reply:
    """Create an unsharded collection or a view, on the primary shard."""
    fields = {"create": context.collection, **context.options(), **context.write_concern()}
    return await on_primary_shard(context, fields, create=True)


@command("dropDatabase", access=on_database("dropDatabase"))
async def drop_database(context: Context) -> Reply:
    """Drop a database on all shards."""
    if context.db in ("admin", "config"):
        raise RouterError(Code.IllegalOperation, f"Cannot drop the {context.db} database")
    try:
        await on_primary_shard(context, {"_shardsvrDropDatabase": 1, **MAJORITY})
    except RouterError as error:
        if error.code != Code.NamespaceNotFound:
            raise
    return {"dropped": context.db, "ok": 1.0}


def _rename_needs(context: Context) -> list[Need]:
    source, target = (str(context.head.get(k, "")).partition(".") for k in ("renameCollection", "to"))
    needs = [Need(a, source[0], source[2]) for a in ("renameCollectionSameDB", "find", "dropCollection")]
    return needs + [Need(a, target[0], target[2]) for a in ("renameCollectionSameDB", "insert", "createIndex")]


@command("renameCollection", access=_rename_needs)
async def rename_collection(context: Context) -> Reply:
    """Rename within a database."""
    source, target = str(context.head["renameCollection"]), str(context.head.get("to", ""))
    context.db, _, collection = source.partition(".")
    if target.partition(".")[0] != context.db:
        raise RouterError(Code.IllegalOperation, "Source and destination collections must be on the same database")
    await on_primary_shard(context, {"_shardsvrRenameCollection": collection, **context.options(), **MAJORITY})
    return {"ok": 1.0}


def _on_owners(name: str, access: Access, *, creates: bool = False) -> None:
    """Serve `name` by sending it to each shard that owns part of the collection, several replies under `raw`."""

    @command(name, access=access, transaction=creates)
    @until_fresh
    async def handler(context: Context) -> Reply:
        fields = {name: context.collection, **context.options()}
        if creates:
            await context.service.catalog.create_database(context.db)
            fields |= context.write_concern()
        routing = await routing_of(context)
        answers = await ask_all(context, routing.owners_of_prefix(()), fields, routing, write=True)
        documents = {shard: own(reply) for shard, (_, reply) in answers.items()}
        if len(documents) == 1:
            return documents.popitem()[1]
        valid = {"valid": all(d.get("valid", True) for d in documents.values())} if name == "validate" else {}
        return {**valid, "raw": documents, "ok": 1.0}


_on_owners("createIndexes", on_collection("createIndex"), creates=True)
_on_owners("validate", on_collection("validate"))
_on_owners("planCacheClear", on_collection("planCacheWrite"))


@command("listIndexes", access=on_collection("listIndexes"), cancel=True)
@until_fresh
async def list_indexes(context: Context) -> Reply:
    """The indexes, as one shard with chunks has them."""
    routing = await routing_of(context)
    shard = routing.owners_of_prefix(())[0]
    fields = {"listIndexes": context.collection, **context.options(), **routing.versions(shard)}
    return keep_cursor(context, *await ask(context, shard, fields))


@command("listCollections", access=on_database("listCollections"), cancel=True)
@until_fresh
async def list_collections(context: Context) -> Reply:
    """The collections, as the primary shard has them."""
    try:
        database = await context.service.catalog.database(context.db)
    except RouterError as error:
        if error.code != Code.NamespaceNotFound:
            raise
        return empty_cursor(f"{context.db}.$cmd.listCollections")
    options = {k: v for k, v in context.options().items() if k != "authorizedCollections"}
    versions = {"databaseVersion": database.version} if database.version else {}
    return keep_cursor(context, *await ask(context, database.primary, {"listCollections": 1, **options, **versions}))


@command("listDatabases", access=public, cancel=True)
async def list_databases(context: Context) -> Reply:
    """All databases with their sizes summed over the shards; those the user may not see are left out."""
    shards = [*sorted(await context.service.catalog.load_shards()), "config"]
    fields = {"listDatabases": 1, **{k: v for k, v in context.options().items() if k in ("filter", "nameOnly")}}
    sizes: dict[str, dict[str, Any]] = {}
    for shard, (_, reply) in (await ask_all(context, shards, fields)).items():
        for database in reply.document["databases"]:
            name = database["name"]
            if name == "local" or (name in ("admin", "config")) != (shard == "config"):
                continue
            entry = sizes.setdefault(name, {"name": name})
            if "sizeOnDisk" in database:
                entry["sizeOnDisk"] = Int64(entry.get("sizeOnDisk", 0) + database["sizeOnDisk"])
                entry["empty"] = entry.get("empty", True) and database["empty"]
    databases = [sizes[name] for name in await _visible(context, sorted(sizes))]
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
