"""Which shards a write statement goes to, and the errors of statements that name too little of the shard key.

Source: MongoDB 6.0 manual, "Sharded Cluster Query Routing" and the restrictions under updateOne, deleteOne and
findAndModify "on sharded collections".
"""

from __future__ import annotations

from bson.raw_bson import RawBSONDocument

from . import rawbson
from .catalog import Routing
from .context import Context
from .errors import RouterError

_EMPTY = rawbson.encode({})


def owners_of_statement(context: Context, name: str, statement: bytes, routing: Routing) -> list[str]:
    """The shards statement `statement` of an insert, update or delete goes to; raises RouterError 61 or 72."""
    if routing.pattern is None:
        return [routing.database.primary]
    if name == "insert":
        return [routing.owner(routing.pattern.key_of_document(statement))]
    fields = rawbson.head(statement)
    query = fields.get("q")
    if not isinstance(query, RawBSONDocument):
        raise RouterError(40414, f"BSON field '{name}.{name}s.q' is missing but a required field")
    simple = routing.simple_collation and "collation" not in fields
    prefix = routing.pattern.prefix_of_query(rawbson.raw(query), simple_collation=simple)
    complete = len(prefix) == len(routing.pattern.fields)
    if complete:
        return [routing.owner(prefix)]
    if name == "update":
        return _owners_of_update(routing, fields, rawbson.raw(query), routing.owners_of_prefix(prefix), simple)
    if fields.get("limit") == 1 and not _has_identity(rawbson.raw(query), simple):
        raise RouterError(
            61,
            "A single delete on a sharded collection must contain an exact match on _id (and have the collection"
            " default collation) or contain the shard key (and have the simple collation). Delete request:"
            f" {fields.get('q')}, shard key pattern: {routing.pattern.pattern}",
        )
    return routing.owners_of_prefix(prefix)


def _owners_of_update(
    routing: Routing, fields: dict[str, object], query: bytes, owners: list[str], simple: bool
) -> list[str]:
    assert routing.pattern is not None
    if fields.get("upsert"):
        raise RouterError(61, "Failed to target upsert by query :: could not extract exact shard key")
    if fields.get("multi"):
        return owners
    update = fields.get("u")
    if isinstance(update, RawBSONDocument) and not next(iter(update), "$").startswith("$"):
        # A replacement names the shard key itself; its _id is the one the query names.
        document = rawbson.raw(update)
        identity = rawbson.find(query, frozenset({b"_id"})).get(b"_id")
        if identity and not rawbson.find(document, frozenset({b"_id"})):
            document = rawbson.encode({"_id": rawbson.value_of(query, identity), **update})
        if _names_whole_key(routing, document):
            return [routing.owner(routing.pattern.key_of_document(document))]
    if not _has_identity(query, simple):
        raise RouterError(
            72,
            "A {multi:false} update on a sharded collection must contain an exact match on _id (and have the"
            " collection default collation) or contain the shard key (and have the simple collation)."
            f" Update request: {fields.get('q')}, shard key pattern: {routing.pattern.pattern}",
        )
    return owners


def _names_whole_key(routing: Routing, document: bytes) -> bool:
    assert routing.pattern is not None
    return all(rawbson.find_path(document, path) is not None for path, _ in routing.pattern.fields)


def _has_identity(query: bytes, simple: bool) -> bool:
    element = rawbson.find(query, frozenset({b"_id"})).get(b"_id")
    if not element or not simple or element[0] == 0x0B:
        return False
    if element[0] != 0x03:
        return True
    first = next(iter(rawbson.walk(query, element[1])), None)
    return first is None or not first[0].startswith(b"$") or first[0] == b"$eq"


def owner_of_modification(context: Context, routing: Routing) -> str:
    """The shard a findAndModify goes to; raises RouterError 61."""
    if routing.pattern is None:
        return routing.database.primary
    query = context.head.get("query")
    raw = rawbson.raw(query) if isinstance(query, RawBSONDocument) else _EMPTY
    simple = routing.simple_collation and "collation" not in context.head
    prefix = routing.pattern.prefix_of_query(raw, simple_collation=simple)
    if len(prefix) < len(routing.pattern.fields):
        raise RouterError(61, "Query for sharded findAndModify must contain the shard key")
    return routing.owner(prefix)
