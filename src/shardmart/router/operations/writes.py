"""insert, update, delete, findAndModify: each document to its owner, results merged as if one server had done it all.

Ordered batches go out in runs of neighbours with the same owner, one after the other; unordered ones to all owners
at once.  `stmtIds` keep the client's numbering, so that members recognise a statement they have seen, wherever
its chunk is now.  Source: MongoDB 6.0 manual, "insert", "update", "delete"; drivers' "Retryable writes".
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..protocol import rawbson
from ..protocol.errors import RETRYABLE, STALE, Code, RouterError
from ..routing.catalog import IGNORED, Routing
from .authorization import Need
from .context import Context, Reply, command
from .send import ask, attempt_until_fresh, everywhere, routing_for, until_fresh
from .shard_key_updates import serves_moves
from .targeting import check_statement, owner_of_modification, owners_of_statement, routing_of

FIELDS = {"insert": "documents", "update": "updates", "delete": "deletes"}
ACTIONS = {"insert": "insert", "update": "update", "delete": "remove"}


@dataclass
class Batch:
    """A write command in progress: what is left to do, and the reply so far."""

    context: Context
    name: str
    statements: list[bytes]
    ordered: bool
    statement_ids: Sequence[int]  # the numbers members know the statements by
    options: dict[str, Any]

    def __post_init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget what was done: all statements are left."""
        self.n = self.modified = 0
        self.upserted: list[dict[str, Any]] = []
        self.errors: dict[int, dict[str, Any]] = {}  # by the statement's index
        self.concern_error: dict[str, Any] | None = None
        self.retried: list[int] = []
        self.labels: set[str] = set()
        self.left = list(range(len(self.statements)))

    def take(self, reply: dict[str, Any], indexes: list[int], *, broadcast: bool) -> list[int]:
        """Merge the reply of one shard; returns the statements it refused because the router was stale."""
        self.n += int(reply.get("n", 0))
        self.modified += int(reply.get("nModified", 0))
        for upsert in reply.get("upserted", ()):
            self.upserted.append({**upsert, "index": indexes[upsert["index"]]})
        self.retried += [int(i) for i in reply.get("retriedStmtIds", ())]
        self.concern_error = self.concern_error or reply.get("writeConcernError")
        self.labels |= set(reply.get("errorLabels", ()))
        stale: list[int] = []
        for error in reply.get("writeErrors", []):
            if error.get("code") in STALE and not broadcast:
                stale.append(indexes[error["index"]])
            else:
                self._note({**error, "index": indexes[error["index"]]})
        if stale and self.ordered:
            # An ordered batch stops at the first refusal; what follows it was not tried.
            stale = indexes[indexes.index(stale[0]) :]
        return stale

    def fail(self, indexes: list[int], error: RouterError) -> None:
        """Record the same error for some statements."""
        for index in indexes if not self.ordered else indexes[:1]:
            self._note({"index": index, "code": error.code, "errmsg": error.message, **error.extra})

    def _note(self, error: dict[str, Any]) -> None:
        """One error for each statement: several shards may have refused the same."""
        known = self.errors.setdefault(error["index"], error)
        if known["code"] != error["code"]:
            known["errmsg"] = f"multiple errors for op : {known['errmsg']} :: and :: {error['errmsg']}"
            known["code"] = Code.MultipleErrorsOccurred.value

    def may_note(self, error: RouterError) -> bool:
        """Whether an error of a whole command belongs to its statements.

        Not when it is the first thing that happened (one server would have refused the whole batch), not where
        the whole is to be done again (a transaction, a retryable write), and not when time is up.  That one shard
        calls the router stale does: the others have done their part of a broadcast, and must not do it twice.
        """
        if self.context.in_transaction or (self.context.retryable and error.code in RETRYABLE):
            return False
        return error.code != Code.MaxTimeMSExpired and bool(self.n or self.errors or error.code in RETRYABLE | STALE)

    @property
    def stopped(self) -> bool:
        """Whether nothing more is to be tried: an ordered batch, or one in a transaction, has met an error."""
        return bool(self.errors) and (self.ordered or self.context.in_transaction)

    def reply(self) -> dict[str, Any]:
        """The reply for the client."""
        modified = {"nModified": self.modified} if self.name == "update" else {}
        details = {
            "upserted": sorted(self.upserted, key=lambda upsert: upsert["index"]),
            "writeErrors": [self.errors[index] for index in sorted(self.errors)],
            "writeConcernError": self.concern_error,
            "retriedStmtIds": sorted(self.retried),
            "errorLabels": sorted(self.labels),
        }
        return {"n": self.n, **modified, **{k: v for k, v in details.items() if v}, "ok": 1.0}


def _needs(context: Context, *actions: str) -> list[Need]:
    bypass = ("bypassDocumentValidation",) if context.head.get("bypassDocumentValidation") else ()
    return [Need(action, context.db, context.collection) for action in (*actions, *bypass)]


def _needs_of_batch(context: Context) -> list[Need]:
    upserts = context.name == "update" and any(rawbson.get(s, b"upsert") for s in context.documents("updates"))
    return _needs(context, ACTIONS[context.name], *(("insert",) if upserts else ()))


