"""The copies on the nodes of a ring, read from each node and compared: as many as there have to be, all equal.

It knows the envelope of a record (`n`, `w` version; `h` place; `t` tombstone) and nothing of placement or of the ring's
library, so a mistake of those shows here.  It reads only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from bson import encode
from pymongo import MongoClient

SHOWN = 5
Copies = dict[bytes, tuple[int, str, bool]]
"""Key (as BSON) → number and name of the version, whether it is a tombstone."""


def read(uri: str, database: str, seconds: float) -> tuple[Copies, int]:
    """Every copy that a node holds, tombstones included, and how many hints it keeps for others.  PyMongoError."""
    with MongoClient[dict[str, Any]](
        uri, directConnection=True, serverSelectionTimeoutMS=int(seconds * 1000), appname="shardmart-ledger"
    ) as client:
        records = client[database]["records"]
        found = records.find({"h": {"$exists": True}}, {"n": 1, "w": 1, "t": 1})
        copies = {encode({"": one["_id"]}): (int(one["n"]), one["w"], "t" in one) for one in found}
        return copies, client[database]["hints"].count_documents({})


def problems(nodes: Mapping[str, Copies], copies: int) -> list[str]:
    """What is wrong with the copies of all nodes, when each key has to have so many; a line for each pair of nodes."""
    holders: dict[bytes, list[str]] = {}
    for name, held in nodes.items():
        for key in held:
            holders.setdefault(key, []).append(name)
    different: Counter[str] = Counter()
    wrong: Counter[int] = Counter()
    for key, names in holders.items():
        if len(names) != copies:
            wrong[len(names)] += 1
        if len({nodes[name][key] for name in names}) > 1:
            different[" and ".join(names)] += 1
    told = [f"{pair} differ in {count:,} records" for pair, count in different.most_common(SHOWN)]
    return told + [f"{count:,} records have {found} copies, not {copies}" for found, count in wrong.most_common(SHOWN)]
