"""The ledger's own collections: created sharded and spread over every shard, with the `ledger` user's privileges.

Against a plain replica set the collections stay unsharded.  Nothing here drops or alters a collection that is there,
except `clean`, which removes the documents of runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient
from pymongo.errors import CollectionInvalid, OperationFailure

from shardmart.cluster.protocol.codes import ALREADY_INITIALIZED
from shardmart.cluster.protocol.connection import is_code

from ..system import PrepareError

Document = dict[str, Any]
Client = MongoClient[Document]


def is_sharded_cluster(client: Client) -> bool:
    """Whether `client` talks to a router."""
    return bool(client.admin.command("hello").get("msg") == "isdbgrid")


def prepare(client: Client, database: str, shard_keys: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Create and shard each collection of `shard_keys` that is missing; returns the names of new ones.

    Hashed keys presplit an empty collection over all shards.  Raises PrepareError when a command is refused.
    """
    existing = set(client[database].list_collection_names())
    sharded = is_sharded_cluster(client)
    created = []
    for name, key in shard_keys.items():
        namespace = f"{database}.{name}"
        try:
            if sharded:
                client.admin.command("shardCollection", namespace, key=dict(key))
            elif name not in existing:
                client[database].create_collection(name)
        except CollectionInvalid:
            continue
        except OperationFailure as error:
            if is_code(error, ALREADY_INITIALIZED):  # it is sharded with other options
                continue
            raise PrepareError(
                f"cannot shard {namespace} by {key}: {error.details.get('errmsg', error) if error.details else error}."
                " The user needs readWrite and the action enableSharding on this database (see roles/users)"
            ) from None
        if name not in existing:
            created.append(name)
    return created


def run_range(run: str) -> Document:
    """The query for the documents of one run: their `_id` starts with the run's id and a colon."""
    return {"_id": {"$gte": f"{run}:", "$lt": f"{run};"}}


def clean(client: Client, database: str, run: str | None) -> dict[str, int]:
    """Delete the documents of `run` (of every run when None); returns how many per collection."""
    query = run_range(run) if run else {}
    return {
        name: client[database][name].delete_many(query).deleted_count
        for name in client[database].list_collection_names()
    }
