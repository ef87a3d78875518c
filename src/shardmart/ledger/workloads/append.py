"""Append: clients push tokens to lists and read them back; lists only grow, in one order all reads agree on."""

from __future__ import annotations

import random
from typing import Any

from .workload import Context, Document, Rotation, Workload

KEYS, USES = 8, 100


class Append(Workload):
    """`append` pushes the operation's token to a key's list (upsert), `read` returns the whole list, linearizably."""

    name = "append"
    shard_keys = {"lists": {"_id": "hashed"}}  # noqa: RUF012
    effect_functions = frozenset({"append"})

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._writes = context.collection("lists")
        self._reads = context.collection("lists", "linearizable")
        self._rotation = Rotation(KEYS, USES)

    def choose(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """Two appends for each read."""
        key, new = self._rotation.pick(dice)
        return ("append" if new or dice.random() < 0.67 else "read"), {"key": key}

    def execute(self, function: str, value: Document, token: int) -> Any:
        """Returns 1 for an append, the list for a read."""
        where = {"_id": self.context.id(value["key"])}
        if function == "append":
            self._writes.update_one(where, {"$push": {"items": token}}, upsert=True)
            return 1
        found = self._reads.find_one(where, max_time_ms=self.context.timeout_ms)
        return found["items"] if found else []
