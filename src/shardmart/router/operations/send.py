"""Sending commands to shards: with session, cluster time and versions, to the right member, again when stale.

Every read and write goes through `ask`; a statement of a transaction takes the transaction's own way from
there.  `until_fresh` runs an attempt again after the routing table has been read anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from bson import Int64

from ..protocol import rawbson, wire
from ..protocol.errors import STALE, MemberUnreachableError, RouterError, failure
from ..routing.catalog import Routing
from ..routing.member import Member
from ..routing.preference import PRIMARY, PRIMARY_PREFERRED, ReadPreference
from ..routing.replica_set import FIND_PRIMARY_SECONDS, ReplicaSet, error_of
from .context import Context

T = TypeVar("T")
STALE_SECONDS = 30.0


def checked(reply: wire.Message) -> wire.Message:
    """`reply` itself, unless it says `ok: 0`: then that error is raised."""
    if error := error_of(reply):
        raise failure(error)
    return reply


async def ask(
    context: Context,
    shard: str,
    command: dict[str, Any],
    sequences: dict[str, list[bytes]] | None = None,
    *,
    write: bool = False,
    session: bool = True,
    patience: float | None = None,
) -> tuple[Member, wire.Message]:
    """Send `command` to `shard`: a write to its primary, a read to the member the read preference allows.

    `patience`: seconds to look for such a member, where fewer than usual will do.
    Returns the member that answered and its answer; raises RouterError when that is an error.
    """
    if context.in_transaction and session:
        return await context.service.transactions.ask(context, shard, command, sequences)
    replica_set = await context.service.catalog.shard(shard)
    preference = context.read_preference() if not write else PRIMARY
    fields = {**command, **(context.session() if session else {}), **context.service.clock.gossip(), "$db": context.db}
    if shard == "config" and not write and preference.mode == "primary":
        preference = PRIMARY_PREFERRED  # the catalogue stays readable while the config servers elect
    data = wire.command(fields | preference.document, sequences)
    if preference.mode == "primary":
        member, reply = await replica_set.call_primary(
            data, retryable=not write or context.retryable, seconds=patience or FIND_PRIMARY_SECONDS
        )
        return member, checked(reply)
    return await _ask_readable(replica_set, preference, data, patience or FIND_PRIMARY_SECONDS)


async def _ask_readable(
    replica_set: ReplicaSet, preference: ReadPreference, data: bytes, seconds: float
) -> tuple[Member, wire.Message]:
    for attempt in range(3):
        member = await replica_set.readable(preference, seconds)
        try:
            return member, checked(await member.call(data))
        except MemberUnreachableError:
            replica_set.failed(member)
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


async def everywhere(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all; the first error is raised once every one has ended, so that nothing is left running."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


async def routing_for(context: Context) -> Routing:
    """The routing table of the command's collection: the transaction's, or the newest known; RouterError 26."""
    routing = await context.service.catalog.routing(context.namespace)
    return context.service.transactions.pin(context, routing) if context.in_transaction else routing


async def until_fresh(context: Context, namespace: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Run `attempt`; when a shard says that the router was stale, forget the routing table and run it again."""
    deadline = time.monotonic() + STALE_SECONDS
    pause = 0.0
    while True:
        try:
            return await attempt()
        except RouterError as error:
            if error.code not in STALE:
                raise
            context.service.catalog.forget(namespace)
            if context.in_transaction and not await context.service.transactions.restart(context):
                raise
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(0.5, pause * 2 + 0.01)


def cursor_id(reply: bytes) -> int:
    """The cursor id in a reply; 0 when there is none."""
    cursor = rawbson.find(reply, frozenset({b"cursor"})).get(b"cursor")
    if not cursor or cursor[0] != 0x03:
        return 0
    element = rawbson.find(reply, frozenset({b"id"}), cursor[1]).get(b"id")
    return int(rawbson.value_of(reply, element)) if element else 0


def empty_cursor(namespace: str) -> dict[str, Any]:
    """The reply of a query that finds nothing."""
    return {"cursor": {"id": Int64(0), "ns": namespace, "firstBatch": []}, "ok": 1.0}
