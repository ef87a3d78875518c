"""What the Jobs and the test of helm/ring do, beside what the library has: nodes that leave, and a ring tried out."""

from __future__ import annotations

import asyncio
import secrets
from itertools import count

from shardmart.errors import BadUseError
from shardmart.ring import Grouped, RingClient, Settings, declared

TEND_SECONDS = 60.0


def weights_of(named: list[str]) -> dict[str, int]:
    """Name → weight of `NAME` or `NAME=WEIGHT`; BadUseError."""
    found: dict[str, int] = {}
    for one in named:
        name, _, weight = one.partition("=")
        if not name or not (weight or "1").isdecimal() or int(weight or "1") < 1:
            raise BadUseError(f"--node {one}: expected NAME or NAME=WEIGHT, a weight of 1 or more")
        found[name] = int(weight or 1)
    return found


async def leave(settings: Settings, wanted: declared.Declared, wait_seconds: float) -> list[str]:
    """Have those nodes leave that are not wanted, and do nothing else; what was changed.  See `declared.converge`."""
    if not await declared.exists(settings):
        return []
    async with RingClient(settings, upkeep=False) as client:
        there = client.view.move.after if client.view.move else client.view.ring.weights
    stay = {name: weight for name, weight in there.items() if name in wanted.weights}
    if stay == there:
        return []
    return await declared.converge(settings, declared.Declared(stay, wanted.copies, wanted.virtual_nodes), wait_seconds)


async def verify(client: RingClient) -> bool:
    """Write, read and delete a key of every node, and tell; whether all is well.  Nodes that returned are tended."""
    end = asyncio.get_running_loop().time() + TEND_SECONDS
    while client.nodes.away() and asyncio.get_running_loop().time() < end:
        await client.upkeep.tend()
    keys: dict[str, Grouped] = {}
    for number in count():
        key = Grouped(f"verify:{secrets.token_hex(8)}:{number}", "key")
        keys.setdefault(client.view.holders(key)[0], key)
        if len(keys) == len(client.view.ring.weights):
            break
    well = True
    for name, key in sorted(keys.items()):
        done = await client.put(key, name)
        found = await client.get(key)
        await client.delete(key)
        right = found is not None and found.value == name and await client.get(key) is None
        well &= right and not done.hints
        print(f"{name}: written on {', '.join(done.nodes)}, read and deleted {'right' if right else 'WRONG'}")
    for name, reason in client.nodes.away().items():
        print(f"{name} is away: {reason}")
    return well and not client.nodes.away()
