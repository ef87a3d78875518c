"""A ring as it is declared: made where there is none, its nodes changed where they are others.

Run it again as often as wanted: what is as declared is left alone, and a change of nodes that was interrupted is
finished first.  It starts and stops no servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from . import moves
from .client import RingClient
from .errors import ChangeRefusedError, MoverAtWorkError, StoreError
from .node.connection import WAITS
from .node.nodes import Nodes
from .placement.ring import DEFAULT_COPIES, DEFAULT_VIRTUAL_NODES
from .settings import Settings

AGAIN_SECONDS = 0.2
"""How long after one look at the nodes that are away there is another."""


@dataclass(frozen=True)
class Declared:
    """Nodes with weights, copies and virtual nodes."""

    weights: Mapping[str, int]
    copies: int = DEFAULT_COPIES
    virtual_nodes: int = DEFAULT_VIRTUAL_NODES


async def exists(settings: Settings) -> bool:
    """Whether there is such a ring.  StoreError."""
    nodes = Nodes(settings)
    try:
        return await nodes.membership.exists()
    finally:
        await nodes.close()


async def converge(settings: Settings, declared: Declared, wait_seconds: float) -> list[str]:
    """Make the ring as declared; what was changed, in words.  The settings name the nodes there are and will be.

    Raises ChangeRefusedError, WrongNodeError; StoreError when a node did not return within `wait_seconds`.
    """
    nodes = Nodes(settings)
    try:
        if await nodes.membership.exists():
            ring = (await nodes.membership.view()).ring
            if (ring.copies, ring.virtual_nodes) != (declared.copies, declared.virtual_nodes):
                raise ChangeRefusedError(
                    f"ring {settings.name} keeps {ring.copies} copies and {ring.virtual_nodes} virtual nodes: "
                    "these stay as they were made; make another ring"
                )
            return await _change(settings, declared.weights, wait_seconds)
        await moves.create(nodes, declared.weights, copies=declared.copies, virtual_nodes=declared.virtual_nodes)
    finally:
        await nodes.close()
    return [f"make the ring of {', '.join(declared.weights)}"]


async def _change(settings: Settings, weights: Mapping[str, int], wait_seconds: float) -> list[str]:
    changes = []
    async with RingClient(settings, upkeep=False) as client:
        changes += [f"compare {name} and let it serve" for name in await _all_back(client, wait_seconds)]
        mover = moves.Mover(client.nodes)
        if client.view.move:
            await _finish(mover)
            changes.append("finish a change of nodes that was interrupted")
        if client.view.ring.weights != weights:
            before = client.view.ring.weights
            await mover.begin(weights)
            done = await mover.run()
            changes.append(f"change the nodes from {_listed(before)} to {_listed(weights)}: {done.copied} copies moved")
    return changes


async def _finish(mover: moves.Mover) -> None:
    """Do what is left of a change whose mover may have been killed: its lease is waited for."""
    end = asyncio.get_running_loop().time() + 2 * moves.LEASE_SECONDS
    while True:
        try:
            await mover.run()
        except MoverAtWorkError:
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            return


async def wait_until_whole(settings: Settings, wait_seconds: float) -> None:
    """Have every node serve and every hint delivered; nothing to wait for where there is no such ring.  StoreError."""
    if not await exists(settings):
        return
    async with RingClient(settings, upkeep=False) as client:
        await _all_back(client, wait_seconds)
        try:
            async with asyncio.timeout(wait_seconds):
                while await client.upkeep.hints():
                    await client.upkeep.tend()
                    await asyncio.sleep(AGAIN_SECONDS)
        except TimeoutError:
            raise StoreError(f"waited {wait_seconds:g} s for hints: {await client.upkeep.hints()}") from None


async def _all_back(client: RingClient, wait_seconds: float) -> list[str]:
    """Have nodes that were started again compared until all serve; their names.  StoreError."""
    names: list[str] = []
    try:
        async with asyncio.timeout(wait_seconds):  # a move takes as long as there is something to move
            while away := client.nodes.away():
                await client.upkeep.tend()
                names += [name for name in away if name not in client.nodes.away()]
                await asyncio.sleep(AGAIN_SECONDS)
    except TimeoutError:
        away = client.nodes.away()
        told = "; ".join(f"{name}: {reason}" for name, reason in away.items())
        waiting = [name for name, reason in away.items() if reason == WAITS]
        lost = [name for name in away if name not in waiting]
        if waiting and lost:
            told += (
                f"; if {', '.join(lost)} is lost for good, have each that waits serve as it is (`shardmart ring tend "
                f"--trust {waiting[0]}`), then `shardmart ring remove {lost[0]} --dead`"
            )
        raise StoreError(f"waited {wait_seconds:g} s for {told}") from None
    return names


def _listed(weights: Mapping[str, int]) -> str:
    return ", ".join(name if weight == 1 else f"{name} (weight {weight})" for name, weight in weights.items())
