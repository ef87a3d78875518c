"""insert, update and delete: each document to its owner, results merged as if one server had done it all.

Ordered batches go out in runs of neighbours with the same owner, one after the other; unordered ones to all owners
at once.  `stmtIds` keep the client's numbering, so that members recognise a statement they have seen, wherever
its chunk is now.  Source: MongoDB 6.0 manual, "insert", "update", "delete"; drivers' "Retryable writes".
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from ..protocol import rawbson
from ..protocol.errors import RETRYABLE, STALE, Code, RouterError
from ..routing.catalog import IGNORED, Routing
from . import shard_key_updates
from .authorization import Need
from .context import Context, Reply, command
from .send import STALE_SECONDS, ask, everywhere, routing_for
from .targeting import check_statement, owners_of_statement

MAXIMUM_BATCH_BYTES = 44_000_000
FIELDS = {"insert": "documents", "update": "updates", "delete": "deletes"}
ACTIONS = {"insert": "insert", "update": "update", "delete": "remove"}


@dataclass
class Batch:
    """A write command in progress: what is left to do, and the reply so far."""

    context: Context
    statements: list[bytes]
    ordered: bool
    first_statement_id: int
    statement_ids: list[int] | None
    n: int = 0
    modified: int = 0
    upserted: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    concern_error: dict[str, Any] | None = None
    retried: list[int] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)

    def statement_id(self, index: int) -> int:
        """The number members know statement `index` by."""
        return self.statement_ids[index] if self.statement_ids else self.first_statement_id + index

    def begin_anew(self) -> list[int]:
        """Forget what was done; returns all statements."""
        self.n = self.modified = 0
        self.concern_error = None
        for done in (self.upserted, self.errors, self.retried, self.labels):
            done.clear()
        return list(range(len(self.statements)))

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
        known = next((e for e in self.errors if e["index"] == error["index"]), None)
        if known is None:
            self.errors.append(error)
        elif known["code"] != error["code"]:
            known["errmsg"] = f"multiple errors for op : {known['errmsg']} :: and :: {error['errmsg']}"
            known["code"] = Code.MultipleErrorsOccurred.value

    def may_note(self, error: RouterError) -> bool:
        """Whether an error of a whole command belongs to its statements.

        Not when it is the first thing that happened (one server would have refused the whole batch), not where
        the whole is to be done again (a transaction, a retryable write), and not when time is up.
        """
        if self.context.in_transaction or (self.context.retryable and error.code in RETRYABLE):
            return False
        return error.code != Code.MaxTimeMSExpired and bool(self.n or self.errors or error.code in RETRYABLE)

    @property
    def stopped(self) -> bool:
        """Whether nothing more is to be tried: an ordered batch, or one in a transaction, has met an error."""
        return bool(self.errors) and (self.ordered or self.context.in_transaction)

    def reply(self, name: str) -> dict[str, Any]:
        """The reply for the client."""
        document: dict[str, Any] = {"n": self.n}
        if name == "update":
            document["nModified"] = self.modified
            if self.upserted:
                document["upserted"] = sorted(self.upserted, key=lambda upsert: upsert["index"])
        if self.errors:
            document["writeErrors"] = sorted(self.errors, key=lambda error: error["index"])
        if self.concern_error:
            document["writeConcernError"] = self.concern_error
        if self.retried:
            document["retriedStmtIds"] = sorted(self.retried)
        if self.labels:
            document["errorLabels"] = sorted(self.labels)
        return {**document, "ok": 1.0}


def _needs(context: Context) -> list[Need]:
    needs = [Need(ACTIONS[context.name], context.db, context.collection)]
    if context.head.get("bypassDocumentValidation"):
        needs.append(Need("bypassDocumentValidation", context.db, context.collection))
    if context.name == "update":
        statements = context.documents("updates")
        if any(rawbson.find(s, frozenset({b"upsert"})).get(b"upsert") for s in statements):
            needs.append(Need("insert", context.db, context.collection))
    return needs


@command("insert", "update", "delete", access=_needs, transaction=True)
async def write(context: Context) -> Reply:
    """A batch of writes."""
    name = context.name
    statements = context.documents(FIELDS[name])
    if not 1 <= len(statements) <= 100_000:
        raise RouterError(
            Code.InvalidLength, f"Write batch sizes must be between 1 and 100000. Got {len(statements)} operations."
        )
    if name == "insert":
        # The document as it will be stored, before it is targeted: its key may hold what is given here.
        now = int(time.time())
        statements = [rawbson.with_times(rawbson.with_identity(s), now) for s in statements]
    else:
        for statement in statements:
            check_statement(name, statement)
    context.service.counters[name] += len(statements)
    if context.in_transaction and "writeConcern" in context.head:
        raise RouterError(Code.InvalidOptions, "writeConcern is not allowed within a multi-statement transaction")
    if context.collection.startswith("system.") and context.db in ("admin", "config"):
        raise RouterError(Code.InvalidNamespace, f"cannot write to '{context.namespace}'")
    batch = Batch(
        context,
        statements,
        bool(context.head.get("ordered", True)),
        context.integer("stmtId"),
        _statement_ids(context.head.get("stmtIds"), len(statements)),
    )
    try:
        await _run(batch, name)
    except RouterError as error:
        if error.code != Code.WouldChangeOwningShard or name != "update":
            raise
        return await shard_key_updates.serve(context, error, write)
    return batch.reply(name)


def _statement_ids(values: Any, count: int) -> list[int] | None:
    usable = isinstance(values, list) and len(values) == count and all(isinstance(value, int) for value in values)
    return values if usable else None


async def _run(batch: Batch, name: str) -> None:
    context = batch.context
    catalog = context.service.catalog
    left = list(range(len(batch.statements)))
    everybody: list[str] | None = None
    options = context.options()
    concern = {} if context.in_transaction else await context.write_concern()
    deadline, pause = time.monotonic() + STALE_SECONDS, 0.0
    while left and not batch.stopped:
        await catalog.create_database(context.db) if name != "delete" else None
        try:
            routing = await routing_for(context)
        except RouterError as error:
            if error.code == Code.NamespaceNotFound and name == "delete":
                return
            raise
        stale: list[int] = []
        for step in _steps(batch, name, routing, left):
            if isinstance(step, Refusal):
                batch.fail([step.index], step.error)
            else:
                if step.broadcast and not context.in_transaction:
                    # Everywhere, since part of it cannot be sent again: an owner this table does not know yet, too.
                    everybody = everybody or sorted(await catalog.load_shards())
                    step.shares = [(shard, step.shares[0][1]) for shard in everybody]
                sends = [_send(batch, name, routing, *share, step.broadcast, options, concern) for share in step.shares]
                for refused in await everywhere(sends):
                    stale += refused
            if batch.stopped:
                return
            if stale and batch.ordered:
                stale = left[left.index(min(stale)) :]
                break
        left = sorted(stale)
        if left:
            catalog.forget(context.namespace)
            if context.in_transaction:
                if not await context.service.transactions.restart(context):
                    raise RouterError(Code.StaleConfig, f"{context.namespace} moved during the transaction")
                left = batch.begin_anew()  # what other shards had done was undone with the transaction's beginning
            if time.monotonic() > deadline:
                batch.fail(
                    left,
                    RouterError(
                        Code.StaleConfig, f"no agreement about who owns {context.namespace} in {STALE_SECONDS:g} s"
                    ),
                )
                return
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 2 + 0.01)


Share = tuple[str, list[int]]  # shard, statements


@dataclass
class Sending:
    """Shares to send at the same time; `broadcast`: all shards get the same statement."""

    shares: list[Share]
    broadcast: bool = False


@dataclass
class Refusal:
    """A statement that names too little of the shard key: its error comes when its turn comes."""

    index: int
    error: RouterError


def _steps(batch: Batch, name: str, routing: Routing, left: list[int]) -> list[Sending | Refusal]:
    """What to do, step after step."""
    steps: list[Sending | Refusal] = []
    at_once: dict[str, list[int]] = {}
    for index in left:
        try:
            owners = owners_of_statement(batch.context, name, batch.statements[index], routing)
        except RouterError as error:
            steps.append(Refusal(index, error))
            if batch.ordered:
                break
            continue
        last = steps[-1] if steps else None
        if len(owners) > 1:
            # What comes first may change what it finds: one server does an unordered batch in its order, too.
            if at_once:
                steps.append(Sending(list(at_once.items())))
                at_once = {}
            steps.append(Sending([(shard, [index]) for shard in owners], broadcast=True))
        elif not batch.ordered:
            at_once.setdefault(owners[0], []).append(index)
        elif isinstance(last, Sending) and not last.broadcast and last.shares[0][0] == owners[0]:
            last.shares[0][1].append(index)
        else:
            steps.append(Sending([(owners[0], [index])]))
    if at_once:
        steps.append(Sending(list(at_once.items())))
    return steps


async def _send(
    batch: Batch,
    name: str,
    routing: Routing,
    shard: str,
    indexes: list[int],
    broadcast: bool,
    options: dict[str, Any],
    concern: dict[str, Any],
) -> list[int]:
    context = batch.context
    stale: list[int] = []
    for part in _slices(batch, indexes):
        fields: dict[str, Any] = {name: context.collection, **options, **concern, "ordered": batch.ordered}
        fields |= routing.versions(shard)
        if broadcast and not context.in_transaction:
            fields["shardVersion"] = IGNORED
        if context.retryable or context.in_transaction:
            fields["stmtIds"] = [batch.statement_id(i) for i in part]
        try:
            sequences = {FIELDS[name]: [batch.statements[i] for i in part]}
            _, answer = await ask(context, shard, fields, sequences, write=True)
        except RouterError as error:
            if error.code in STALE and not broadcast:
                stale += part
                if batch.ordered:
                    break
                continue
            if not batch.may_note(error):
                raise
            batch.fail(part, error)
            if batch.stopped:
                break
            continue
        refused = batch.take(rawbson.decode(answer.body), part, broadcast=broadcast)
        stale += refused
        if batch.stopped or (refused and batch.ordered):
            break
    return stale


def _slices(batch: Batch, indexes: list[int]) -> list[list[int]]:
    """`indexes` cut so that no message grows beyond what a member accepts."""
    slices: list[list[int]] = [[]]
    size = 0
    for index in indexes:
        length = len(batch.statements[index])
        if slices[-1] and size + length > MAXIMUM_BATCH_BYTES:
            slices.append([])
            size = 0
        slices[-1].append(index)
        size += length
    return slices
