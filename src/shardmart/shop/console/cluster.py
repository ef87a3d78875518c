"""What the console knows of the cluster under the shop, and of the fault that is active on this machine.

Members are asked `hello`, which needs no login, and the router, as the user `monitor`, how many documents each shard
has ($collStats).  It reads no document of anybody and writes nothing.  What does not answer is shown as away.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from ..settings import ClusterView

FRESH_SECONDS = 2.0
COUNTS_FRESH_SECONDS = 5.0
ASK_SECONDS = 1.0
PRIMARY, SECONDARY, AWAY, OTHER = "primary", "secondary", "away", "not ready"
BROKEN = frozenset({"beginning", "active"})
"""States of a fault that has to be undone (chaos' records)."""
LATE_SECONDS = 120.0
"""A fault that is so much over its time was left by a guard that was killed; `shardmart chaos heal` undoes it."""

Client = AsyncMongoClient[dict[str, Any]]


@dataclass(frozen=True)
class Set:
    """A replica set: the role of each member by its address, and its documents; None for who holds none or is away."""

    name: str
    roles: Mapping[str, str]
    documents: int | None = None

    @property
    def problems(self) -> list[str]:
        """A line for each thing that is not well."""
        found = [f"{member} of {self.name} is {role}" for member, role in self.roles.items() if role in (AWAY, OTHER)]
        if PRIMARY not in self.roles.values():
            found.append(f"{self.name} has no primary")
        return found


class ClusterWatch:
    """Asks members and router; answers of one moment are kept for two seconds, counts for five."""

    def __init__(self, told: ClusterView) -> None:
        self._told = told
        self._router: Client | None = None
        self._members: dict[str, Client] = {}
        self._counts: tuple[float, dict[str, int]] = (0.0, {})
        self._sets: tuple[float, tuple[Set, ...]] = (0.0, ())

    async def sets(self) -> tuple[Set, ...]:
        """Every set, in the order of the settings."""
        at, found = self._sets
        if not found or time.monotonic() - at > FRESH_SECONDS:
            found = await self._look()
            self._sets = time.monotonic(), found
        return found

    async def _look(self) -> tuple[Set, ...]:
        addresses = [address for members in self._told.members.values() for address in members]
        counting = asyncio.create_task(self._documents())
        by_address = dict(zip(addresses, await asyncio.gather(*map(self._role, addresses)), strict=True))
        counts = await counting
        return tuple(
            Set(name, {address: by_address[address] for address in members}, counts.get(name))
            for name, members in self._told.members.items()
        )

    async def _role(self, address: str) -> str:
        client = self._members.get(address)
        if client is None:
            client = self._members[address] = self._connected(f"mongodb://{address}/", directConnection=True)
        try:
            with pymongo.timeout(ASK_SECONDS):
                hello = await client.admin.command("hello")
        except PyMongoError:
            return AWAY
        return PRIMARY if hello.get("isWritablePrimary") else SECONDARY if hello.get("secondary") else OTHER

    async def _documents(self) -> dict[str, int]:
        """Documents by set, of all collections of the shop's database."""
        at, found = self._counts
        if found and time.monotonic() - at < COUNTS_FRESH_SECONDS:
            return found
        if self._router is None:
            self._router = self._connected(self._told.uri)
        try:
            with pymongo.timeout(2 * ASK_SECONDS):
                found = await self._counted(self._router)
        except PyMongoError:
            return {}
        self._counts = time.monotonic(), found
        return found

    async def _counted(self, router: Client) -> dict[str, int]:
        shards = {shard["_id"]: shard["host"].partition("/")[0] for shard in await _listed(router)}
        prefix = f"{self._told.database}."
        named = router.config.collections.find({"_id": {"$gt": prefix, "$lt": f"{prefix}~"}}, {"_id": 1})
        names = [document["_id"].removeprefix(prefix) async for document in named]
        found = dict.fromkeys(shards.values(), 0)
        for name in names:
            stats = await router[self._told.database][name].aggregate([{"$collStats": {"count": {}}}])
            async for each in stats:
                if (owner := shards.get(each.get("shard", ""))) is not None:
                    found[owner] += each["count"]
        return found

    def _connected(self, uri: str, **more: Any) -> Client:
        # Encryption is the router's connection string's: members speak it with the same authority.
        if more and (query := self._told.uri.partition("?")[2]):
            options = [option for option in query.split("&") if option.startswith("tls")]
            uri = f"{uri}?{'&'.join(options)}"
        wait = int(ASK_SECONDS * 1000)
        return AsyncMongoClient(
            uri,
            appname="shop-console",
            serverSelectionTimeoutMS=wait,
            connectTimeoutMS=wait,
            maxPoolSize=2,
            heartbeatFrequencyMS=10_000,
            **more,
        )

    async def close(self) -> None:
        """Close the connections."""
        for client in (self._router, *self._members.values()):
            if client is not None:
                await client.close()


async def _listed(router: Client) -> list[dict[str, Any]]:
    answer = await router.admin.command("listShards")
    shards: list[dict[str, Any]] = answer["shards"]
    return shards


def faults(folder: Path | None, now: float) -> tuple[str, ...]:
    """A line for each fault that is active at `now` (seconds of the wall clock), from chaos' records; () without any.

    A record is replaced in one step, and one that cannot be read is of somebody else.
    """
    if folder is None or not folder.is_dir():
        return ()
    return tuple(line for file in sorted(folder.glob("*.json")) if (line := _fault(file, now)))


def _fault(file: Path, now: float) -> str | None:
    try:
        record = json.loads(file.read_text())
        if record["status"] not in BROKEN:
            return None
        on, duration = ", ".join(record["targets"]), float(record["duration_s"])
        left = duration if record["begun"] is None else record["begun"] + duration - now
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if left < -LATE_SECONDS:
        return f"{record['name']} on {on}: over for long and not undone; `shardmart chaos heal` does it"
    return f"{record['name']} on {on}, {max(0.0, left):.0f} s left"
