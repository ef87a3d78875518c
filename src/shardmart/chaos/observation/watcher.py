"""What a client of each shard sees, and who is primary, several times a second, while an experiment runs.

A heartbeat is one update through the router with write
concern majority of a document that lives on a known shard (`ledger.heartbeats`), so "time without writes" is measured
per shard and as users would feel it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, PyMongoError
from pymongo.write_concern import WriteConcern
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from shardmart.ledger.mongodb.collections import prepare

from ..errors import ChaosError
from ..targets.selectors import Targets
from .heartbeats import Beat

HEARTBEAT_SECONDS = 0.1
TIMEOUT_MS = 2000
START_SECONDS = 40
"""Time to make and find the heartbeat documents: sharding a collection may take longer than a heartbeat."""
ELECTION_POLL_SECONDS = 0.4
DOCUMENTS = 64
DATABASE, COLLECTION = "ledger", "heartbeats"


@dataclass(frozen=True)
class Election:
    """A set has another primary, seen at `at` (wall-clock seconds)."""

    at: float
    set_name: str
    primary: str
    before: str


class Watcher:
    """Threads that watch until `stop`, and tell.  `start` raises ChaosError if a shard holds no heartbeat document."""

    def __init__(
        self, targets: Targets, on_beat: Callable[[Beat], object], on_election: Callable[[Election], object]
    ) -> None:
        self._targets = targets
        self._on_beat, self._on_election = on_beat, on_election
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._client: MongoClient[dict[str, Any]] = MongoClient(
            targets.state.uri("ledger"), timeoutMS=TIMEOUT_MS, appname="shardmart-watcher"
        )

    def start(self) -> None:
        """Find a document on each shard, then watch."""
        # Without a fault to answer for: a router that is late or just gone is asked again.
        for attempt in Retrying(
            retry=retry_if_exception_type(ConnectionFailure),
            stop=stop_after_delay(START_SECONDS),
            wait=wait_fixed(0.5),
            reraise=True,
        ):
            with attempt, pymongo.timeout(START_SECONDS / 2):
                places = self._places()
        self._threads = [
            threading.Thread(target=self._beat, args=item, name=f"heartbeat-{item[0]}", daemon=True)
            for item in places.items()
        ]
        self._threads.append(threading.Thread(target=self._elections, name="elections", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop watching and close."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=TIMEOUT_MS / 1000 + 10)
        self._client.close()

    def _places(self) -> dict[str, int]:
        prepare(self._client, DATABASE, {COLLECTION: {"_id": "hashed"}})
        collection = self._client[DATABASE][COLLECTION]
        for number in range(DOCUMENTS):
            collection.update_one({"_id": number}, {"$setOnInsert": {"at": 0.0}}, upsert=True)
        places: dict[str, int] = {}
        for shard in [shard.name for shard in self._targets.cluster.shards]:
            primary = self._targets.wait_for_primary(shard)
            answer = self._targets.command(primary, {"find": COLLECTION, "projection": {"_id": 1}, "$db": DATABASE}, 5)
            if not answer or not (held := answer["cursor"]["firstBatch"]):
                raise ChaosError(
                    f"{shard} holds none of the {DOCUMENTS} documents of {DATABASE}.{COLLECTION}: is it draining?"
                )
            places[shard] = held[0]["_id"]
        return places

    def _beat(self, shard: str, document: int) -> None:
        collection = self._client[DATABASE].get_collection(COLLECTION, write_concern=WriteConcern("majority"))
        while not self._stop.wait(HEARTBEAT_SECONDS):
            sent = time.time()
            try:
                ok = collection.update_one({"_id": document}, {"$set": {"at": sent}}).matched_count == 1
            except PyMongoError:
                ok = False
            with self._lock:
                if not self._stop.is_set():
                    self._on_beat(Beat(shard, sent, time.time(), ok))

    def _elections(self) -> None:
        last: dict[str, tuple[str, Any]] = {}
        while not self._stop.wait(ELECTION_POLL_SECONDS):
            for name in self._targets.set_names:
                for member in self._targets.members(name):
                    answer = self._targets.hello(member, timeout_seconds=0.5)
                    if not answer or not answer.get("isWritablePrimary"):
                        continue
                    now = member.name, str(answer.get("electionId"))
                    before = last.get(name)
                    # A cut-off primary keeps its old, smaller election id: only a newer one is an election.
                    if before is not None and now[1] <= before[1]:
                        continue
                    last[name] = now
                    if before is not None:
                        self._on_election(Election(time.time(), name, member.name, before[0]))
