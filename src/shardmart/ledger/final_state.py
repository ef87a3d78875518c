"""The documents of a run as its systems hold them at the end, kept beside the journal.

A check with `--offline` reads the same files again, so a verdict can be repeated from an artefact without the system.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .journal import JournalError
from .system import System
from .workloads import Workload

Document = dict[str, Any]


def path(folder: Path, collection: str) -> Path:
    """Where the final documents of `collection` are kept."""
    return folder / f"final-{collection}.jsonl"


def save(workloads: Iterable[Workload], systems: Mapping[type[System], System], run: str, folder: Path) -> None:
    """Write every document that `run` left to `folder`, one JSON line each."""
    for workload in workloads:
        for name in workload.collections:
            unfinished = path(folder, name).with_suffix(".part")
            with unfinished.open("w") as file:
                for document in systems[workload.system].documents(run, name):
                    file.write(json.dumps(document, separators=(",", ":")) + "\n")
            unfinished.replace(path(folder, name))


def read(folder: Path, collection: str) -> Iterator[Document]:
    """The saved documents of `collection`; JournalError when they were never saved."""
    file_path = path(folder, collection)
    if not file_path.exists():
        raise JournalError(f"{file_path} is missing: check once without --offline, with the cluster up")
    with file_path.open() as file:
        for line in file:
            yield json.loads(line)
