"""What every workload has in common: the run it belongs to, and keys that retire before they grow.

`ledger.runner` calls `choose` and `execute` from many threads, one per client.  A workload never catches a database
error: the runner journals it.
"""

from __future__ import annotations

import abc
import random
import threading
from dataclasses import dataclass
from typing import Any, ClassVar

from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

Document = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What a workload needs to know of its run.  `timeout_ms` bounds reads with read concern linearizable."""

    client: MongoClient[Document]
    database: str
    run: str
    write_concern: WriteConcern
    timeout_ms: int

    def collection(self, name: str, read_concern: str = "majority") -> Collection[Document]:
        """Collection `name` with the run's write concern, read from the primary."""
        return self.client[self.database].get_collection(
            name,
            write_concern=self.write_concern,
            read_concern=ReadConcern(read_concern),
            read_preference=ReadPreference.PRIMARY,
        )

    def id(self, key: object) -> str:
        """The `_id` of this run's document `key`."""
        return f"{self.run}:{key}"


class NoEffectError(Exception):
    """The operation certainly changed nothing, although the database raised an error that alone would not prove it."""


class Workload(abc.ABC):
    """One kind of work.  Subclasses are safe to call from many threads."""

    name: ClassVar[str]
    shard_keys: ClassVar[dict[str, dict[str, Any]]]
    """Collection name → shard key."""
    effect_functions: ClassVar[frozenset[str]]
    """The functions that leave their operation's token in the database."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def begin(self) -> None:  # noqa: B027 - most workloads need nothing
        """Write the documents every client starts from.  Called once."""

    @abc.abstractmethod
    def choose(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """What `client` does next: a function's name and its value, both as they go to the journal."""

    @abc.abstractmethod
    def execute(self, function: str, value: Document, token: int) -> Any:
        """Do it; returns the result for the journal.  Raises PyMongoError or NoEffectError."""


class Rotation:
    """`width` keys at a time, each replaced after `uses` uses, so that documents and histories stay small."""

    def __init__(self, width: int, uses: int) -> None:
        self._uses = uses
        self._lock = threading.Lock()
        self._active = [[number, 0] for number in range(width)]
        self._next = width

    def pick(self, dice: random.Random) -> tuple[int, bool]:
        """A key, and whether this is its first use."""
        with self._lock:
            slot = dice.randrange(len(self._active))
            if self._active[slot][1] == self._uses:
                self._active[slot] = [self._next, 0]
                self._next += 1
            number, used = self._active[slot]
            self._active[slot][1] += 1
            return number, used == 0
