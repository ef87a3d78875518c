"""What a workload runs against, as the runner, the checker and the command line know it: a `System`.

A system keeps what it needs of drivers, addresses and secrets to itself.  Nothing here knows one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from shardmart.errors import ShardmartError, UnreachableError

from .journal import Outcome

Document = dict[str, Any]


class PrepareError(UnreachableError):
    """The system is not ready for a run; the message says what is missing and what to grant."""


class NoEffectError(ShardmartError):
    """The operation certainly changed nothing, although the system raised an error that alone would not prove it."""


@dataclass(frozen=True)
class Target:
    """Where a system is and how it is spoken to; each kind of system takes from it what it understands.

    `uri`, else the content of `uri_file`, else what the state folder says.  `operation_seconds` bounds every operation
    of a client as a whole; None for the long reads of a check.  `rest_seconds` is how long what clients have set going
    may take to come to its end; None for as long as it may need.
    """

    database: str
    uri: str | None = None
    uri_file: Path | None = None
    state: Path | None = None
    write_concern: str = "majority"
    operation_seconds: float | None = None
    connections: int = 100
    rest_seconds: float | None = None


@dataclass
class Examination:
    """What a look behind a system showed: what is wrong, what is worth saying, and what was looked at."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    def add(self, other: Examination) -> None:
        """Take over what `other` has."""
        self.problems += other.problems
        self.notes += other.notes
        self.checked += other.checked


class System(Protocol):
    """A store or service that workloads write to.  Safe to call from many threads."""

    on_shards: ClassVar[bool]
    """Whether it keeps what it is given on the cluster's shards, so that these say how long it was without writes."""

    @classmethod
    def connect(cls, target: Target) -> Self:
        """The system at `target`.  Raises ShardmartError when the target names none."""

    def close(self) -> None:
        """Give back its connections."""

    def version(self) -> str:
        """The version it says it has."""

    def prepare(self, collections: Mapping[str, Any]) -> None:
        """Make what is missing of `collections` (name → how it is laid out, in the system's own terms).

        Raises PrepareError.
        """

    def classify(self, error: Exception) -> tuple[Outcome, str] | None:
        """What an error of an operation says: `failed` only if it certainly had no effect, else `unknown`; in short.

        None when it is no error of the system but a defect of ours.
        """

    def documents(self, run: str, collection: str) -> Iterator[Document]:
        """Everything `run` left in `collection`, as it will stay; the `_id` without the run's part."""

    def examine(self, wait_seconds: float | None) -> Examination:
        """Look at what stands behind the system.

        It may take so long to come to rest; None for as long as it may need after its clients were killed.
        """

    def clean(self, run: str | None) -> dict[str, int]:
        """Delete what `run` (every run when None) left; returns how many documents per collection."""
