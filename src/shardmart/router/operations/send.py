"""Sending commands to shards: with session, cluster time and versions, to the right member, again when stale.

Every read and write goes through `ask`; a statement of a transaction takes the transaction's own way from
there.  `until_fresh` runs a handler again after the routing table has been read anew.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from bson import Int64

from ..protocol import rawbson, wire
from ..protocol.errors import STALE, RouterError
from ..routing.catalog import Routing
from ..routing.member import Member
from ..routing.replica_set import FIND_PRIMARY_SECONDS, PRIMARY, PRIMARY_PREFERRED, ReadPreference, ReplicaSet
from .context import Context, Handler, Reply

T = TypeVar("T")
Answer = tuple[Member, wire.Message]  # who answered, and what
Sequences = dict[str, list[bytes]]  # of documents, beside a command
STALE_SECONDS = 30.0


async def ask(
    context: Context, shard: str, command: dict[str, Any], sequences: Sequences | None = None, *, write: bool = False,
    seconds: float = FIND_PRIMARY_SECONDS,
) -> Answer:  # fmt: skip
    """Send `command` to `shard`: a write to its primary, a read to the member the read preference allows.

    `seconds`: how long to look for such a member.  Raises RouterError, also when the answer is an error.
    """
    if context.in_transaction:
        return await context.service.transactions.ask(context, shard, command, sequences)
    preference = context.read_preference() if not write else PRIMARY
    if shard == "config" and not write and preference.mode == "primary":
        preference = PRIMARY_PREFERRED  # the catalogue stays readable while the config servers elect
    fields = {**command, **context.session(), **context.service.clock.gossip(), "$db": context.db}
    data = wire.command(fields | preference.document, sequences)
    replica_set = await context.service.catalog.shard(shard)
    return await deliver(replica_set, data, preference, retryable=not write or context.retryable, seconds=seconds)


async def deliver(
    replica_set: ReplicaSet, data: bytes, preference: ReadPreference, *, retryable: bool,
    seconds: float = FIND_PRIMARY_SECONDS,
) -> Answer:  # fmt: skip
    """Send a message to a member that `preference` allows; raises RouterError, also when the answer is an error."""
    if preference.mode == "primary":
        member, reply = await replica_set.call_primary(data, retryable=retryable, seconds=seconds)
        return member, wire.checked(reply)

    async def read(member: Member) -> Answer:
        return member, wire.checked(await member.call(data))

    return await replica_set.on_readable(preference, read, seconds)


async def ask_all(
    context: Context, shards: list[str], command: dict[str, Any], routing: Routing | None = None, *, write: bool = False
) -> dict[str, Answer]:
    """Send the same command to several shards, each with its version; the answers by shard.  Raises RouterError."""
    answers = await everywhere(
        ask(context, shard, command | (routing.versions(shard) if routing else {}), write=write) for shard in shards
    )
    return dict(zip(shards, answers, strict=True))


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


async def attempt_until_fresh(context: Context, namespace: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Run `attempt`; when a shard says that the router was stale, forget the routing table and run it again."""
    waited = pause = 0.0  # the time of attempts is not counted: a long batch meets many moves, and gets on
    while True:
        try:
            return await attempt()
        except RouterError as error:
            if error.code not in STALE:
                raise
            context.service.catalog.forget(namespace)
            if context.in_transaction and not await context.service.transactions.restart(context):
                raise
            if waited > STALE_SECONDS:
                raise
        await asyncio.sleep(pause)
        waited += pause
        pause = min(0.5, pause * 2 + 0.01)


def until_fresh(handler: Handler) -> Handler:
    """A handler that is run again when a shard says that the router was stale."""

    @functools.wraps(handler)
    async def serve(context: Context) -> Reply:
        namespace = f"{context.db}.{context.head[context.name]}"
        return await attempt_until_fresh(context, namespace, lambda: handler(context))

    return serve


def cursor_id(reply: bytes) -> int:
    """The cursor id in a reply; 0 when there is none."""
    return int(rawbson.get(reply, b"cursor", b"id") or 0)


def empty_cursor(namespace: str) -> dict[str, Any]:
    """The reply of a query that finds nothing."""
    return {"cursor": {"id": Int64(0), "ns": namespace, "firstBatch": []}, "ok": 1.0}
