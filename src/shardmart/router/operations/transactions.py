"""Transactions over one shard and over several.

The router remembers, per session, which shards take part; the first is the coordinator.  A statement goes to the
owners of what it touches, the first one to each shard with `startTransaction`.  The commit is each shard's own where
there is one, or nothing was written; else it is a two-phase commit that the coordinator carries out.  After a restart
of the router, the client's recovery token says which shard knows the outcome.  Source: drivers' specification
"Transactions"; MongoDB 6.0 manual, "Production Considerations (Sharded Clusters)"; two-phase commit verified on
mongod 6.0.5.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bson import Binary, Int64, Timestamp

from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError
from ..routing.replica_set import PRIMARY
from .authorization import public
from .context import Context, Reply, command
from .send import Answer, Sequences, deliver, everywhere

if TYPE_CHECKING:
    from ..routing.catalog import Routing
    from .service import Service

SESSIONS_AT_MOST = 10_000
_ENDS = ("commitTransaction", "abortTransaction")


@dataclass
class Transaction:
    """One transaction of a session."""

    number: int
    read_concern: dict[str, Any]  # {"readConcern": ...}
    participants: list[str] = field(default_factory=list)  # in the order they joined; the first coordinates
    wrote: set[str] = field(default_factory=set)
    pinned: dict[str, Routing] = field(default_factory=dict)
    begun: Timestamp = field(default_factory=lambda: Timestamp(0, 0))
    state: str = "open"


def _no_such(message: str, *, again: bool = True) -> RouterError:
    """`again`: the whole transaction may be run again, for nothing of it was done."""
    return RouterError(Code.NoSuchTransaction, message, labels=("TransientTransactionError",) if again else ())


class Transactions:
    """The transactions of all sessions."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._by_session: dict[tuple[bytes, bytes], Transaction] = {}

    def _session(self, context: Context) -> tuple[bytes, bytes]:
        lsid = context.lsid()
        if lsid is None:
            raise RouterError(Code.InvalidOptions, "'autocommit' may only be specified with a logical session id")
        return bytes(lsid["id"]), bytes(lsid["uid"])

    def known(self, context: Context) -> Transaction | None:
        """The transaction the command names, if the router has seen it."""
        transaction = self._by_session.get(self._session(context))
        return transaction if transaction and transaction.number == context.head.get("txnNumber") else None

    def begin(self, context: Context) -> None:
        """Check a statement's place in its transaction, and start one with its first; before the handler runs."""
        number = context.head.get("txnNumber")
        if not isinstance(number, int) or isinstance(number, bool):
            raise RouterError(Code.InvalidOptions, "'autocommit' requires 'txnNumber'")
        session = self._session(context)
        known = self._by_session.get(session)
        if known and number < known.number:
            message = f"txnNumber {number} is less than last txnNumber {known.number} seen in session"
            raise RouterError(Code.TransactionTooOld, message)
        if context.head.get("startTransaction"):
            if known and known.number == number:
                message = f"txnNumber {number} for session has already started"
                raise RouterError(Code.ConflictingOperationInProgress, message)
            self.end_session(session)
            if len(self._by_session) >= SESSIONS_AT_MOST:  # the one that has begun nothing for longest
                self.end_session(next(iter(self._by_session)))
            self._by_session[session] = Transaction(number, context.read_concern())
        elif context.name in _ENDS:
            return
        elif known is None or known.number != number:
            last = known.number if known else -1
            raise _no_such(f"cannot continue txnId {number} for session with txnId {last}")
        elif known.state == "committed":
            raise RouterError(Code.TransactionCommitted, f"Transaction {number} has been committed.")
        elif known.state == "aborted":
            raise _no_such(f"Transaction {number} has been aborted.")

    def pin(self, context: Context, routing: Routing) -> Routing:
        """The routing table a transaction keeps, so that all its statements look for a document in one place.

        A shard's snapshot does not show documents whose chunk came later: a table with a newer move than the
        transaction would find nothing where there is something.  The first statement moves the transaction's time
        on; a later one has to be run again with the whole transaction.
        """
        transaction = self.known(context)
        assert transaction is not None
        if routing.namespace in transaction.pinned:
            return transaction.pinned[routing.namespace]
        if context.head.get("startTransaction"):
            transaction.begun = self._service.clock.latest or transaction.begun
            transaction.read_concern = context.read_concern()
        elif routing.newest_move > transaction.begun:
            message = f"chunks of {routing.namespace} moved since the transaction began"
            raise RouterError(Code.SnapshotUnavailable, message)
        transaction.pinned[routing.namespace] = routing
        return routing

    async def ask(self, context: Context, shard: str, command: dict[str, Any], sequences: Sequences | None) -> Answer:
        """Send a statement to a shard, which joins the transaction if it is new; raises RouterError."""
        transaction = self.known(context)
        assert transaction is not None
        fields = {k: v for k, v in command.items() if k not in ("readConcern", "writeConcern")} | context.session()
        joins = shard not in transaction.participants
        if joins:
            fields["startTransaction"] = True
            if not transaction.participants:
                fields["coordinator"] = True
            fields |= transaction.read_concern
            transaction.participants.append(shard)
        replica_set = await self._service.catalog.shard(shard)
        fields |= {**self._service.clock.gossip(), "$db": context.db}
        try:
            answer = await deliver(replica_set, wire.command(fields, sequences), PRIMARY, retryable=False)
        except RouterError as error:
            if joins and error.code == Code.CommandOnShardedViewNotSupportedOnMongod:
                transaction.participants.remove(shard)  # the member has undone what began with this statement
            raise
        if not rawbson.get(answer[1].body, b"readOnly"):
            transaction.wrote.add(shard)
        return answer

    async def restart(self, context: Context) -> bool:
        """Undo the first statement of a transaction so that it can be targeted anew; False when it is not the first."""
        transaction = self.known(context)
        if transaction is None or not context.head.get("startTransaction"):
            return False
        session = self._session(context)
        await self._abort(transaction, session)
        self._by_session[session] = Transaction(transaction.number, transaction.read_concern)
        return True

    def failed(self, context: Context) -> None:
        """A statement failed: what it did on other shards is undone at once, as mongos does."""
        transaction = self.known(context)
        if transaction and transaction.state == "open" and context.name not in _ENDS:
            transaction.state = "aborted"
            self._service.in_background(self._abort(transaction, self._session(context)))

    def end_session(self, session: tuple[bytes, bytes]) -> None:
        """Forget the transaction of a session (its id, its user's digest); if it is open, abort it meanwhile."""
        transaction = self._by_session.pop(session, None)
        if transaction and transaction.state == "open":
            self._service.in_background(self._abort(transaction, session))

    def recovery_token(self, context: Context) -> dict[str, Any]:
        """{"recoveryToken": ...}, which the client hands back with its commit."""
        transaction = self.known(context)
        if transaction is None:
            return {}
        wrote = [shard for shard in transaction.participants if shard in transaction.wrote]
        return {"recoveryToken": {"recoveryShardId": wrote[0]} if wrote else {}}

    async def _end(self, shard: str, fields: dict[str, Any]) -> bytes:
        replica_set = await self._service.catalog.shard(shard)
        data = wire.command({**fields, **self._service.clock.gossip(), "$db": "admin"})
        return (await deliver(replica_set, data, PRIMARY, retryable=True))[1].body

    async def _abort(self, transaction: Transaction, session: tuple[bytes, bytes]) -> None:
        transaction.state = "aborted"
        lsid = {"id": Binary(session[0], 4), "uid": Binary(session[1])}
        fields = {"abortTransaction": 1, "lsid": lsid, "txnNumber": Int64(transaction.number), "autocommit": False}
        await asyncio.gather(*(self._end(s, fields) for s in list(transaction.participants)), return_exceptions=True)

    async def abort(self, context: Context) -> Reply:
        """abortTransaction on every participant."""
        transaction = self.known(context)
        if transaction is None:
            raise _no_such(f"no known transaction {context.head['txnNumber']} in this session", again=False)
        if transaction.state in ("committing", "deciding", "committed"):
            raise RouterError(Code.TransactionCommitted, f"Transaction {transaction.number} has been committed.")
        await self._abort(transaction, self._session(context))
        return {"ok": 1.0}

    async def commit(self, context: Context) -> Reply:
        """commitTransaction; when the client sends it again, the outcome is the same."""
        fields = {**context.session(), **context.write_concern()}
        transaction = self.known(context)
        if transaction is None:
            return await self._recover(context, fields)
        if transaction.state == "aborted":
            raise _no_such(f"Transaction {transaction.number} has been aborted.")
        if not transaction.participants:
            transaction.state = "committed"
            return {"ok": 1.0}
        if transaction.state == "open":
            transaction.state = "committing"
        try:
            reply = await self._commit(transaction, fields)
        except RouterError as error:
            if error.code == Code.NoSuchTransaction:
                self._service.in_background(self._abort(transaction, self._session(context)))
                transaction.state = "aborted"
            raise
        transaction.state = "committed"
        return reply

    async def _commit(self, transaction: Transaction, fields: dict[str, Any]) -> bytes:
        shards, alone = transaction.participants, {"commitTransaction": 1, **fields}
        if len(transaction.wrote) > 1:
            whom = {"participants": [{"shardId": shard} for shard in shards]}
            return await self._end(shards[0], {"coordinateCommitTransaction": 1, **whom, **fields})
        # One shard wrote at most: its own commit decides, after those that were only read.  A coordinator would wait
        # without end for one of these that is silent.
        last = next(iter(transaction.wrote), shards[0])
        if transaction.state != "deciding":  # sent again the others may know nothing of it any more
            await everywhere(self._end(shard, alone) for shard in shards if shard != last)
        transaction.state = "deciding"
        return await self._end(last, alone)

    async def _recover(self, context: Context, fields: dict[str, Any]) -> Reply:
        shard = context.document("recoveryToken").get("recoveryShardId")
        if not isinstance(shard, str):
            raise _no_such("a transaction that this router does not know, without a recovery token", again=False)
        return await self._end(shard, {"coordinateCommitTransaction": 1, "participants": [], **fields})


@command(*_ENDS, access=public, transaction=True)
async def end_transaction(context: Context) -> Reply:
    """Commit or abort."""
    context.admin_only()
    if not context.in_transaction or "txnNumber" not in context.head:
        raise RouterError(Code.CommandFailed, f"{context.name} must be run within a transaction")
    transactions = context.service.transactions
    return await (transactions.commit if context.name == "commitTransaction" else transactions.abort)(context)
