"""Transfer: money moves between accounts of different shards in transactions; every snapshot must add up."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from pymongo import ReadPreference
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.synchronous.client_session import ClientSession

from ..collections import run_range
from .workload import Context, Document, NoEffectError, Workload

ACCOUNTS = 64
INITIAL_CENTS = 10_000


class Transfer(Workload):
    """`transfer` debits, credits and notes {_id: token} in one transaction; `audit` sums a snapshot."""

    name = "transfer"
    shard_keys = {"accounts": {"_id": "hashed"}, "transfers": {"_id": "hashed"}}  # noqa: RUF012
    effect_functions = frozenset({"transfer"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._accounts = context.collection("accounts")
        self._transfers = context.collection("transfers")

    def begin(self) -> None:
        """Open the accounts."""
        self._accounts.insert_many(
            [{"_id": self.context.id(n), "balance_cents": INITIAL_CENTS} for n in range(ACCOUNTS)]
        )

    def choose(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """Mostly transfers, one audit in ten."""
        if dice.random() < 0.1:
            return "audit", {}
        source, target = dice.sample(range(ACCOUNTS), 2)
        return "transfer", {"source": source, "target": target, "cents": dice.randrange(1, 500)}

    def execute(self, function: str, value: Document, token: int) -> Any:
        """Returns 1 or 0 (not enough money) for a transfer, the sum in cents for an audit.

        An error before the commit was sent is a certain failure: nobody else can commit this transaction.
        """
        with self.context.client.start_session(causal_consistency=False) as session:
            # Concerns belong to the transaction; statements inside may not carry their own.
            session.start_transaction(
                ReadConcern("snapshot"),
                self.context.write_concern,
                ReadPreference.PRIMARY,
                max_commit_time_ms=self.context.timeout_ms,
            )
            try:
                result = self._audit(session) if function == "audit" else self._move(session, value, token)
            except PyMongoError as error:
                with contextlib.suppress(PyMongoError):
                    session.abort_transaction()
                raise NoEffectError(f"before commit: {type(error).__name__}: {str(error)[:120]}") from error
            if result == 0:
                session.abort_transaction()
            else:
                session.commit_transaction()
            return result

    def _audit(self, session: ClientSession) -> int:
        accounts = self._accounts.find(run_range(self.context.run), session=session)
        return sum(account["balance_cents"] for account in accounts)

    def _move(self, session: ClientSession, value: Document, token: int) -> int:
        cents = value["cents"]
        debited = self._accounts.update_one(
            {"_id": self.context.id(value["source"]), "balance_cents": {"$gte": cents}},
            {"$inc": {"balance_cents": -cents}},
            session=session,
        )
        if not debited.modified_count:
            return 0
        self._accounts.update_one(
            {"_id": self.context.id(value["target"])}, {"$inc": {"balance_cents": cents}}, session=session
        )
        self._transfers.insert_one({"_id": self.context.id(token), "op": token} | value, session=session)
        return 1
