"""How long a workload was not answered, from the journals of its clients."""

from __future__ import annotations

import json
import time
from pathlib import Path

from shardmart.chaos.observation.answers import longest_silence, longest_without
from shardmart.ledger.journal import Run, journal_path
from shardmart.platforms.state import State

SECOND = 1_000_000_000


def journals(folder: Path, began: float, *clients: list[tuple[float, str]]) -> str:
    """The journals of clients of a run: when each operation ended, in seconds after the run began, and how."""
    Run("r", ("shop",), "ledger", len(clients), 0, "majority", began, 0).write(folder)
    for number, operations in enumerate(clients):
        lines: list[dict[str, object]] = []
        for n, (at, outcome) in enumerate(operations):
            lines.append({"n": n, "e": "invoke", "t": int((at - 0.1) * SECOND), "f": "look", "v": {}})
            lines.append({"n": n, "e": outcome, "t": int(at * SECOND)})
        journal_path(folder, "shop", number).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def test_silence_ends_with_an_answer_to_any_client(tmp_path: Path) -> None:
    began = time.time() - 1000
    ledger = journals(
        tmp_path / "j",
        began,
        [(10, "ok"), (130, "ok"), (300, "unknown"), (900, "ok")],
        [(90, "ok"), (200, "failed"), (650, "ok")],
    )
    since = began + 100
    # From the answer at 130 s to the one at 650 s; what failed or was never answered is no answer.
    assert longest_silence(State(tmp_path), ledger, "shop", since) == 520


def test_silence_that_goes_on_counts_to_now_and_begins_before_the_fault(tmp_path: Path) -> None:
    began = time.time() - 1000
    ledger = journals(tmp_path / "j", began, [(50, "ok"), (60, "ok")])
    assert longest_silence(State(tmp_path), ledger, "shop", began + 100) >= 940


def test_the_time_without_answers_is_each_client_s_own_and_ends_with_the_experiment(tmp_path: Path) -> None:
    began = 1_700_000_000.0
    journals(tmp_path / "j", began, [(10, "ok"), (100, "ok"), (400, "ok")], [(20, "ok"), (40, "ok"), (130, "ok")])
    assert longest_without(tmp_path / "j", began + 30, began + 150) == 90
    assert longest_without(tmp_path / "none", began, began + 1) is None
