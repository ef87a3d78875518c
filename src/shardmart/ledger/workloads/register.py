"""Register: linearizable reads, writes and compare-and-set on single documents, in short histories."""

from __future__ import annotations

import random
from typing import Any

from ..checks import keyed, linearizability
from ..checks.staging import Staging
from ..journal import Operation
from ..mongodb import MongoSystem
from ..system import Document
from .workload import Checker, Client, Generator, Rotation, Workload

KEYS, USES = 4, 60


class RegisterGenerator(Generator):
    """Half reads, a third writes, the rest compare-and-set from a value somebody saw."""

    def __init__(self) -> None:
        self._rotation = Rotation(KEYS, USES)
        self._seen: dict[int, Any] = {}

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """`write` with {key, value}, `cas` with {key, expected, value}, `read` with {key}."""
        key, new = self._rotation.pick(dice)
        chance = dice.random()
        if new or chance < 0.3:
            return "write", {"key": key, "value": token}
        if chance < 0.5 and (seen := self._seen.get(key)) is not None:
            return "cas", {"key": key, "expected": seen, "value": token}
        return "read", {"key": key}

    def acknowledged(self, function: str, value: Document, result: Any) -> None:
        """Remember the value a register was last seen to have."""
        if function == "read":
            self._seen[value["key"]] = result["value"]
        elif function == "write":
            self._seen[value["key"]] = value["value"]


class RegisterClient(Client[MongoSystem]):
    """`write` upserts the operation's token, `cas` replaces one token by another, `read` returns the token or None."""

    def __init__(self, system: MongoSystem, run: str) -> None:
        super().__init__(system, run)
        self._writes = system.collection("registers")
        self._reads = system.collection("registers", "linearizable")

    def invoke(self, function: str, value: Document, token: int) -> Any:
        """Returns the value read ({"value": ...}), 1 for a write, 1 or 0 for a compare-and-set."""
        where = {"_id": self.id(value["key"])}
        if function == "read":
            found = self._reads.find_one(where, max_time_ms=self.system.timeout_ms)
            return {"value": found["value"] if found else None}
        change = {"$set": {"value": value["value"]}}
        if function == "write":
            self._writes.update_one(where, change, upsert=True)
            return 1
        return self._writes.update_one(where | {"value": value["expected"]}, change).modified_count


class RegisterChecker(Checker):
    """There is an order of each register's operations that explains every answer."""

    keeps_histories = True
    kinds = {  # noqa: RUF012 - ClassVar in the base
        "not linearizable": "no order of the operations explains the answers",
        "undecided": "the history was too entangled to decide within the budget",
    }

    def judge(self, staging: Staging) -> str:
        """Check every register's history."""
        checked = 0
        for key, operations in keyed.histories(staging):
            self._check(key, operations)
            checked += 1
        return f"{checked:,} registers linearizable or reported"

    def _check(self, key: int, operations: list[Operation]) -> None:
        pairs = [(operation, call) for operation in operations if (call := as_call(operation)) is not None]
        result = linearizability.check([call for _, call in pairs])
        if result.linearizable:
            return
        stuck = tuple(pairs[i][0].describe() for i in result.stuck[:6])
        before = tuple(pairs[i][0].describe() for i in result.prefix[-3:])
        if result.linearizable is None:
            self.found("undecided", f"register {key}: {result.visited:,} configurations tried", *stuck)
        else:
            self.found(
                "not linearizable",
                f"register {key}: {len(result.prefix)} of {len(pairs)} operations can be ordered, leaving the value"
                f" {result.state}; none of the next {len(result.stuck)} can follow",
                *(*before, "— and then none of —", *stuck),
            )


def as_call(operation: Operation) -> linearizability.Call | None:
    """The call on the register an operation was; None if it certainly did nothing."""
    if operation.outcome == "failed":
        return None
    answered = operation.outcome == "ok"
    end = operation.end if answered else None
    value, result = operation.value, operation.result
    if operation.function == "read":
        return linearizability.Call("read", operation.start, end, result["value"] if answered else None)
    if operation.function == "write":
        return linearizability.Call("write", operation.start, end, value["value"])
    return linearizability.Call(
        "cas", operation.start, end, value["value"], value["expected"], done=bool(result) if answered else True
    )


WORKLOAD = Workload(
    name="register",
    system=MongoSystem,
    collections={"registers": {"_id": "hashed"}},
    generator=RegisterGenerator,
    client=RegisterClient,
    checker=RegisterChecker,
    writes=frozenset({"write", "cas"}),
)
