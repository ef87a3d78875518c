"""Carts on a consistent-hash ring (`shardmart.ring`): a record for each line, all lines of a cart on the same nodes.

A service starts and serves its orders while the ring's store of membership is away: the ring is opened when it is back.
When the ring has a node that the settings do not name, the file of settings is read again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from shardmart.ring import RingClient, RingError, SettingsError
from shardmart.ring import settings as settings_file
from shardmart.ring.carts import RingCarts

from ..domain.cart import CartLine
from ..domain.identifiers import Customer
from ..ports import StoreError

AGAIN_SECONDS = 1.0
Answer = TypeVar("Answer")


class RingCartStore:
    """See `ports.CartStore`.  With `tends` it also looks after the ring: nodes that return, hints, tombstones."""

    def __init__(self, file: Path, *, tends: bool) -> None:
        """SettingsError when the file names no ring."""
        self._file, self._tends = file, tends
        self._settings = settings_file.read(file)
        self._client: RingClient | None = None
        self._opening = asyncio.Lock()
        self._busy: Counter[RingClient] = Counter()

    async def open(self) -> None:
        """Open the ring, again and again until its store of membership answers."""
        while True:
            with suppress(StoreError):
                await self._do(_nothing)
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def lines(self, customer: Customer) -> list[CartLine]:
        """See `ports.CartStore`."""
        found = await self._do(lambda carts: carts.lines(_cart(customer)))
        return [CartLine(line.id, line.product, line.quantity) for line in found]

    async def put(self, customer: Customer, line: CartLine) -> None:
        """See `ports.CartStore`."""
        await self._do(lambda carts: carts.add(_cart(customer), line.product, line.quantity, line=line.id))

    async def remove(self, customer: Customer, lines: Sequence[str]) -> None:
        """See `ports.CartStore`."""

        async def all_of_them(carts: RingCarts) -> None:
            await asyncio.gather(*(carts.remove(_cart(customer), line) for line in lines))

        await self._do(all_of_them)

    async def close(self) -> None:
        """Give back the connections."""
        client, self._client = self._client, None
        if client is not None:
            self._busy.pop(client, None)
            await client.__aexit__(None, None, None)

    async def _do(self, work: Callable[[RingCarts], Awaitable[Answer]]) -> Answer:
        try:
            client = await self._opened()
            try:
                return await self._with(client, work)
            except SettingsError:  # the ring has a node that the settings do not name
                await self._renew(client)
                return await self._with(await self._opened(), work)
        except RingError as error:
            raise StoreError(f"ring: {type(error).__name__}") from error

    async def _with(self, client: RingClient, work: Callable[[RingCarts], Awaitable[Answer]]) -> Answer:
        self._busy[client] += 1
        try:
            return await work(RingCarts(client))
        finally:
            self._busy[client] -= 1
            if not self._busy[client]:
                del self._busy[client]
                if client is not self._client:  # it was replaced, and this was its last request
                    await client.__aexit__(None, None, None)

    async def _opened(self) -> RingClient:
        async with self._opening:
            if self._client is None:
                self._client = await RingClient(self._settings, upkeep=self._tends).__aenter__()
            return self._client

    async def _renew(self, old: RingClient) -> None:
        """Work by the file as it is now; the old client is closed when the last request under way with it has ended."""
        async with self._opening:
            if self._client is not old:
                return
            self._settings, self._client = settings_file.read(self._file), None
            if not self._busy[old]:
                del self._busy[old]
                await old.__aexit__(None, None, None)


async def _nothing(carts: RingCarts) -> None:
    """What is done to have the ring open."""


def _cart(customer: Customer) -> str:
    return f"cart:{customer}"
