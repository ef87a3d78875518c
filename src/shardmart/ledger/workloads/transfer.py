"""Transfer: money moves between accounts of different shards in transactions; every snapshot must add up."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from pymongo import ReadPreference
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.synchronous.client_session import ClientSession

from ..checks.staging import Staging
from ..journal import Operation
from ..mongodb import MongoSystem
from ..mongodb.collections import run_range
from ..system import Document, NoEffectError
from .workload import Checker, Client, Effect, Generator, Seen, Workload, demand

ACCOUNTS = 64
INITIAL_CENTS = 10_000
TOTAL_CENTS = ACCOUNTS * INITIAL_CENTS


class TransferGenerator(Generator):
    """Mostly transfers, one audit in ten."""

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """`audit` with {}, or `transfer` with {source, target, cents}."""
        if dice.random() < 0.1:
            return "audit", {}
        source, target = dice.sample(range(ACCOUNTS), 2)
        return "transfer", {"source": source, "target": target, "cents": dice.randrange(1, 500)}


class TransferClient(Client[MongoSystem]):
    """`transfer` debits, credits and notes {_id: token} in one transaction; `audit` sums a snapshot."""

    def __init__(self, system: MongoSystem, run: str) -> None:
        super().__init__(system, run)
        self._accounts = system.collection("accounts")
        self._transfers = system.collection("transfers")

    def begin(self) -> None:
        """Open the accounts."""
        self._accounts.insert_many([{"_id": self.id(n), "balance_cents": INITIAL_CENTS} for n in range(ACCOUNTS)])

    def invoke(self, function: str, value: Document, token: int) -> Any:
        """Returns 1 or 0 (not enough money) for a transfer, the sum in cents for an audit.

        An error before the commit was sent is a certain failure: nobody else can commit this transaction.
        """
        with self.system.client.start_session(causal_consistency=False) as session:
            # Concerns belong to the transaction; statements inside may not carry their own.
            session.start_transaction(
                ReadConcern("snapshot"),
                self.system.write_concern,
                ReadPreference.PRIMARY,
                max_commit_time_ms=self.system.timeout_ms,
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
        accounts = self._accounts.find(run_range(self.run), session=session)
        return sum(account["balance_cents"] for account in accounts)

    def _move(self, session: ClientSession, value: Document, token: int) -> int:
        cents = value["cents"]
        debited = self._accounts.update_one(
            {"_id": self.id(value["source"]), "balance_cents": {"$gte": cents}},
            {"$inc": {"balance_cents": -cents}},
            session=session,
        )
        if not debited.modified_count:
            return 0
        self._accounts.update_one(
            {"_id": self.id(value["target"])}, {"$inc": {"balance_cents": cents}}, session=session
        )
        self._transfers.insert_one({"_id": self.id(token), "op": token} | value, session=session)
        return 1


class TransferChecker(Checker):
    """Every transfer once, each account at what its transfers leave, and the same sum in every snapshot."""

    def look_at(self, operation: Operation) -> None:
        """An audit that was answered saw all the money there is."""
        if operation.function == "audit" and operation.outcome == "ok" and operation.result != TOTAL_CENTS:
            self.found(
                "unbalanced",
                f"a snapshot of all accounts adds up to {operation.result} cents instead of {TOTAL_CENTS}",
                operation.describe(),
            )

    def expect(self, operation: Operation) -> Effect | None:
        """The note of a transfer."""
        if operation.function != "transfer":
            return None
        value = operation.value
        return Effect(demand(operation), f"{value['source']}>{value['target']}", f"{value['cents']} cents")

    def seen(self, staging: Staging) -> Iterator[Seen]:
        """The notes; then the accounts, against what the notes leave."""
        moved = [0] * ACCOUNTS
        for document in self.documents("transfers"):
            moved[document["source"]] -= document["cents"]
            moved[document["target"]] += document["cents"]
            # The document's _id cannot be there twice on one shard, but a token under two ids is a double all the same.
            yield document["op"], f"{document['source']}>{document['target']}", f"{document['cents']} cents"
        balances: dict[int, int] = {}
        for document in self.documents("accounts"):
            balances[int(document["_id"])] = document["balance_cents"]
        for account in range(ACCOUNTS):
            expected = INITIAL_CENTS + moved[account]
            if balances.get(account) != expected:
                self.found(
                    "unbalanced",
                    f"account {account} holds {balances.get(account)} cents, its transfers leave {expected}:"
                    " half a transaction took effect",
                )
        total = sum(balances.values())
        if total != TOTAL_CENTS:
            self.found("unbalanced", f"all accounts hold {total} cents instead of {TOTAL_CENTS}")


WORKLOAD = Workload(
    name="transfer",
    system=MongoSystem,
    collections={"accounts": {"_id": "hashed"}, "transfers": {"_id": "hashed"}},
    generator=TransferGenerator,
    client=TransferClient,
    checker=TransferChecker,
    writes=frozenset({"transfer"}),
)
