"""The data model: regions, zones, collections, shard keys, indexes and validators.

`data_model.yml` beside this file is the one home of these facts; `schemas/` holds a JSON Schema per collection, in
which `["{regions}"]` stands for the list of regions.  What says `part: shop` is there for a topology with services.
A model that contradicts itself raises DataModelError.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardmart.declare import yaml_files
from shardmart.errors import BadUseError

DEFAULT_FILE = Path(__file__).with_name("data_model.yml")
SHOP = "shop"
"""The only part that a topology may leave out."""


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
    """An index by name; `keys` maps field to 1, -1 or "hashed", in order.

    With `expire_after_seconds` the server removes a document that long after the date in its field (a TTL index).
    """

    name: str
    keys: dict[str, int | str]
    unique: bool = False
    expire_after_seconds: int | None = None

    def as_task_argument(self) -> dict[str, Any]:
        """The index as createIndexes has it."""
        expiry = {} if self.expire_after_seconds is None else {"expireAfterSeconds": self.expire_after_seconds}
        return {"name": self.name, "keys": dict(self.keys), "unique": self.unique} | expiry


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
            "indexes": [index.as_task_argument() for index in self.indexes],
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


def load(path: Path = DEFAULT_FILE, *, shop: bool = False) -> DataModel:
    """Read the data model from `path`, the shop's part of it only with `shop`; DataModelError for a wrong one.

    Schemas are looked up in `schemas/` beside it.
    """
    document = yaml_files.read(path)
    regions = tuple(document["regions"])
    collections = []
    for i, entry in enumerate(document["collections"]):
        key = f"{path.name}: collections[{i}]"
        if not _wanted(entry, key, shop=shop):
            continue
        indexes = [index for index in entry.get("indexes", []) if _wanted(index, f"{key}.indexes", shop=shop)]
        collection = _collection(entry | {"indexes": indexes}, path.parent / "schemas", regions, key)
        for region in regions:
            homes = [z.zone for z in collection.zone_ranges if z.holds(region)]
            if collection.zone_ranges and len(homes) != 1:
                raise DataModelError(f"{key}.zone_ranges: region {region} lies in {' and '.join(homes) or 'no zone'}")
        collections.append(collection)
    return DataModel(document["database"], regions, tuple(collections))


def _wanted(entry: dict[str, Any], key: str, *, shop: bool) -> bool:
    """Whether it belongs to a model with or without the shop."""
    part = entry.get("part")
    if part not in (None, SHOP):
        raise DataModelError(f"{key}.part: no part {part!r}, there is {SHOP}")
    return part is None or shop


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
        indexes=tuple(
            Index(i["name"], i["keys"], i.get("unique", False), i.get("expire_after_seconds"))
            for i in entry.get("indexes", [])
        ),
        zone_ranges=tuple(ZoneRange(z["zone"], z["min"], z["max"]) for z in entry.get("zone_ranges", [])),
        validator=validator,
    )


def _with_regions(schema: Any, regions: tuple[str, ...]) -> Any:
    if schema == ["{regions}"]:
        return list(regions)
    if isinstance(schema, dict):
        return {key: _with_regions(value, regions) for key, value in schema.items()}
    return schema
