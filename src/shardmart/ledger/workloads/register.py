"""Register: linearizable reads, writes and compare-and-set on single documents, in short histories."""

from __future__ import annotations

import random
from typing import Any

from .workload import Context, Document, Rotation, Workload

KEYS, USES = 4, 60


class Register(Workload):
    """`write` upserts the operation's token, `cas` replaces one token by another, `read` returns the token or None."""

    name = "register"
    shard_keys = {"registers": {"_id": "hashed"}}  # noqa: RUF012
    effect_functions = frozenset()

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._writes = context.collection("registers")
        self._reads = context.collection("registers", "linearizable")
        self._rotation = Rotation(KEYS, USES)
        self._seen: dict[int, Any] = {}

    def choose(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """Half reads, a third writes, the rest compare-and-set from a value somebody saw."""
        key, new = self._rotation.pick(dice)
        chance = dice.random()
        if new or chance < 0.3:
            return "write", {"key": key, "value": token}
        if chance < 0.5 and (seen := self._seen.get(key)) is not None:
            return "cas", {"key": key, "expected": seen, "value": token}
        return "read", {"key": key}

    def execute(self, function: str, value: Document, token: int) -> Any:
        """Returns the value read ({"value": ...}), 1 for a write, 1 or 0 for a compare-and-set."""
        key = value["key"]
        where = {"_id": self.context.id(key)}
        if function == "read":
            found = self._reads.find_one(where, max_time_ms=self.context.timeout_ms)
            self._seen[key] = found["value"] if found else None
            return {"value": self._seen[key]}
        change = {"$set": {"value": value["value"]}}
        if function == "write":
            self._writes.update_one(where, change, upsert=True)
            self._seen[key] = value["value"]
            return 1
        return self._writes.update_one(where | {"value": value["expected"]}, change).modified_count
