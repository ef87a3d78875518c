"""Clients of a ring that work while something happens to it, and a line to a node that carries writes out late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from pymongo.errors import AutoReconnect

from shardmart.ring import RingClient
from shardmart.ring.node.node import Node


class Load:
    """Clients that write, delete and read while something happens; what they were told is what must be."""

    def __init__(self, client: RingClient) -> None:
        self.client = client
        self.told: dict[str, int | None] = {}
        self.wrong: list[str] = []
        self.rounds = 0
        self.enough: int | None = None

    async def worker(self, number: int) -> None:
        n = 0
        while self.enough is None or self.rounds < self.enough:
            key = f"load-{number}-{n % 40}"
            if n % 7 == 6:
                await self.client.delete(key)
                self.told[key] = None
            else:
                await self.client.put(key, n)
                self.told[key] = n
            found = await self.client.get(key)
            if (found.value if found else None) != self.told[key]:
                self.wrong.append(f"{key}: told {self.told[key]}, read {found}")
            n += 1
            self.rounds += 1


@asynccontextmanager
async def load(client: RingClient) -> AsyncIterator[Load]:
    made = Load(client)
    tasks = [asyncio.create_task(made.worker(i)) for i in range(4)]
    try:
        yield made
    finally:
        made.enough = made.rounds + 40  # some more after the change, then each ends with the operation it is in
        await asyncio.gather(*tasks)
    assert made.wrong == []


async def assert_all_told(client: RingClient, told: dict[str, int | None]) -> None:
    """Everything that was acknowledged is there, and nothing that was deleted."""
    found = {one.key: one.value async for one in client.iterate() if str(one.key).startswith("load-")}
    assert found == {key: value for key, value in told.items() if value is not None}


class LateLine:
    """The records of a node over a line that is cut: writes do not come back, and arrive when `carry_out` says."""

    def __init__(self, node: Node) -> None:
        self._node, self._records = node, node.records
        self._waiting: list[Callable[[], Awaitable[object]]] = []
        node.records = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._records, name)
        if name not in ("update_one", "insert_one", "bulk_write", "find_one_and_update"):
            return method

        async def lost(*arguments: Any, **options: Any) -> None:
            self._waiting.append(lambda: method(*arguments, **options))
            raise AutoReconnect("the line is cut")

        return lost

    async def carry_out(self) -> int:
        for write in self._waiting:
            await write()
        return len(self._waiting)

    async def mend(self) -> None:
        self._node.records = self._records
        await self._node.check()
