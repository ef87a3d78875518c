"""What a workload is: a generator, a client and a checker under one name, as in Jepsen.

The generator says what clients do next, the client does it on the workload's system, the checker says what the journal
demands of the final documents.  Runner, final read and check know no more of a workload than what stands here.
"""

from __future__ import annotations

import abc
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from ..checks.staging import MAY, MUST, MUST_NOT, Staging
from ..checks.verdict import Verdict
from ..journal import Operation
from ..system import Document, System, Target

SystemT = TypeVar("SystemT", bound=System)
Seen = tuple[int, str, str | None]
"""An effect found in the final documents: the operation's token, where it is, what it says."""


class Effect(NamedTuple):
    """What an operation must, may or must not have left: where, and what it says."""

    demand: int
    """MUST, MAY or MUST_NOT."""
    key: str
    amount: str | None = None


def demand(operation: Operation) -> int:
    """Whether its effect must be there (answered 1), may be (nobody knows), or must not (failed, or answered 0)."""
    if operation.outcome == "unknown":
        return MAY
    return MUST if operation.outcome == "ok" and operation.result == 1 else MUST_NOT


class Generator(abc.ABC):
    """What the clients of a run do next.  One object for all of them, safe to call from many threads."""

    @abc.abstractmethod
    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """What `client` does next: a function's name and its value, both as they go to the journal."""

    def acknowledged(self, function: str, value: Document, result: Any) -> None:  # noqa: B027 - most learn nothing
        """Learn from an operation that ended well."""


class Client(abc.ABC, Generic[SystemT]):
    """Does operations on a system.  One object for all clients of a run, safe to call from many threads.

    It never catches an error of the system: the runner journals it.
    """

    def __init__(self, system: SystemT, run: str) -> None:
        self.system, self.run = system, run

    def id(self, key: object) -> str:
        """The `_id` of this run's document `key`."""
        return f"{self.run}:{key}"

    def begin(self) -> None:
        """Write the documents every client starts from.  Called once."""

    @abc.abstractmethod
    def invoke(self, function: str, value: Document, token: int) -> Any:
        """Do it, and leave `token` with its effect; returns the result for the journal.

        1 is an effect, 0 a refusal.  Raises what the system raises, or NoEffectError.
        """


class Checker:
    """Judges one run of a workload.  It sees the journal first, client after client, then the final documents."""

    keeps_histories: ClassVar[bool] = False
    """Whether `judge` asks for each key's history (`keyed.histories`); every operation then has a number as its key."""
    kinds: ClassVar[Mapping[str, str]] = {}
    """Kinds of anomaly that only this workload has, and what they mean."""

    def __init__(self, workload: str, verdict: Verdict, documents: Callable[[str], Iterator[Document]]) -> None:
        """`documents` gives the final documents of a collection."""
        self.workload, self.verdict, self.documents = workload, verdict, documents
        verdict.kinds = {**verdict.kinds, **self.kinds}

    def found(self, kind: str, detail: str, *operations: str) -> None:
        """Add an anomaly to the verdict, with the operations that show it."""
        self.verdict.add(kind, self.workload, detail, operations)

    def look_at(self, operation: Operation) -> None:
        """See an operation go by, and say at once what no final document is needed for."""

    def expect(self, operation: Operation) -> Effect | None:
        """What the operation must, may or must not have left; None for one that leaves no token."""

    def seen(self, staging: Staging) -> Iterator[Seen]:
        """The effects in the final documents; invariants of the documents themselves are judged on the way."""
        return iter(())

    def judge(self, staging: Staging) -> str | None:
        """Judge what is staged beyond exactly once; returns what was checked, in words."""


@dataclass(frozen=True)
class Workload:
    """A workload as the registry holds it."""

    name: str
    system: type[System]
    collections: Mapping[str, Any]
    """What it writes and the final read fetches: name → how its system is to lay it out."""
    generator: type[Generator]
    client: type[Client[Any]]
    checker: type[Checker]
    writes: frozenset[str]
    """Functions that change something when they are acknowledged."""
    resubmittable: frozenset[str] = frozenset()
    """Functions that take effect twice when they are sent twice: the negative control of `--double-submit`."""
    by_name_only: bool = False
    """Whether `all` leaves it out: its system is not there wherever a cluster is."""


@contextmanager
def connected(workloads: Iterable[Workload], target: Target) -> Iterator[dict[type[System], System]]:
    """The systems of `workloads`, each connected to once; closed at the end of the block."""
    systems: dict[type[System], System] = {}
    with ExitStack() as stack:
        for kind in dict.fromkeys(workload.system for workload in workloads):
            systems[kind] = kind.connect(target)
            stack.callback(systems[kind].close)
        yield systems


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
