"""A workload of one file on a system of its own: counters in the memory of this process, which can be told to err."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

from shardmart.ledger.checks.staging import Staging
from shardmart.ledger.journal import Operation, Outcome
from shardmart.ledger.system import Document, Examination, NoEffectError, Target
from shardmart.ledger.workloads.workload import Checker, Client, Effect, Generator, Seen, Workload, demand


class BusyError(Exception):
    """The store says that it did nothing."""


class CutOffError(Exception):
    """The answer was lost."""


class MemorySystem:
    """A store of lists.  `forget` and `repeat` are the numbers of the additions that it loses or does twice."""

    store: ClassVar[dict[str, list[Document]]]
    forget: ClassVar[frozenset[int]]
    repeat: ClassVar[frozenset[int]]
    problem: ClassVar[str | None]
    closed: ClassVar[int]

    @classmethod
    def reset(cls, *, forget: int | None = None, repeat: int | None = None, problem: str | None = None) -> None:
        cls.store, cls.closed, cls.problem = defaultdict(list), 0, problem
        cls.forget = frozenset() if forget is None else frozenset({forget})
        cls.repeat = frozenset() if repeat is None else frozenset({repeat})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._additions = 0

    @classmethod
    def connect(cls, target: Target) -> Self:
        assert target.database == "ledger"
        return cls()

    def close(self) -> None:
        type(self).closed += 1

    def version(self) -> str:
        return "memory 1"

    def prepare(self, collections: Mapping[str, Any]) -> None:
        assert collections == {"things": None}

    def add(self, run: str, token: int, number: int) -> None:
        with self._lock:
            self._additions += 1
            if self._additions % 10 == 0:
                raise BusyError("come again")
            times = 0 if self._additions in self.forget else 2 if self._additions in self.repeat else 1
            self.store["things"] += [{"_id": f"{run}:{token}", "op": token, "number": number}] * times
            if self._additions % 15 == 0:
                raise CutOffError("cut off")

    def classify(self, error: Exception) -> tuple[Outcome, str] | None:
        if isinstance(error, BusyError):
            return "failed", str(error)
        return ("unknown", str(error)) if isinstance(error, CutOffError) else None

    def documents(self, run: str, collection: str) -> Iterator[Document]:
        for document in self.store[collection]:
            if document["_id"].startswith(f"{run}:"):
                yield document | {"_id": document["_id"].split(":", 1)[1]}

    def examine(self, wait_seconds: float | None) -> Examination:
        return Examination(
            problems=[self.problem] if self.problem else [], checked=["members: the memory of a process"]
        )

    def clean(self, run: str | None) -> dict[str, int]:
        kept = [d for d in self.store["things"] if run and not d["_id"].startswith(f"{run}:")]
        deleted, self.store["things"] = len(self.store["things"]) - len(kept), kept
        return {"things": deleted}


class ToyGenerator(Generator):
    """Adds a number between 0 and 8; 9 is refused by the client."""

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        return "add", {"number": dice.randrange(10)}


class ToyClient(Client[MemorySystem]):
    """Adds."""

    def invoke(self, function: str, value: Document, token: int) -> Any:
        if value["number"] == 9:
            raise NoEffectError("nine is refused")
        self.system.add(self.run, token, value["number"])
        return 1


class ToyChecker(Checker):
    """Every addition once, and no nine."""

    kinds = {"nine": "there is a nine"}  # noqa: RUF012

    def expect(self, operation: Operation) -> Effect:
        return Effect(demand(operation), "things", str(operation.value["number"]))

    def seen(self, staging: Staging) -> Iterator[Seen]:
        for document in self.documents("things"):
            if document["number"] == 9:
                self.found("nine", f"{document['op']} is a nine")
            yield document["op"], "things", str(document["number"])


TOY = Workload(
    name="toy",
    system=MemorySystem,
    collections={"things": None},
    generator=ToyGenerator,
    client=ToyClient,
    checker=ToyChecker,
    writes=frozenset({"add"}),
    resubmittable=frozenset({"add"}),
)
