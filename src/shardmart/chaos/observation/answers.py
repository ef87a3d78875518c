"""How long a client of the workload was without an answer, read from the ledger's journals.

For what has no shards, and so no heartbeats of writes: rings, regions, services.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from shardmart.ledger import journal
from shardmart.platforms.state import State


def longest_without(ledger: Path, since: float, until: float) -> float | None:
    """The longest time in seconds between two operations of one client that were acknowledged, any client's.

    Between two moments (wall clock); None when the folder has no journal.  JournalError for a journal that was changed.
    """
    try:
        run = journal.Run.read(ledger)
    except journal.JournalError:  # the workload never began
        return None
    longest = None
    for workload in run.workloads:
        for path in journal.journals(ledger, workload):
            ends = [run.wall(one.end) for one in journal.read(path) if one.outcome == "ok" and one.end is not None]
            longest = max(longest or 0.0, _longest_gap(ends, since, until, [max(since, run.started_wall)]))
    return longest


def longest_silence(state: State, ledger: str, workload: str, since: float) -> float:
    """The longest time in seconds between two answers to a workload that runs, of all its clients, since a moment.

    `ledger` is the folder of its journals, where this is called.  JournalError when there is none.
    """
    del state
    run = journal.Run.read(Path(ledger))
    answers = sorted(
        run.wall(operation.end)
        for operation in journal.read_all(Path(ledger), workload)
        if operation.outcome == "ok" and operation.end is not None
    )
    return round(_longest_gap(answers, since, time.time()), 2)


def _longest_gap(ends: Sequence[float], since: float, until: float, begun: Sequence[float] = ()) -> float:
    """The longest time between two of `ends`, in order, that reaches into the time between two moments; -1: none.

    `begun` stands for the first of them where there is none before.
    """
    before = [end for end in ends if end <= since][-1:] or begun
    points = [*before, *(end for end in ends if since < end <= until), until]
    return max((later - earlier for earlier, later in pairwise(points)), default=-1.0)
