"""Chaos Toolkit actions and probes for rings: nodes that join and leave under load, and a mover that is killed.

The mover is `shardmart ring`, a process of its own, started and killed here.  Faults on a ring's servers are those of
`actions`; a proof is a probe as those of `probes` are.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chaoslib.exceptions import ActivityFailed  # type: ignore[import-untyped]

from shardmart.platforms.platform import last_line
from shardmart.platforms.state import State
from shardmart.ring import RingClient, RingError
from shardmart.ring import settings as settings_file

__all__ = [
    "await_mover",
    "copies",
    "fill",
    "is_whole",
    "kill_mover",
    "loses_node",
    "move_is_half_done",
    "nodes",
    "resume_move",
    "start_adding",
    "start_removing",
]

POLL_SECONDS = 0.02
MOVE_SECONDS = 180.0
Answer = TypeVar("Answer")

_mover: subprocess.Popen[bytes] | None = None


def _ask(ring: str, question: Callable[[RingClient], Awaitable[Answer]]) -> Answer:
    """The answer of a client that does nothing else."""

    async def inside() -> Answer:
        settings = settings_file.read(settings_file.find(State.find().folder / "rings", ring))
        async with RingClient(settings, upkeep=False) as client:
            return await question(client)

    return asyncio.run(inside())


def _until(condition: Callable[[], bool], seconds: float, pause: float = 0.2) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
    return True


async def _whole(client: RingClient) -> bool:
    view = await client.nodes.refresh()
    return not (client.nodes.away() or view.move or await client.upkeep.hints())


def is_whole(ring: str = "carts", wait_s: float = 60) -> bool:
    """Whether every node serves, no hint waits and no nodes change, within `wait_s`."""

    def whole() -> bool:
        with contextlib.suppress(RingError):
            return _ask(ring, _whole)
        return False

    return _until(whole, float(wait_s))


def loses_node(node: str, ring: str = "carts", wait_s: float = 20) -> bool:
    """Whether a new client finds that it has to do without this node, within `wait_s`."""

    async def away(client: RingClient) -> bool:
        return node in client.nodes.away()

    return _until(lambda: _ask(ring, away), float(wait_s))


def nodes(ring: str = "carts") -> int:
    """How many nodes the ring has by its membership."""

    async def count(client: RingClient) -> int:
        return len(client.view.ring.weights)

    return _ask(ring, count)


def copies(ring: str = "carts") -> int:
    """On how many nodes the ring keeps a key."""

    async def count(client: RingClient) -> int:
        return client.view.ring.copies

    return _ask(ring, count)


def fill(documents: int = 5000, ring: str = "carts") -> str:
    """Put so many documents into the ring, so that a change of nodes has something to move."""

    async def put(client: RingClient) -> int:
        return await client.put_many((f"chaos-{n}", {"n": n}) for n in range(int(documents)))

    return f"{_ask(ring, put):,} documents"


def _begin(*arguments: str) -> str:
    global _mover
    if _mover and _mover.poll() is None:
        raise ActivityFailed("a mover is at work already")
    command = (sys.executable, "-m", "shardmart.ring_command", *arguments, "--state", str(State.find().folder))
    _mover = subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    return f"process {_mover.pid}: shardmart ring {' '.join(arguments)}"


def start_removing(node: str, ring: str = "carts") -> str:
    """Start a mover that has a node leave; it goes on by itself."""
    return _begin("remove", node, "--ring", ring)


def start_adding(node: str, ring: str = "carts") -> str:
    """Start a mover that has a node join; it goes on by itself."""
    return _begin("add", node, "--ring", ring)


def await_mover(timeout_s: float = MOVE_SECONDS) -> str:
    """Wait until the mover has ended; what it said.  Fails when it ended with an error, or not in time."""
    if _mover is None:
        raise ActivityFailed("no mover was started")
    try:
        said, errors = _mover.communicate(timeout=float(timeout_s))
    except subprocess.TimeoutExpired:
        _mover.kill()
        raise ActivityFailed(f"waited {timeout_s:g} s for the mover to end") from None
    if _mover.returncode:
        raise ActivityFailed(f"the mover ended with {_mover.returncode}: {last_line(errors)}")
    return last_line(said)


def kill_mover(ring: str = "carts", wait_s: float = 60) -> str:
    """SIGKILL to the mover as soon as the membership says that data moves."""
    if _mover is None or _mover.poll() is not None:
        raise ActivityFailed("no mover is at work")
    moving = False

    async def watch(client: RingClient) -> None:
        nonlocal moving
        end = time.monotonic() + float(wait_s)
        while not moving and time.monotonic() < end and _mover and _mover.poll() is None:
            moving = (await client.nodes.membership.view()).move is not None
            await asyncio.sleep(POLL_SECONDS)

    _ask(ring, watch)
    if not moving:
        raise ActivityFailed(f"the mover did not begin to move within {wait_s:g} s")
    _mover.kill()
    _mover.wait()
    return f"process {_mover.pid} killed"


def move_is_half_done(ring: str = "carts") -> bool:
    """Whether the membership says that nodes change, and nobody is at it: what a killed mover leaves."""

    async def moving(client: RingClient) -> bool:
        return client.view.move is not None

    return (_mover is None or _mover.poll() is not None) and _ask(ring, moving)


def resume_move(ring: str = "carts", timeout_s: float = MOVE_SECONDS) -> str:
    """Have another mover finish a change of nodes, as soon as the lease of the one before it ends; none is no error."""
    end = time.monotonic() + float(timeout_s)
    while True:
        _begin("resume", "--ring", ring)
        try:
            return await_mover(max(1.0, end - time.monotonic()))
        except ActivityFailed as error:
            if "another mover is at work" not in str(error) or time.monotonic() > end:
                raise
        time.sleep(1)
