"""The data model: collections, shard keys, indexes, validators and the zone a region lives in.

`data_model.yml` beside this file is the one home of these facts; `schemas/` holds a JSON Schema per collection.
The inventory plugin hands them to the bootstrap, the loader and the ledger read them here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEFAULT_FILE = Path(__file__).with_name("data_model.yml")


@dataclass(frozen=True)
class ZoneRange:
    """`zone` holds the documents whose first shard key field lies in [`minimum`, `maximum`)."""

    zone: str
    minimum: str
    maximum: str


@dataclass(frozen=True)
class Index:
    """An index by name; `keys` maps field to 1, -1 or "hashed", in order."""

    name: str
    keys: dict[str, int | str]
    unique: bool = False


@dataclass(frozen=True)
class Collection:
    """One sharded collection. `shard_key` maps field to 1 or "hashed", in order; `validator` is a query document."""

    name: str
    shard_key: dict[str, int | str]
    indexes: tuple[Index, ...]
    zone_ranges: tuple[ZoneRange, ...]
    validator: dict[str, Any] | None

    def as_task_argument(self) -> dict[str, Any]:
        """The collection as the `sharded_collection` Ansible module takes it."""
        first = next(iter(self.shard_key))
        return {
            "name": self.name,
            "shard_key": dict(self.shard_key),
            "indexes": [{"name": i.name, "keys": dict(i.keys), "unique": i.unique} for i in self.indexes],
            "zone_ranges": [
                {"zone": z.zone, "min": {first: z.minimum}, "max": {first: z.maximum}} for z in self.zone_ranges
            ],
            "validator": self.validator,
        }


@dataclass(frozen=True)
class DataModel:
    """The database, its regions and its collections."""

    database: str
    regions: tuple[str, ...]
    collections: tuple[Collection, ...]

    def collection(self, name: str) -> Collection:
        """The collection called `name`; KeyError if the model has none."""
        for collection in self.collections:
            if collection.name == name:
                return collection
        raise KeyError(name)


def load(path: Path = DEFAULT_FILE) -> DataModel:
    """Read the data model from `path`; schemas are looked up in `schemas/` beside it."""
    document = yaml.safe_load(path.read_text())
    return DataModel(
        database=document["database"],
        regions=tuple(document["regions"]),
        collections=tuple(_collection(entry, path.parent / "schemas") for entry in document["collections"]),
    )


def _collection(entry: dict[str, Any], schemas: Path) -> Collection:
    validator = None
    if schema := entry.get("schema"):
        file = schemas / f"{schema}.json"
        if file.exists():
            validator = {"$jsonSchema": json.loads(file.read_text())}
    return Collection(
        name=entry["name"],
        shard_key=entry["shard_key"],
        indexes=tuple(Index(i["name"], i["keys"], i.get("unique", False)) for i in entry.get("indexes", [])),
        zone_ranges=tuple(ZoneRange(z["zone"], z["min"], z["max"]) for z in entry.get("zone_ranges", [])),
        validator=validator,
    )
