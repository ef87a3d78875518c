"""Append: clients push tokens to lists and read them back; lists only grow, in one order all reads agree on."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from ..checks import keyed
from ..checks.staging import Row, Staging
from ..journal import Operation
from ..mongodb import MongoSystem
from ..system import Document
from .workload import Checker, Client, Effect, Generator, Rotation, Seen, Workload, demand

KEYS, USES = 8, 100


class AppendGenerator(Generator):
    """Two appends for each read."""

    def __init__(self) -> None:
        self._rotation = Rotation(KEYS, USES)

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """`append` or `read`, with {key}."""
        key, new = self._rotation.pick(dice)
        return ("append" if new or dice.random() < 0.67 else "read"), {"key": key}


class AppendClient(Client[MongoSystem]):
    """`append` pushes the operation's token to a key's list (upsert), `read` returns the whole list, linearizably."""

    def __init__(self, system: MongoSystem, run: str) -> None:
        super().__init__(system, run)
        self._writes = system.collection("lists")
        self._reads = system.collection("lists", "linearizable")

    def invoke(self, function: str, value: Document, token: int) -> Any:
        """Returns 1 for an append, the list for a read."""
        where = {"_id": self.id(value["key"])}
        if function == "append":
            self._writes.update_one(where, {"$push": {"items": token}}, upsert=True)
            return 1
        found = self._reads.find_one(where, max_time_ms=self.system.timeout_ms)
        return found["items"] if found else []


class AppendChecker(Checker):
    """Every append once, and every read a beginning of the final list that misses nothing acknowledged before it."""

    keeps_histories = True
    kinds = {"reordered": "two reads disagree about the order of a list"}  # noqa: RUF012 - ClassVar in the base

    def expect(self, operation: Operation) -> Effect | None:
        """The token in its key's list."""
        if operation.function != "append":
            return None
        return Effect(demand(operation), f"list {operation.value['key']}")

    def seen(self, staging: Staging) -> Iterator[Seen]:
        """The items of every list; the lists as a whole are staged for `judge`."""
        lists: list[Row] = []
        for document in self.documents("lists"):
            lists.append((int(document["_id"]), json.dumps(document["items"])))
            for item in document["items"]:
                yield item, f"list {document['_id']}", None
            if len(lists) >= 1000:
                staging.fill("document", lists)
                lists.clear()
        staging.fill("document", lists)

    def judge(self, staging: Staging) -> str:
        """Check every list's reads against its final content."""
        reads = 0
        for key, operations in keyed.histories(staging):
            final: list[int] = []
            for (body,) in staging.ask("SELECT body FROM document WHERE key = ?", key):
                final = json.loads(body)
            reads += self._check(key, operations, final)
        return f"{reads:,} reads against the order of the final lists"

    def _check(self, key: int, operations: list[Operation], final: list[int]) -> int:
        appends = [o for o in operations if o.function == "append" and o.outcome == "ok"]
        reads = [o for o in operations if o.function == "read" and o.outcome == "ok"]
        positions = {token: position for position, token in enumerate(final)}
        for read in reads:
            items: list[int] = read.result or []
            if items != final[: len(items)]:
                missing = [token for token in items if token not in positions]
                if missing:
                    self.found("lost", f"list {key}: {missing[0]} was read, and is gone at the end", read.describe())
                else:
                    self.found("reordered", f"list {key}: a read is no beginning of the final list", read.describe())
            held = set(items)
            for append in appends:
                if append.end is not None and append.end < read.start and append.token not in held:
                    self.found(
                        "stale",
                        f"list {key}: a read does not hold an append acknowledged"
                        f" {(read.start - append.end) / 1e6:.1f} ms before it began",
                        append.describe(),
                        read.describe(),
                    )
                    break
        for earlier, later in stale_reads(reads):
            self.found("stale", f"list {key}: a later read saw less", earlier.describe(), later.describe())
        return len(reads)


def stale_reads(reads: Sequence[Operation]) -> Iterator[tuple[Operation, Operation]]:
    """Each read that saw less than one that had ended before it began, after the longest of those."""
    ended = deque(sorted((read for read in reads if read.end is not None), key=lambda read: read.end or 0))
    longest: Operation | None = None
    for read in sorted(reads, key=lambda read: read.start):
        while ended and (ended[0].end or 0) < read.start:
            before = ended.popleft()
            if longest is None or len(before.result or []) > len(longest.result or []):
                longest = before
        if longest and len(read.result or []) < len(longest.result or []):
            yield longest, read


WORKLOAD = Workload(
    name="append",
    system=MongoSystem,
    collections={"lists": {"_id": "hashed"}},
    generator=AppendGenerator,
    client=AppendClient,
    checker=AppendChecker,
    writes=frozenset({"append"}),
    resubmittable=frozenset({"append"}),
)
