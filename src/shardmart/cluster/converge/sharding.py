"""Shards, zones and sharded collections, converged through a router.

Nothing here removes a shard, drops a collection or changes a shard key: a difference that
cannot be converged safely is a ClusterError that says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import MaxKey, MinKey
from pymongo.errors import CollectionInvalid, OperationFailure, PyMongoError

from ..description import ReplicaSet
from ..errors import ClusterError
from ..protocol import codes
from ..protocol.connection import Client, Credentials, Deadline, Document, connect, describe
from .outcome import Outcome

# What a router answers while the config servers or a shard's primary are still being found, or while it is itself about
# to end or has not reloaded what shards there are.
PASSING_ERRORS = (
    codes.HOST_UNREACHABLE,
    codes.SHARD_NOT_FOUND,
    codes.NETWORK_TIMEOUT,
    codes.SHUTDOWN_IN_PROGRESS,
    codes.FAILED_TO_SATISFY_READ_PREFERENCE,
    codes.PRIMARY_STEPPED_DOWN,
    codes.NOT_WRITABLE_PRIMARY,
    codes.INTERRUPTED_DUE_TO_REPL_STATE_CHANGE,
    codes.NOT_PRIMARY_NO_SECONDARY_OK,
    codes.NOT_PRIMARY_OR_SECONDARY,
)
INDEX_OPTIONS = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression", "collation", "hidden")


@dataclass(frozen=True)
class ShardSpec:
    """A declared shard: its exact name (also its replica set's) and its members as "host:port"."""

    name: str
    members: tuple[str, ...]
    zones: tuple[str, ...] = ()

    @classmethod
    def of(cls, declared: ReplicaSet) -> ShardSpec:
        """A shard as a description has it."""
        return cls(declared.name, declared.addresses, declared.zones)

    def seed(self) -> str:
        """The connection string addShard takes: "set/host:port,host:port"."""
        return f"{self.name}/{','.join(self.members)}"


@dataclass(frozen=True)
class ZoneRange:
    """Documents from `minimum` (inclusive) to `maximum` live in `zone`; bounds map the key's first fields to values."""

    zone: str
    minimum: Document
    maximum: Document


@dataclass(frozen=True)
class CollectionSpec:
    """A declared sharded collection; `shard_key` and index keys keep their order."""

    name: str
    shard_key: Document
    indexes: tuple[Document, ...] = ()
    zone_ranges: tuple[ZoneRange, ...] = ()
    validator: Document | None = None


def wait_for_router(address: str, credentials: Credentials, deadline: Deadline) -> None:
    """Wait until the router at `address` answers an authenticated read of the cluster's metadata."""
    while True:
        try:
            with connect(address, credentials, timeout_seconds=min(10, deadline.remaining + 1)) as client:
                client.admin.command("listShards")
                return
        except OperationFailure as error:
            if error.code not in PASSING_ERRORS:
                raise ClusterError(f"router {address}: {describe(error)}") from None
            deadline.pause(f"router {address} to reach the config servers: {describe(error)}")
        except PyMongoError as error:
            deadline.pause(f"router {address} to answer: {describe(error)}")


def answers(address: str, credentials: Credentials) -> bool:
    """Whether the router at `address` answers this login now: what check mode asks before it plans."""
    try:
        with connect(address, credentials, timeout_seconds=2) as client:
            client.admin.command("listShards")
    except (PyMongoError, ClusterError):
        return False
    return True


def listed_shards(client: Client) -> dict[str, Document]:
    """The documents of `config.shards` by exact name (shard-1 is not shard-10)."""
    return {shard["_id"]: shard for shard in client.admin.command("listShards")["shards"]}


def converge_shards(
    shards: Sequence[ShardSpec], client: Client, deadline: Deadline, *, check_mode: bool = False
) -> Outcome:
    """Add the shards that `config.shards` does not list under their exact name.

    Raises ClusterError for a shard that is draining or stands under another replica set.
    """
    present = listed_shards(client)
    before = {name: shard["host"] for name, shard in sorted(present.items())}
    after = dict(before)
    outcome = Outcome(before={"shards": before}, after={"shards": after})
    for shard in shards:
        found = present.get(shard.name)
        if found is None:
            if not check_mode:
                _retry(
                    client, {"addShard": shard.seed(), "name": shard.name}, deadline, f"shard {shard.name} to be added"
                )
            outcome.changes.append(f"add shard {shard.name}")
            after[shard.name] = shard.seed()
            continue
        if found.get("draining"):
            raise ClusterError(f"shard {shard.name} is draining: let the removal finish, then run again to add it anew")
        replica_set = found["host"].split("/")[0]
        if replica_set != shard.name:
            raise ClusterError(f"shard {shard.name} is registered with replica set {replica_set}")
    return outcome


def converge_zones(
    shards: Sequence[ShardSpec], client: Client, deadline: Deadline, *, check_mode: bool = False
) -> Outcome:
    """Give each shard exactly the zones it is declared to serve."""
    present = {name: sorted(shard.get("tags", [])) for name, shard in listed_shards(client).items()}
    wanted = {shard.name: sorted(shard.zones) for shard in shards}
    before = {name: present.get(name, []) for name in wanted}
    outcome = Outcome(before={"zones": before}, after={"zones": wanted})
    missing = [name for name in wanted if name not in present]
    if missing and not check_mode:
        raise ClusterError(f"shard {missing[0]} is not in the cluster, its zones cannot be set")
    # All that is added comes before anything is removed: the last shard of a zone with ranges cannot leave it.
    for name, zones in wanted.items():
        for zone in sorted(set(zones) - set(present.get(name, []))):
            outcome.changes.append(f"{name}: serve zone {zone}")
            if not check_mode:
                command = {"addShardToZone": name, "zone": zone}
                _retry(client, command, deadline, f"zone {zone} to be added to {name}")
    for name, zones in wanted.items():
        for zone in sorted(set(present.get(name, [])) - set(zones)):
            outcome.changes.append(f"{name}: leave zone {zone}")
            if not check_mode:
                command = {"removeShardFromZone": name, "zone": zone}
                _retry(client, command, deadline, f"zone {zone} to be removed from {name}")
    return outcome


def converge_balancer(client: Client, deadline: Deadline, *, enabled: bool, check_mode: bool = False) -> Outcome:
    """Switch the balancer on or off."""
    now = client.admin.command("balancerStatus")["mode"] != "off"
    outcome = Outcome(before={"balancer": now}, after={"balancer": enabled})
    if now != enabled:
        outcome.changes.append(f"balancer {'on' if enabled else 'off'}")
        if not check_mode:
            _retry(client, {"balancerStart" if enabled else "balancerStop": 1}, deadline, "the balancer to be switched")
    return outcome


def converge_collections(
    database: str,
    collections: Sequence[CollectionSpec],
    client: Client,
    deadline: Deadline,
    *,
    check_mode: bool = False,
) -> Outcome:
    """Make each collection exist, sharded by its key, zoned, pre-split, indexed and validated as declared.

    Indexes are compared by what they are (keys and options), not by their name. Raises ClusterError for a
    collection sharded by another key, and for one that holds documents but is not sharded.
    """
    outcome = Outcome()
    for spec in collections:
        converge = _Collection(f"{database}.{spec.name}", spec, client, deadline, check_mode, outcome)
        converge.zone_ranges()
        converge.sharding()
        converge.validator()
        converge.indexes()
    return outcome


@dataclass
class _Collection:
    """One collection on its way to what is declared; every difference is noted in `outcome`."""

    namespace: str
    spec: CollectionSpec
    client: Client
    deadline: Deadline
    check_mode: bool
    outcome: Outcome

    def _change(self, change: str, command: Document, *, database: str = "admin") -> None:
        self.outcome.changes.append(f"{self.namespace}: {change}")
        if not self.check_mode:
            _retry(self.client, command, self.deadline, f"{self.namespace}: {change}", database=database)

    @property
    def _database(self) -> str:
        return self.namespace.split(".", 1)[0]

    def _bound(self, bound: Mapping[str, Any], filler: object) -> Document:
        """A whole shard key bound: fields that the declaration leaves out hold `filler`."""
        return {key: bound.get(key, filler) for key in self.spec.shard_key}

    def zone_ranges(self) -> None:
        tags = {
            (_frozen(tag["min"]), _frozen(tag["max"])): tag["tag"]
            for tag in self.client.config.tags.find({"ns": self.namespace})
        }
        wanted = {}
        for zone_range in self.spec.zone_ranges:
            minimum, maximum = self._bound(zone_range.minimum, MinKey()), self._bound(zone_range.maximum, MinKey())
            wanted[_frozen(minimum), _frozen(maximum)] = (zone_range.zone, minimum, maximum)
        self.outcome.before[f"{self.namespace} zones"] = sorted(tags.values())
        self.outcome.after[f"{self.namespace} zones"] = sorted(zone for zone, _, _ in wanted.values())
        for minimum_key, maximum_key in tags.keys() - wanted.keys():
            minimum, maximum = dict(minimum_key), dict(maximum_key)
            command = {"updateZoneKeyRange": self.namespace, "min": minimum, "max": maximum, "zone": None}
            self._change(f"range {_shown(minimum)} leaves zone {tags[minimum_key, maximum_key]}", command)
        for bounds, (zone, minimum, maximum) in wanted.items():
            if tags.get(bounds) != zone:
                command = {"updateZoneKeyRange": self.namespace, "min": minimum, "max": maximum, "zone": zone}
                self._change(f"range {_shown(minimum)} to {_shown(maximum)} belongs to zone {zone}", command)

    def sharding(self) -> None:
        found = self.client.config.collections.find_one({"_id": self.namespace})
        # From 8.0 a collection that was moved whole (moveCollection) is listed, too: with this mark, and not sharded.
        key = dict(found["key"]) if found and not found.get("unsplittable") else None
        wanted = self.spec.shard_key
        self.outcome.before[f"{self.namespace} key"] = key
        self.outcome.after[f"{self.namespace} key"] = dict(wanted)
        if key is not None:
            if list(key.items()) != list(wanted.items()):
                raise ClusterError(
                    f"{self.namespace} is sharded by {_shown(key)}, declared is {_shown(wanted)}: "
                    "a shard key is changed by reshardCollection, never by the bootstrap"
                )
            return
        if not self.check_mode and self.client[self._database][self.spec.name].find_one({}, {"_id": 1}):
            raise ClusterError(
                f"{self.namespace} holds documents and is not sharded: "
                f"make an index on {_shown(wanted)} and shard it by hand"
            )
        hashed = "hashed" in wanted.values()
        command: Document = {"shardCollection": self.namespace, "key": dict(wanted)}
        if hashed and self.spec.zone_ranges:
            command["presplitHashedZones"] = True
        self._change(f"shard by {_shown(wanted)}", command)

    def validator(self) -> None:
        wanted = self.spec.validator
        if wanted is None:
            return
        now = [options.get("validator") or None for options in self._options()]
        if any(validator != wanted for validator in now):
            command = {"collMod": self.spec.name, "validator": wanted, "validationLevel": "strict"}
            change = "change the validator" if any(now) else "set the validator"
            self._change(change, command, database=self._database)

    def _options(self) -> list[Document]:
        """The collection's options, as every shard that holds a part of it has them.

        A router answers listCollections with those of the database's primary shard, where they may be old: in 6.0
        collMod reaches the shards that own chunks and no other (collmod_coordinator.cpp), and that one may own none.
        """
        collection = self.client[self._database][self.spec.name]
        try:
            held = [dict(found["md"]["options"]) for found in collection.aggregate([{"$listCatalog": {}}])]
        except OperationFailure:  # a server before 6.0, a router that does not know it, or no such database yet
            held = []
        if held:
            return held
        found = list(self.client[self._database].list_collections(filter={"name": self.spec.name}))
        return [dict(found[0].get("options", {}))] if found else [{}]

    def indexes(self) -> None:
        collection = self.client[self._database][self.spec.name]
        try:
            present = [_index_definition(index) for index in collection.list_indexes()]
        except OperationFailure as error:
            if not self.check_mode:
                raise ClusterError(f"{self.namespace}: {describe(error)}") from None
            present = []
        missing = [index for index in self.spec.indexes if _index_definition(index) not in present]
        for index in missing:
            options = {name: index[name] for name in INDEX_OPTIONS if index.get(name)}
            document = {"key": dict(index["keys"]), "name": index["name"], **options}
            command = {"createIndexes": self.spec.name, "indexes": [document]}
            self._change(f"create index {index['name']} {_shown(index['keys'])}", command, database=self._database)


def _index_definition(index: Mapping[str, Any]) -> tuple[tuple[tuple[str, Any], ...], tuple[tuple[str, str], ...]]:
    """What an index is: keys in order and the options that change its meaning; numbers compare by value."""
    keys = index.get("keys") or index["key"]
    pairs = tuple((name, int(way) if isinstance(way, float) else way) for name, way in keys.items())
    options = tuple((name, repr(index[name])) for name in INDEX_OPTIONS if index.get(name))
    return pairs, options


def _frozen(document: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(document.items())


def _shown(key: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{k}: {getattr(v, '__name__', None) or _value(v)}" for k, v in key.items()) + "}"


def _value(value: object) -> str:
    return type(value).__name__ if isinstance(value, MinKey | MaxKey) else str(value)


def _retry(client: Client, command: Document, deadline: Deadline, awaited: str, *, database: str = "admin") -> Document:
    """Run a command, again while its failure may pass; DeadlineError says what was awaited and the last answer."""
    while True:
        try:
            return client[database].command(command)
        except (OperationFailure, CollectionInvalid) as error:
            if getattr(error, "code", None) not in PASSING_ERRORS:
                raise ClusterError(f"{awaited}: {describe(error)}") from None
            reason = describe(error)
        except PyMongoError as error:
            reason = describe(error)
        deadline.pause(f"{awaited}: {reason}")
