"""What a database holds: whose data sets, how much, on which shards, and where it should be.

Only `empty` changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, DESCENDING, MongoClient, ReadPreference
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from shardmart.cluster.protocol.codes import UNAUTHORIZED
from shardmart.declare.data_model import DataModel
from shardmart.errors import UnreachableError

from .generation import identity
from .generation.dataset import COLLECTIONS, Document

DELETE_BATCH = 5_000


@dataclass(frozen=True)
class Survey:
    """What there was before a load."""

    sharded: bool
    """Whether we talk to a router."""
    other_seeds: tuple[int, ...]
    """Seeds of other data sets that are there, at most one per collection."""
    empty: frozenset[str]
    """Collections that hold nothing of the seed asked about."""
    products: int
    """How many articles of that seed have been loaded, by the greatest position."""


@dataclass(frozen=True)
class Placement:
    """Documents of a collection per shard, as found and as zones and shard key predict."""

    found: dict[str, int]
    predicted: dict[str, float] | None
    """None when the user may not read the cluster's zones."""


def survey(client: MongoClient[Document], model: DataModel, seed: int) -> Survey:
    """Look at the database through `client`. Raises UnreachableError when the collections are not there."""
    database = client.get_database(
        model.database, read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY
    )
    absent = set(COLLECTIONS) - set(database.list_collection_names())
    if absent:
        names = ", ".join(f"{model.database}.{name}" for name in COLLECTIONS if name in absent)
        raise UnreachableError(
            f"{names}: no such collection; bootstrap the cluster first (playbooks/bootstrap.yml with its topology)"
        )
    others: set[int] = set()
    empty: set[str] = set()
    products = 0
    for name in COLLECTIONS:
        low, high = identity.seed_bounds(name, seed)
        first, last = identity.kind_bounds(name)
        elsewhere = {"$or": [{"_id": {"$gte": first, "$lt": low}}, {"_id": {"$gt": high, "$lte": last}}]}
        if other := database[name].find_one(elsewhere, {"_id": 1}):
            others.add(identity.parse(other["_id"])[1])
        greatest = database[name].find_one({"_id": {"$gte": low, "$lte": high}}, {"_id": 1}, sort=[("_id", DESCENDING)])
        if greatest is None:
            empty.add(name)
            continue
        if name == "products":
            products = identity.parse(greatest["_id"])[2] + 1
    sharded = client.admin.command("hello").get("msg") == "isdbgrid"
    return Survey(sharded, tuple(sorted(others)), frozenset(empty), products)


def empty(client: MongoClient[Document], model: DataModel) -> Iterator[int]:
    """Delete every document of the three collections; gives the number deleted with each step.

    Documents are deleted rather than collections dropped: a dropped collection loses its sharding, zones, chunks,
    indexes and validator, and sharding it again needs more than readWrite.  In small ranges, so that no command
    runs for minutes and an interrupted deletion is finished by the next.
    """
    database = client.get_database(
        model.database, write_concern=WriteConcern("majority"), read_preference=ReadPreference.PRIMARY
    )
    for name in reversed(COLLECTIONS):  # orders before the customers and articles they point to
        in_order = database[name].find({"_id": {"$type": "objectId"}}, {"_id": 1}).sort("_id", ASCENDING)
        while boundary := next(in_order.clone().skip(DELETE_BATCH).limit(1), None):
            yield database[name].delete_many({"_id": {"$lt": boundary["_id"]}}).deleted_count
        yield database[name].delete_many({}).deleted_count


def estimated_documents(client: MongoClient[Document], model: DataModel) -> int:
    """Documents of the three collections by the shards' own books: quick, and near enough for a progress bar."""
    return sum(sum(documents_per_shard(client, model, name).values()) for name in COLLECTIONS)


def documents_per_shard(client: MongoClient[Document], model: DataModel, collection: str) -> dict[str, int]:
    """Documents each shard holds of `collection`, orphans left out.

    `$collStats` needs no more than `read` on the database, `$shardedDataDistribution` the cluster's monitoring.
    """
    stages: list[dict[str, Any]] = [{"$collStats": {"storageStats": {}}}]
    counts = {}
    for part in client[model.database][collection].aggregate(stages):
        storage = part["storageStats"]
        counts[str(part.get("shard", part["host"]))] = storage.get("count", 0) - storage.get("numOrphanDocs", 0)
    return counts


def placement(client: MongoClient[Document], model: DataModel, collection: str) -> Placement:
    """Where the documents of `collection` are and should be.

    A region's documents belong in equal parts (the key is hashed) on the shards that serve its zone; a collection
    without zones in equal parts on all shards.
    """
    found = documents_per_shard(client, model, collection)
    try:
        shards = {shard["_id"]: shard.get("tags", []) for shard in client["config"]["shards"].find()}
    except OperationFailure as error:
        if error.code != UNAUTHORIZED:
            raise
        return Placement(found, None)
    zones = {zone.minimum: zone.zone for zone in model.collection(collection).zone_ranges}
    predicted = dict.fromkeys(shards, 0.0)
    for region, documents in _documents_per_region(client, model, collection).items():
        serving = [name for name, tags in shards.items() if zones.get(region) in tags] or list(shards)
        for name in serving:
            predicted[name] += documents / len(serving)
    return Placement({name: found.get(name, 0) for name in shards}, predicted)


def _documents_per_region(client: MongoClient[Document], model: DataModel, collection: str) -> dict[str, int]:
    """Documents of `collection` per region; everything under "" when it has none."""
    if "region" not in model.collection(collection).shard_key:
        stages: list[dict[str, Any]] = [{"$group": {"_id": None, "n": {"$sum": 1}}}]
    else:
        stages = [{"$group": {"_id": "$region", "n": {"$sum": 1}}}]
    groups = client[model.database][collection].aggregate(stages)
    return {group["_id"] or "": group["n"] for group in groups}
