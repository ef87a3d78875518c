"""Rings for tests: standalone mongods in a folder, and the same ring made anew for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from shardmart.platforms.keyfile import as_system
from shardmart.ring import Key, RingClient, Settings, moves
from shardmart.ring.node.nodes import Nodes
from shardmart.ring.placement.keys import from_id
from shardmart.ring_command.servers import STORE, Servers

from .clusters import free_ports, servers

RING = "test"
DATABASE = f"ring_{RING}"
DEADLINE_SECONDS = 30.0
TEST_SECONDS = 60.0


class RingServers(Servers):
    """Servers of one ring, whose content a test may look at behind the library's back."""

    @classmethod
    def of(cls, folder: Path, *names: str) -> RingServers:
        """Servers of these names, on free ports."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ports = dict(zip((STORE, *names), free_ports(len(names) + 1), strict=True))
        mongod = servers()["mongod"]
        assert mongod
        return cls(folder, mongod, RING, names, ports)

    def settings(
        self, names: Iterable[str] = (), *, timeout_seconds: float = 5.0, required_copies: int | None = None
    ) -> Settings:
        """As `Servers.settings`, with a timeout that a busy machine meets."""
        return super().settings(names, timeout_seconds=timeout_seconds, required_copies=required_copies)

    def admin(self, name: str) -> MongoClient[dict[str, Any]]:
        """A client of one server that may do everything; the caller closes it."""
        return as_system(self.uri(name), self.system, DEADLINE_SECONDS)

    def root_uri(self, name: str) -> str:
        """A connection string of one server for a user that may do everything, as a person's own server has one."""
        with self.admin(name) as client:
            if not client.admin.command("usersInfo", "root")["users"]:
                client.admin.command("createUser", "root", pwd=self.password, roles=["root"])
        return self.server(name).uri("root", self.password)

    def records(self, name: str) -> dict[Any, Any]:
        """What a node holds: key → value, tombstones as None."""
        with self.admin(name) as client:
            return {str(one["_id"]): one.get("x") for one in client[DATABASE].records.find({"h": {"$exists": True}})}

    def versions(self, name: str) -> dict[Key, tuple[int, str]]:
        """Key → version of everything that a node holds, tombstones included."""
        with self.admin(name) as client:
            found = client[DATABASE].records.find({"h": {"$exists": True}})
            return {from_id(one["_id"]): (one["n"], one["w"]) for one in found}

    def hints(self) -> int:
        """How many hints there are on all nodes that run."""
        total = 0
        for name in self.names:
            if self.server(name).process(self.folder, self.mongod).running():
                with self.admin(name) as client:
                    total += client[DATABASE].hints.count_documents({})
        return total

    def reset(self) -> None:
        """Everything runs and nothing is in it."""
        self.start()
        for name in (STORE, *self.names):
            with self.admin(name) as client:
                client.drop_database(DATABASE)


async def make(settings: Settings, names: Iterable[str], *, copies: int = 2, virtual_nodes: int = 64) -> None:
    """Make a ring of these nodes, all of weight 1."""
    nodes = Nodes(settings)
    try:
        await moves.create(nodes, dict.fromkeys(names, 1), copies=copies, virtual_nodes=virtual_nodes)
    finally:
        await nodes.close()


@asynccontextmanager
async def ring(
    running: RingServers,
    *names: str,
    copies: int = 2,
    virtual_nodes: int = 64,
    upkeep: bool = False,
    **settings: Any,
) -> AsyncIterator[RingClient]:
    """A new ring of these nodes (the first three when none is named) and a client of it that knows all servers."""
    running.reset()
    chosen = running.settings(**settings)
    await make(chosen, names or running.names[:3], copies=copies, virtual_nodes=virtual_nodes)
    async with RingClient(chosen, upkeep=upkeep) as client:
        yield client


def run(test: Awaitable[None]) -> None:
    """Run a test to its end; one that takes TEST_SECONDS fails where it waits."""

    async def bounded() -> None:
        async with asyncio.timeout(TEST_SECONDS):
            await test

    asyncio.run(bounded())


async def until(what: str, condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds, which is `what` in words."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, f"waited {DEADLINE_SECONDS:g} s: {what}"
        await asyncio.sleep(0.05)


async def back(client: RingClient, name: str) -> None:
    """Have a node that was started again compared and in service."""

    async def done() -> bool:
        await client.upkeep.tend()
        return name not in client.nodes.away()

    try:
        await until(f"{name} is in service", done)
    except AssertionError as error:
        raise AssertionError(f"{error}; {client.nodes.away()}") from None


def key_of(client: RingClient, *holders: str) -> str:
    """A key with exactly these holders."""
    return next(key for n in range(10_000) if client.view.holders(key := f"key-{n}") == holders)


def assert_equal_copies(running: RingServers, client: RingClient) -> None:
    """Every key is on exactly its holders, in one version."""
    held = {name: running.versions(name) for name in client.view.nodes}
    for key in {key for versions in held.values() for key in versions}:
        versions = {name: held[name][key] for name in client.view.nodes if key in held[name]}
        assert set(versions) == set(client.view.holders(key)), key
        assert len(set(versions.values())) == 1, (key, versions)
