"""The documents of a run as the cluster holds them at the end, kept beside the journal.

Called by `ledger.cli` before a check; `--offline` checks read the same files again, so a verdict can be repeated
from an artefact without the cluster.  It reads with read concern majority from primaries and changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo import MongoClient, ReadPreference
from pymongo.read_concern import ReadConcern

from .collections import run_range
from .journal import JournalError, Run
from .workloads import WORKLOADS

Document = dict[str, Any]


def path(folder: Path, collection: str) -> Path:
    """Where the final documents of `collection` are kept."""
    return folder / f"final-{collection}.jsonl"


def save(client: MongoClient[Document], run: Run, folder: Path) -> dict[str, int]:
    """Write every document of `run` to `folder`, one JSON line each; returns the number per collection."""
    counts = {}
    for workload in run.workloads:
        for name in WORKLOADS[workload].shard_keys:
            collection = client[run.database].get_collection(
                name, read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY
            )
            counts[name] = 0
            unfinished = path(folder, name).with_suffix(".part")
            with unfinished.open("w") as file:
                for document in collection.find(run_range(run.id)):
                    document["_id"] = document["_id"].split(":", 1)[1]
                    file.write(json.dumps(document, separators=(",", ":")) + "\n")
                    counts[name] += 1
            unfinished.replace(path(folder, name))
    return counts


def read(folder: Path, collection: str) -> Iterator[Document]:
    """The saved documents of `collection`; JournalError when they were never saved."""
    file_path = path(folder, collection)
    if not file_path.exists():
        raise JournalError(f"{file_path} is missing: check once without --offline, with the cluster up")
    with file_path.open() as file:
        for line in file:
            yield json.loads(line)
