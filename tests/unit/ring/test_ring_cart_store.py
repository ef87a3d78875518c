"""The shop's carts when the ring has a node that the settings in hand do not name."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from shardmart.ring import SettingsError
from shardmart.shop.adapters import ring_carts


class Client:
    """A client of a ring, which a test sees opened and closed."""

    made: list[Client]

    def __init__(self, settings: Any, *, upkeep: bool) -> None:
        self.closed = 0
        self.made.append(self)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closed += 1


def test_the_old_client_closes_once_when_its_last_request_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client.made = []
    monkeypatch.setattr(ring_carts, "RingClient", Client)
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"name": "carts", "nodes": {"n1": "mongodb://a"}, "store": "mongodb://b"}))

    async def body() -> None:
        store = ring_carts.RingCartStore(file, tends=False)
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def under_way(_: object) -> int:
            begun.set()
            await go_on.wait()
            return Client.made[0].closed

        async def meets_an_unknown_node(_: object) -> None:
            if len(Client.made) == 1:
                raise SettingsError("the ring has a node that the settings do not have")

        request = asyncio.create_task(store._do(under_way))
        await begun.wait()
        await store._do(meets_an_unknown_node)
        first, second = Client.made
        assert first.closed == 0
        go_on.set()
        assert await request == 0
        assert (first.closed, second.closed) == (1, 0)
        await store.close()
        assert (first.closed, second.closed) == (1, 1)

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(bounded())
