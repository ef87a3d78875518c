"""Which shards a write statement goes to, and the errors of statements that name too little of the shard key.

Source: MongoDB 6.0 manual, "Sharded Cluster Query Routing" and the restrictions under updateOne, deleteOne and
findAndModify "on sharded collections".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bson.raw_bson import RawBSONDocument

from ..protocol import rawbson
from ..protocol.errors import Code, RouterError
from ..routing.catalog import Database, Routing
from ..routing.shard_key import Key, KeyPattern
from .context import Context
from .send import routing_for

_IDENTITY = frozenset({b"_id"})
_EMPTY = rawbson.encode({})
_STATEMENT_FIELDS = {
    "update": {"q", "u", "c", "multi", "hint", "upsert", "collation", "arrayFilters", "sampleId", "upsertSupplied"},
    "delete": {"q", "limit", "hint", "collation", "sampleId"},
}
_REQUIRED = {"update": {"q", "u"}, "delete": {"q", "limit"}}


def check_statement(name: str, statement: bytes) -> None:
    """Raise what a member says of a statement with the wrong fields, before anything of its batch is sent.

    Of wrong values it says so itself.
    """
    fields = {raw_name.decode() for raw_name, *_ in rawbson.walk(statement)}
    if unknown := fields - _STATEMENT_FIELDS[name]:
        raise RouterError(Code.UnknownField, f"BSON field '{name}.{name}s.{min(unknown)}' is an unknown field.")
    if missing := _REQUIRED[name] - fields:
        message = f"BSON field '{name}.{name}s.{min(missing)}' is missing but a required field"
        raise RouterError(Code.MissingField, message)


async def a_shard(context: Context) -> str:
    """Any shard; raises RouterError 70 when there is none."""
    shards = await context.service.catalog.load_shards()
    if not shards:
        raise RouterError(Code.ShardNotFound, "No shards found")
    return first_heard(context, shards)


def first_heard(context: Context, shards: Iterable[str]) -> str:
    """The first of `shards` with members that answered lately, if there is one: it need not be waited for."""
    known = context.service.catalog.shards
    return min(shards, key=lambda name: (name in known and not known[name].states, name))


async def routing_of(context: Context) -> Routing:
    """The routing table of the command's collection; raises RouterError 70 without database and shard.

    Without the database any shard says what one server says: that there is nothing, or what is wrong with the command.
    """
    try:
        return await routing_for(context)
    except RouterError as error:
        if error.code != Code.NamespaceNotFound:
            raise
        return Routing(context.namespace, Database(context.db, await a_shard(context), {}))


def owners_of(context: Context, routing: Routing, query: Any) -> list[str]:
    """The shards that a query has to ask."""
    if routing.pattern is None:
        return [routing.database.primary]
    return routing.owners_of_prefix(_prefix(context, routing.pattern, routing, query))


def _prefix(context: Context, pattern: KeyPattern, routing: Routing, query: Any) -> Key:
    simple = routing.simple_collation and "collation" not in context.head
    raw = rawbson.raw(query) if isinstance(query, RawBSONDocument) else _EMPTY
    return pattern.prefix_of_query(raw, simple_collation=simple)


def owners_of_statement(context: Context, name: str, statement: bytes, routing: Routing) -> list[str]:
    """The shards statement `statement` of an insert, update or delete goes to; raises RouterError 61 or 72."""
    if routing.pattern is None:
        return [routing.database.primary]
    if name == "insert":
        return [routing.owner(routing.pattern.key_of_document(statement))]
    fields = rawbson.head(statement)
    if not isinstance(fields.get("q"), RawBSONDocument):
        raise RouterError(Code.MissingField, f"BSON field '{name}.{name}s.q' is missing but a required field")
    query = rawbson.raw(fields["q"])
    simple = routing.simple_collation and "collation" not in fields
    prefix = routing.pattern.prefix_of_query(query, simple_collation=simple)
    if len(prefix) == len(routing.pattern.fields):
        return [routing.owner(prefix)]
    owners = routing.owners_of_prefix(prefix)
    names_one = simple and _exact_identity(query) is not None
    if name == "delete":
        if fields.get("limit") == 1 and not names_one:
            raise _names_too_little(Code.ShardKeyNotFound, "single delete", fields, routing.pattern)
        return owners
    if fields.get("upsert"):
        # By the query alone: by its new document, an upsert could insert where another shard has a match.
        message = "Failed to target upsert by query :: could not extract exact shard key"
        raise RouterError(Code.ShardKeyNotFound, message)
    if len(owners) == 1 or fields.get("multi"):
        return owners
    key = _key_of_replacement(routing.pattern, fields.get("u"), query)
    if key is not None:
        return [routing.owner(key)]
    if not names_one:
        raise _names_too_little(Code.InvalidOptions, "{multi:false} update", fields, routing.pattern)
    return owners


def _names_too_little(code: Code, statement: str, fields: dict[str, Any], pattern: KeyPattern) -> RouterError:
    needs = "an exact match on _id (and have the collection default collation) or contain the shard key"
    said = f"A {statement} on a sharded collection must contain {needs} (and have the simple collation)."
    return RouterError(code, f"{said} Request: {fields['q']}, shard key pattern: {pattern.pattern}")


def _key_of_replacement(pattern: KeyPattern, update: Any, query: bytes) -> Key | None:
    """The key of a replacement, whose `_id` is the one the query names; None when there is none, or not whole."""
    if not isinstance(update, RawBSONDocument) or next(iter(update), "").startswith("$"):
        return None
    document = rawbson.raw(update)
    if any(path[0] == b"_id" for path, _ in pattern.fields) and not rawbson.find(document, _IDENTITY):
        found = _exact_identity(query)
        if found is None:
            return None
        document = rawbson.encode({"_id": rawbson.value_of(query, found), **rawbson.decode(document)})
    if any(rawbson.find_path(document, path) is None for path, _ in pattern.fields):
        return None
    return pattern.key_of_document(document)


def _exact_identity(query: bytes) -> rawbson.Element | None:
    element = rawbson.find(query, _IDENTITY).get(b"_id")
    if not element or element[0] == 0x0B:
        return None
    if element[0] != 0x03:
        return element
    name, kind, start, end = next(iter(rawbson.walk(query, element[1])), (b"", 0, 0, 0))
    if name == b"$eq":
        return (kind, start, end)
    return None if name.startswith(b"$") else element


def owner_of_modification(context: Context, routing: Routing) -> str:
    """The shard a findAndModify goes to; raises RouterError 61."""
    if routing.pattern is None:
        return routing.database.primary
    prefix = _prefix(context, routing.pattern, routing, context.head.get("query"))
    if len(prefix) < len(routing.pattern.fields):
        raise RouterError(Code.ShardKeyNotFound, "Query for sharded findAndModify must contain the shard key")
    return routing.owner(prefix)