@command("insert", "update", "delete", access=_needs_of_batch, transaction=True)
@serves_moves
async def write(context: Context) -> Reply:
    """A batch of writes."""
    name = context.name
    statements = context.documents(FIELDS[name])
    count = len(statements)
    if not 1 <= count <= 100_000:
        message = f"Write batch sizes must be between 1 and 100000. Got {count} operations."
        raise RouterError(Code.InvalidLength, message)
    if name == "insert":
        # The document as it will be stored, before it is targeted: its key may hold what is given here.
        now = int(time.time())
        statements = [rawbson.with_times(rawbson.with_identity(s), now) for s in statements]
    else:
        for statement in statements:
            check_statement(name, statement)
    context.service.counters[name] += count
    if context.in_transaction and "writeConcern" in context.head:
        raise RouterError(Code.InvalidOptions, "writeConcern is not allowed within a multi-statement transaction")
    if context.collection.startswith("system.") and context.db in ("admin", "config"):
        raise RouterError(Code.InvalidNamespace, f"cannot write to '{context.namespace}'")
    given = context.head.get("stmtIds")
    first = context.integer("stmtId")
    identities = given if isinstance(given, list) and len(given) == count else range(first, first + count)
    options = context.options() | context.write_concern()
    batch = Batch(context, name, statements, bool(context.head.get("ordered", True)), identities, options)
    await _run(batch)
    return batch.reply()


async def _run(batch: Batch) -> None:
    context = batch.context

    async def attempt() -> None:
        if context.in_transaction:
            batch.begin_anew()  # what other shards had done was undone with the transaction's beginning
        if batch.name != "delete":
            await context.service.catalog.create_database(context.db)
        batch.left = await _do(batch, await routing_of(context))
        if batch.left and not batch.stopped:
            raise RouterError(Code.StaleConfig, f"no agreement about who owns {context.namespace}")

    try:
        await attempt_until_fresh(context, context.namespace, attempt)
    except RouterError as error:
        if error.code not in STALE or context.in_transaction:
            raise
        batch.fail(batch.left, error)


Shares = dict[str, list[int]]  # by shard, the statements to send to it


def _steps(batch: Batch, routing: Routing) -> Iterator[tuple[Shares, bool]]:
    """What to do at the same time, step after step, and whether all shards get the same statement.

    A statement that names too little of the shard key fails when its turn comes.
    """
    shares: Shares = {}
    for index in batch.left:
        error, owners = None, [""]
        try:
            owners = owners_of_statement(batch.context, batch.name, batch.statements[index], routing)
        except RouterError as refusal:
            error = refusal
        alone = len(owners) == 1 and not error
        # What comes first may change what it finds: one server does an unordered batch in its order, too.
        if not alone or (batch.ordered and owners[0] not in shares):
            yield shares, False
            shares = {}
        if error:
            batch.fail([index], error)
            if batch.stopped:
                return
        elif alone:
            shares.setdefault(owners[0], []).append(index)
        else:
            yield {owner: [index] for owner in owners}, True
    yield shares, False


async def _do(batch: Batch, routing: Routing) -> list[int]:
    """Do what is left of a batch; returns the statements that were refused because the router was stale."""
    stale: list[int] = []
    everybody: list[str] = []
    for shares, broadcast in _steps(batch, routing):
        if broadcast and not batch.context.in_transaction:
            # Everywhere, since part of it cannot be sent again: an owner this table does not know yet, too.
            everybody = everybody or sorted(await batch.context.service.catalog.load_shards())
            shares = dict.fromkeys(everybody, next(iter(shares.values())))
        for refused in await everywhere(_send(batch, routing, broadcast, *share) for share in shares.items()):
            stale += refused
        if batch.stopped:
            break
        if stale and batch.ordered:
            return batch.left[batch.left.index(min(stale)) :]
    return sorted(stale)


async def _send(batch: Batch, routing: Routing, broadcast: bool, shard: str, indexes: list[int]) -> list[int]:
    """Send statements to a shard; returns those that it refused because the router was stale."""
    context = batch.context
    fields = {batch.name: context.collection, **batch.options, "ordered": batch.ordered, **routing.versions(shard)}
    if broadcast and not context.in_transaction:
        fields["shardVersion"] = IGNORED
    if context.retryable or context.in_transaction:
        fields["stmtIds"] = [batch.statement_ids[i] for i in indexes]
    try:
        sequences = {FIELDS[batch.name]: [batch.statements[i] for i in indexes]}
        _, answer = await ask(context, shard, fields, sequences, write=True)
        return batch.take(answer.document, indexes, broadcast=broadcast)
    except RouterError as error:
        if error.code in STALE and not broadcast:
            return indexes
        if not batch.may_note(error):
            raise
        batch.fail(indexes, error)
        return []


def _needs_of_modification(context: Context) -> list[Need]:
    change = "remove" if context.head.get("remove") else "update"
    return _needs(context, "find", change, *(("insert",) if context.head.get("upsert") else ()))


@command("findAndModify", "findandmodify", access=_needs_of_modification, transaction=True)
@serves_moves
@until_fresh
async def find_and_modify(context: Context) -> Reply:
    """One document, found and changed on the one shard that owns it: the member does all but the targeting."""
    await context.service.catalog.create_database(context.db)
    routing = await routing_for(context)
    shard = owner_of_modification(context, routing)
    fields = {"findAndModify": context.collection, **context.options(), **context.write_concern()}
    if context.retryable or context.in_transaction:
        fields["stmtId"] = context.integer("stmtId")
    return (await ask(context, shard, fields | routing.versions(shard), write=True))[1].body
