"""The data model: regions, zones, collections, shard keys, indexes and validators.

`data_model.yml` beside this file is the one home of these facts; `schemas/` holds a JSON Schema per collection, in
which `["{regions}"]` stands for the list of regions.  A model that contradicts itself raises DataModelError.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shardmart.errors import BadUseError

DEFAULT_FILE = Path(__file__).with_name("data_model.yml")


class DataModelError(BadUseError):
    """data_model.yml cannot be used; the message names the key that is wrong."""


@dataclass(frozen=True)
class ZoneRange:
    """`zone` holds the documents whose first shard key field lies in [`minimum`, `maximum`)."""

    zone: str
    minimum: str
    maximum: str

    def holds(self, region: str) -> bool:
        """Whether the documents of `region` lie in it."""
        return self.minimum <= region < self.maximum


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

    @property
    def zones(self) -> tuple[str, ...]:
        """Every zone that holds documents, in the order of the first collection that names it."""
        return tuple(dict.fromkeys(z.zone for collection in self.collections for z in collection.zone_ranges))

    def regions_of(self, zone: str) -> tuple[str, ...]:
        """The regions whose documents live in `zone`."""
        ranges = [z for collection in self.collections for z in collection.zone_ranges if z.zone == zone]
        return tuple(region for region in self.regions if any(z.holds(region) for z in ranges))

    def collection(self, name: str) -> Collection:
        """The collection called `name`; KeyError if the model has none."""
        for collection in self.collections:
            if collection.name == name:
                return collection
        raise KeyError(name)


def load(path: Path = DEFAULT_FILE) -> DataModel:
    """Read the data model from `path`; schemas are looked up in `schemas/` beside it. Raises DataModelError."""
    document = yaml.safe_load(path.read_text())
    regions = tuple(document["regions"])
    collections = []
    for i, entry in enumerate(document["collections"]):
        key = f"{path.name}: collections[{i}]"
        collection = _collection(entry, path.parent / "schemas", regions, key)
        for region in regions:
            homes = [z.zone for z in collection.zone_ranges if z.holds(region)]
            if collection.zone_ranges and len(homes) != 1:
                raise DataModelError(f"{key}.zone_ranges: region {region} lies in {' and '.join(homes) or 'no zone'}")
        collections.append(collection)
    return DataModel(document["database"], regions, tuple(collections))


def _collection(entry: dict[str, Any], schemas: Path, regions: tuple[str, ...], key: str) -> Collection:
    validator = None
    if schema := entry.get("schema"):
        try:
            validator = {"$jsonSchema": _with_regions(json.loads((schemas / f"{schema}.json").read_text()), regions)}
        except FileNotFoundError:
            raise DataModelError(f"{key}.schema: there is no {schemas / schema}.json") from None
    return Collection(
        name=entry["name"],
        shard_key=entry["shard_key"],
        indexes=tuple(Index(i["name"], i["keys"], i.get("unique", False)) for i in entry.get("indexes", [])),
        zone_ranges=tuple(ZoneRange(z["zone"], z["min"], z["max"]) for z in entry.get("zone_ranges", [])),
        validator=validator,
    )


def _with_regions(schema: Any, regions: tuple[str, ...]) -> Any:
    if schema == ["{regions}"]:
        return list(regions)
    if isinstance(schema, dict):
        return {key: _with_regions(value, regions) for key, value in schema.items()}
    return schema
