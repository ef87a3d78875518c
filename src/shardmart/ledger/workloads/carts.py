"""Carts: lines of carts on a ring are put, put on condition, deleted and read; each line is a register with an end.

What was acknowledged last is there and nothing else: no put is lost, nothing deleted comes back, reads never go back in
time, and one order of a line's operations explains every answer.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from shardmart.ring import ConflictError, Grouped, Version

from ..checks import keyed, linearizability
from ..checks.staging import Staging
from ..journal import Operation
from ..ring import RingSystem
from ..system import Document
from .workload import Checker, Client, Generator, Rotation, Seen, Workload

LINES, USES = 12, 50
LINES_OF_A_CART = 3
PUT, PUT_IF, DELETE, GET, LOOK = "put", "put_if", "delete", "get", "look"
WRITES = frozenset({PUT, PUT_IF, DELETE})


class CartsGenerator(Generator):
    """A third puts, the rest conditional puts over what somebody saw, deletions, reads of a line and of its cart."""

    def __init__(self) -> None:
        self._rotation = Rotation(LINES, USES)
        self._lock = threading.Lock()
        self._seen: dict[int, tuple[Any, Any]] = {}

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """A function with {key}; `put` also with {value}, `put_if` with {value, expected, version} (None: no line)."""
        key, new = self._rotation.pick(dice)
        chance = dice.random()
        if new or chance < 0.3:
            return PUT, {"key": key, "value": token}
        if chance < 0.45:
            with self._lock:
                expected, version = self._seen.get(key, (None, None))
            return PUT_IF, {"key": key, "value": token, "expected": expected, "version": version}
        if chance < 0.6:
            return DELETE, {"key": key}
        return (GET if chance < 0.85 else LOOK), {"key": key}

    def acknowledged(self, function: str, value: Document, result: Any) -> None:
        """Remember what a line was last seen to hold."""
        if function in (GET, LOOK):
            with self._lock:
                self._seen[value["key"]] = result["value"], result["version"]


class CartsClient(Client[RingSystem]):
    """A line is a key of its cart's group that holds the token of the write that made it."""

    def invoke(self, function: str, value: Document, token: int) -> Any:
        """The line's {value, version} for a read, 1 for a write, 0 for a conditional one that found another version."""
        number = value["key"]
        group = self.system.group(self.run, number // LINES_OF_A_CART)
        line = Grouped(group, str(number))
        if function == GET:
            return _shown(self.system.do(lambda ring: ring.get(line)))
        if function == LOOK:
            cart = self.system.do(lambda ring: ring.get_group(group))
            return _shown(next((one for one in cart if one.key == line), None))
        if function == DELETE:
            self.system.do(lambda ring: ring.delete(line))
            return 1
        held = {"op": value["value"]}
        if function == PUT:
            self.system.do(lambda ring: ring.put(line, held))
            return 1
        expected = None if value["version"] is None else Version.parse(value["version"])
        try:
            self.system.do(lambda ring: ring.put(line, held, expect=expected))
        except ConflictError:
            return 0
        return 1


def _shown(found: Any) -> Document:
    return {"value": found and found.value["op"], "version": found and str(found.version)}


class CartsChecker(Checker):
    """The last acknowledged write of each line is there, reads never miss one, some order explains every answer."""

    keeps_histories = True
    kinds = {  # noqa: RUF012 - ClassVar in the base
        "back from the dead": "what an acknowledged deletion had taken away is there again",
        "not linearizable": "no order of the operations explains the answers",
        "undecided": "the history was too entangled to decide within the budget",
    }

    def seen(self, staging: Staging) -> Iterator[Seen]:
        """Stages the lines that are there at the end; a line has no token of its own, `judge` compares it."""
        staging.fill("document", ((int(one["_id"]), json.dumps(one["op"])) for one in self.documents("carts")))
        yield from ()

    def judge(self, staging: Staging) -> str:
        """Check every line's history against its end."""
        lines = puts = deletions = 0
        for key, operations in keyed.histories(staging):
            there = [json.loads(body) for (body,) in staging.ask("SELECT body FROM document WHERE key = ?", key)]
            self._check(key, operations, there[0] if there else None)
            lines += 1
            puts += sum(acknowledged(one) and one.function != DELETE for one in operations)
            deletions += sum(acknowledged(one) and one.function == DELETE for one in operations)
        unknown = "SELECT key FROM document WHERE key NOT IN (SELECT key FROM history)"
        for (key,) in staging.ask(unknown):
            self.found("phantom", f"line {key} is there although no client wrote it")
        return f"{lines:,} lines, {puts:,} acknowledged puts and {deletions:,} deletions in the order of each line"

    def _check(self, key: int, operations: Sequence[Operation], final: int | None) -> None:
        writes = [one for one in operations if one.function in WRITES]
        wrong = self._compare(f"line {key} at the end", writes, final, None)
        for read in operations:
            if read.function not in WRITES and read.outcome == "ok":
                wrong |= self._compare(f"line {key}", writes, read.result["value"], read)
        if not wrong:
            self._order(key, operations, final)

    def _compare(self, where: str, writes: Sequence[Operation], value: int | None, read: Operation | None) -> bool:
        """Whether a value (None: no line) cannot be what a read, or the end, finds; the anomaly is added."""
        before = [one for one in writes if acknowledged(one) and (read is None or (one.end or 0) < read.start)]
        shown = [read.describe()] if read else []
        missed = "stale" if read else "lost"
        if value is None:
            if not before or any(self._may_be_last(one, before) for one in writes if one.function == DELETE):
                return False
            last = max(before, key=lambda one: one.start)
            self.found(missed, f"{where}: acknowledged, and not there", last.describe(), *shown)
            return True
        writer = next((one for one in writes if one.function != DELETE and one.value["value"] == value), None)
        if writer is None or not may_be_there(writer):
            told = [writer.describe()] if writer else []
            self.found("phantom", f"{where}: there although it was refused or never written", *told, *shown)
            return True
        if self._may_be_last(writer, before):
            return False
        last = max(before, key=lambda one: one.start)
        if last.function == DELETE:
            self.found("back from the dead", f"{where}: was deleted", writer.describe(), last.describe(), *shown)
        else:
            self.found(missed, f"{where}: an older value in place of what was acknowledged", last.describe(), *shown)
        return True

    @staticmethod
    def _may_be_last(write: Operation, before: Sequence[Operation]) -> bool:
        """Whether no acknowledged write began after this one had ended; without an answer it may take effect late."""
        if not may_be_there(write):
            return False
        return write.outcome != "ok" or all(later.start <= (write.end or 0) for later in before)

    def _order(self, key: int, operations: Sequence[Operation], final: int | None) -> None:
        pairs = [(one, call) for one in operations if (call := as_call(one)) is not None]
        end = max((one.end or one.start for one in operations), default=0)
        calls = [call for _, call in pairs] + [linearizability.Call("read", end + 1, end + 2, final)]
        result = linearizability.check(calls)
        if result.linearizable:
            return
        shown = tuple(pairs[i][0].describe() for i in (*result.prefix[-4:], *result.stuck[:6]) if i < len(pairs))
        if result.linearizable is None:
            self.found("undecided", f"line {key}: {result.visited:,} configurations tried", *shown)
        else:
            self.found(
                "not linearizable",
                f"line {key}: {len(result.prefix)} of {len(calls)} operations can be ordered, the end included",
                *shown,
            )


def acknowledged(operation: Operation) -> bool:
    """Whether it is a write that was answered with "done"."""
    return operation.function in WRITES and operation.outcome == "ok" and operation.result == 1


def may_be_there(operation: Operation) -> bool:
    """Whether a write may have taken effect: acknowledged, or nobody knows."""
    return acknowledged(operation) or operation.outcome == "unknown"


def as_call(operation: Operation) -> linearizability.Call | None:
    """The call on the register an operation was; None for one that did nothing.

    A refused conditional put says only that the *version* was another, and a put that was sent twice has had two.
    """
    answered = operation.outcome == "ok"
    end = operation.end if answered else None
    if operation.function not in WRITES:
        return linearizability.Call("read", operation.start, end, operation.result["value"]) if answered else None
    if not may_be_there(operation):
        return None
    value = operation.value.get("value")
    if operation.function == PUT_IF:
        return linearizability.Call("cas", operation.start, end, value, operation.value["expected"])
    return linearizability.Call("write", operation.start, end, value)


WORKLOAD = Workload(
    name="carts",
    system=RingSystem,
    collections={"carts": None},
    generator=CartsGenerator,
    client=CartsClient,
    checker=CartsChecker,
    writes=WRITES,
    by_name_only=True,
)
