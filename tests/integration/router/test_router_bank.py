"""Money is conserved: transfers in transactions over both shards while chunks move and primaries are killed."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from tests.integration.router.sharded import chunks, move_chunk, shard
from tests.support.clusters import EmbeddedCluster

ACCOUNTS, EACH, SECONDS = 40, 100, 15.0
SNAPSHOT, MAJORITY = ReadConcern("snapshot"), WriteConcern("majority")


def transfer(session: ClientSession, accounts: Any, rng: random.Random) -> None:
    source, target = rng.sample(range(ACCOUNTS), 2)
    amount = rng.randint(1, 10)
    if accounts.find_one({"_id": source}, session=session)["balance"] < amount:
        return
    accounts.update_one({"_id": source}, {"$inc": {"balance": -amount}}, session=session)
    accounts.update_one({"_id": target}, {"$inc": {"balance": amount}}, session=session)


class Bank:
    """The threads of the experiment, what they counted, and what they found wrong."""

    def __init__(self, cluster: EmbeddedCluster, client: MongoClient[dict[str, Any]]) -> None:
        self.cluster, self.client = cluster, client
        self.accounts = client.bank.accounts
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.deadline = time.monotonic() + SECONDS

    def repeat(self, name: str, work: Callable[[random.Random], None], seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < self.deadline:
            try:
                work(rng)
                self.counts[name] += 1
            except PyMongoError as error:
                self.counts[f"{name} failed"] += 1
                self.counts[f"{name}: {type(error).__name__} {getattr(error, 'code', '')}"] += 1
            except Exception as error:
                self.wrong.append(f"{name}: {error!r}")
                raise

    def transfers(self, rng: random.Random) -> None:
        with self.client.start_session() as session:
            session.with_transaction(
                lambda s: transfer(s, self.accounts, rng), read_concern=SNAPSHOT, write_concern=MAJORITY
            )

    def check(self, how: str, balances: list[int]) -> None:
        if len(balances) != ACCOUNTS or sum(balances) != ACCOUNTS * EACH:
            self.wrong.append(f"{how}: {len(balances)} accounts, sum {sum(balances)}")

    def snapshot_read(self, _: random.Random) -> None:
        with self.client.start_session(snapshot=True) as session:
            self.check("snapshot find", [a["balance"] for a in self.accounts.find(session=session)])
            group = [{"$group": {"_id": None, "sum": {"$sum": "$balance"}}}]
            (total,) = self.accounts.aggregate(group, session=session)
            if total["sum"] != ACCOUNTS * EACH:
                self.wrong.append(f"snapshot aggregate: {total}")

    def transaction_read(self, _: random.Random) -> None:
        with self.client.start_session() as session, session.start_transaction(read_concern=SNAPSHOT):
            balances = [a["balance"] for a in self.accounts.find(session=session).sort("balance", 1)]
            self.check("transaction find", balances)

    def move_chunks(self, rng: random.Random) -> None:
        move_chunk(self.client, "bank.accounts", rng.randrange(len(chunks(self.client, "bank.accounts"))))
        time.sleep(0.5)  # the rate of the fault, nothing waits for it

    def kill_primaries(self, rng: random.Random) -> None:
        name = self.cluster.primary_of(rng.choice(["shard1ReplSet", "shard2ReplSet"]))
        self.cluster.kill(name)
        time.sleep(1.0)  # how long a dead member stays dead
        self.cluster.start(name)
        time.sleep(2.0)


def test_the_sum_is_constant_in_every_snapshot(replicated: EmbeddedCluster) -> None:
    with replicated.client() as client:
        client.drop_database("bank")
        shard(client, "bank.accounts", {"_id": "hashed"})
        client.bank.accounts.insert_many([{"_id": i, "balance": EACH} for i in range(ACCOUNTS)], ordered=False)
        bank = Bank(replicated, client)
        works = [
            *[bank.transfers] * 4,
            bank.snapshot_read,
            bank.transaction_read,
            bank.move_chunks,
            bank.kill_primaries,
        ]
        threads = [threading.Thread(target=bank.repeat, args=(w.__name__, w, n)) for n, w in enumerate(works)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
            assert not thread.is_alive(), f"{thread} hangs; {bank.counts}"
        print(dict(bank.counts))
        assert not bank.wrong, bank.wrong[:5]
        assert bank.counts["transfers"] > 20, bank.counts
        assert bank.counts["snapshot_read"] > 3, bank.counts
        assert bank.counts["transaction_read"] > 3, bank.counts
        assert bank.counts["move_chunks"] > 0, bank.counts
        assert bank.counts["kill_primaries"] > 0, bank.counts
        final = [
            account["balance"]
            for account in client.bank.accounts.with_options(read_concern=ReadConcern("majority")).find()
        ]
        assert len(final) == ACCOUNTS
        assert sum(final) == ACCOUNTS * EACH
        assert min(final) >= 0
