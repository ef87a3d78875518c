"""What the router knows of the cluster's catalogue: shards, databases, and which shard owns which chunk.

Read from the config servers when first needed, and again when a shard says that it was stale.  Never polled.
Source: MongoDB 6.0 manual, "Config Database"; chunk documents are found by collection UUID since 5.0.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bson import Int64, ObjectId, Timestamp

from ..protocol.errors import Code, RouterError
from .member import Credentials, Member
from .replica_set import PRIMARY_PREFERRED, ReplicaSet, parse_connection_string
from .shard_key import Key, KeyPattern, range_of_prefix

T = TypeVar("T")
UNSHARDED: dict[str, Any] = {"e": ObjectId("0" * 24), "t": Timestamp(0, 0), "v": Timestamp(0, 0)}
# "Do not check the version": for broadcasts that must reach each shard once. Zero time, all else ones.
IGNORED = {"e": ObjectId("0" * 8 + "f" * 16), "t": Timestamp(0xFFFFFFFF, 0xFFFFFFFF), "v": Timestamp(0, 0)}
CONFIG_SECONDS = 20.0


@dataclass(frozen=True)
class Database:
    """A database: its primary shard, and the version the shard checks."""

    name: str
    primary: str
    version: dict[str, Any]


class Routing:
    """Which shard owns which range of a collection; `pattern` is None for an unsharded collection."""

    def __init__(self, namespace: str, database: Database) -> None:
        self.namespace = namespace
        self.database = database
        self.pattern: KeyPattern | None = None
        self.simple_collation = True
        self._chunks: list[dict[str, Any]] = []
        self._minimums: list[Key] = []
        self._versions: dict[str, dict[str, Any]] = {}
        self._none: dict[str, Any] = UNSHARDED
        self._shards: list[str] = []
        self.newest_move = Timestamp(0, 0)  # when a chunk last changed its owner

    def load(self, collection: dict[str, Any], chunks: list[dict[str, Any]]) -> None:
        """Take the documents of config.collections and config.chunks, the chunks sorted by their lower bound."""
        self.pattern = KeyPattern(dict(collection["key"]))
        self.simple_collation = "defaultCollation" not in collection
        identity = {"e": collection["lastmodEpoch"], "t": collection["timestamp"]}
        self._none = {**identity, "v": Timestamp(0, 0)}
        self._chunks, self._minimums = chunks, [self.pattern.key_of_bound(chunk["min"]) for chunk in chunks]
        for chunk in chunks:
            for move in chunk.get("history", [])[:1]:
                self.newest_move = max(self.newest_move, move["validAfter"])
            known = self._versions.setdefault(chunk["shard"], {**identity, "v": Timestamp(0, 0)})
            known["v"] = max(known["v"], chunk["lastmod"])
        self._shards = sorted(self._versions)

    @property
    def sharded(self) -> bool:
        """Whether the collection is sharded."""
        return self.pattern is not None

    def owner(self, key: Key) -> str:
        """The shard that owns the whole shard key `key`."""
        return str(self.chunk_of(key)["shard"]) if self.sharded else self.database.primary

    def _index(self, key: Key) -> int:
        return max(0, bisect_right(self._minimums, key) - 1)

    def owners_of_prefix(self, prefix: Key) -> list[str]:
        """The shards that may own keys which start with `prefix`, in a stable order."""
        if self.pattern is None:
            return [self.database.primary]
        if not prefix:
            return self._shards
        low, high = range_of_prefix(prefix, len(self.pattern.fields))
        return sorted({chunk["shard"] for chunk in self._chunks[self._index(low) : bisect_left(self._minimums, high)]})

    def chunk_of(self, key: Key) -> dict[str, Any]:
        """The chunk that holds `key`, as config.chunks has it: `min`, `max`, `shard`."""
        return self._chunks[self._index(key)]

    def versions(self, shard: str) -> dict[str, Any]:
        """The version fields a command to `shard` carries, so that the shard can tell when the router is stale."""
        if self.pattern is None:
            if not self.database.version:  # of the config servers, or one that does not exist
                return {}
            return {"shardVersion": UNSHARDED, "databaseVersion": self.database.version}
        return {"shardVersion": self._versions.get(shard, self._none)}


class Catalog:
    """Shards, databases and routing tables, with the replica sets behind them."""

    def __init__(self, config: ReplicaSet, credentials: Credentials) -> None:
        self.config = config
        self._credentials = credentials
        self.shards: dict[str, ReplicaSet] = {}
        self._databases: dict[str, Database] = {}
        self._routing: dict[str, Routing] = {}
        self._loading: dict[str, asyncio.Task[Any]] = {}

    async def read_config(self, collection: str, query: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        """All documents of `config.<collection>` that match; from a secondary when there is no primary."""
        command = {"find": collection, "filter": query, "batchSize": 100_000, "readConcern": {"level": "majority"}}
        command |= {**options, **PRIMARY_PREFERRED.document, "$db": "config"}

        async def read(member: Member) -> list[dict[str, Any]]:
            reply = await member.command(command, CONFIG_SECONDS)
            documents: list[dict[str, Any]] = reply["cursor"]["firstBatch"]
            while cursor := reply["cursor"]["id"]:
                more = {"getMore": Int64(cursor), "collection": collection, "$db": "config"}
                reply = await member.command(more, CONFIG_SECONDS)
                documents += reply["cursor"]["nextBatch"]
            return documents

        with contextlib.suppress(RouterError):
            await self.config.primary(3.0)  # rather than a secondary, which may not have heard the newest
        return await self.config.on_readable(PRIMARY_PREFERRED, read, CONFIG_SECONDS)

    async def _once(self, key: str, load: Callable[[], Awaitable[T]]) -> T:
        task: asyncio.Task[T] | None = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.ensure_future(load())
            task.add_done_callback(lambda done: self._loading.pop(key) if self._loading.get(key) is done else None)
        return await asyncio.shield(task)

    async def _read_shards(self, **options: Any) -> list[dict[str, Any]]:
        documents = await self.read_config("shards", {}, **options)
        for document in documents:
            name, seeds = parse_connection_string(document["host"])
            known = self.shards.get(document["_id"])
            if known is None or known.name != name:
                self.shards[document["_id"]] = ReplicaSet(name, seeds, self._credentials)
        for gone in set(self.shards) - {document["_id"] for document in documents}:
            self.shards.pop(gone).close()
        return documents

    async def load_shards(self) -> dict[str, ReplicaSet]:
        """Read config.shards again; returns the shards by name."""
        await self._once("shards", self._read_shards)
        return self.shards

    async def shards_at(self, time: Timestamp, gossip: dict[str, Any]) -> dict[str, Timestamp]:
        """When each shard was added, of those that were there at cluster time `time` or later."""
        documents = await self._read_shards(readConcern={"level": "majority", "afterClusterTime": time}, **gossip)
        return {document["_id"]: document.get("topologyTime", Timestamp(0, 0)) for document in documents}

    async def shard(self, name: str) -> ReplicaSet:
        """The replica set of shard `name`; raises RouterError 70."""
        if name == "config":
            return self.config
        if name not in self.shards:
            await self.load_shards()
        if name not in self.shards:
            raise RouterError(Code.ShardNotFound, f"Shard {name} not found")
        return self.shards[name]

    async def database(self, name: str) -> Database:
        """The database called `name`; raises RouterError 26 when there is none."""
        if name in ("config", "admin"):
            return Database(name, "config", {})

        async def load() -> Database | None:
            for document in await self.read_config("databases", {"_id": name}):
                self._databases[name] = Database(name, document["primary"], document["version"])
                return self._databases[name]
            return None

        # What was read is returned, not looked up again: another client's `forget` may come in between, and a
        # database that seems to be missing makes a read come back empty.
        database = self._databases.get(name) or await self._once(f"database {name}", load)
        if database is None:
            raise RouterError(Code.NamespaceNotFound, f"database {name} not found")
        return database

    async def create_database(self, name: str, primary_shard: str | None = None) -> Database:
        """The database called `name`, created on the config servers if it is not there."""
        if name in self._databases and primary_shard is None:
            return self._databases[name]
        primary = {"primaryShardId": primary_shard} if primary_shard else {}
        command = {"_configsvrCreateDatabase": name, **primary, "writeConcern": {"w": "majority"}, "$db": "admin"}
        await self.config.command(command)
        self.forget_database(name)
        return await self.database(name)

    async def routing(self, namespace: str) -> Routing:
        """The routing table of `namespace`; raises RouterError 26 when its database does not exist."""
        if known := self._routing.get(namespace):
            return known
        return await self._once(f"routing {namespace}", lambda: self._load_routing(namespace))

    async def _load_routing(self, namespace: str) -> Routing:
        routing = Routing(namespace, await self.database(namespace.partition(".")[0]))
        if routing.database.primary == "config" and namespace != "config.system.sessions":
            self._routing[namespace] = routing
            return routing
        for collection in await self.read_config("collections", {"_id": namespace}):
            chunks = await self.read_config("chunks", {"uuid": collection["uuid"]}, sort={"min": 1})
            if not chunks:
                raise RouterError(Code.StaleConfig, f"chunks of {namespace} are being changed")
            routing.load(collection, chunks)
        if not self.shards:
            await self.load_shards()
        self._routing[namespace] = routing
        return routing

    def forget(self, namespace: str) -> None:
        """The routing table (and the database) of `namespace` is stale: read it again before its next use."""
        self._routing.pop(namespace, None)
        self._databases.pop(namespace.partition(".")[0], None)
        self._loading.pop(f"routing {namespace}", None)  # what is being read may be as old as what is forgotten

    def forget_database(self, name: str) -> None:
        """Everything known of database `name` is stale."""
        self._databases.pop(name, None)
        for namespace in [n for n in self._routing if n.partition(".")[0] == name]:
            del self._routing[namespace]
