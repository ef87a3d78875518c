"""What the timer of the repair says: each change, and a failure once, however long it lasts."""

from __future__ import annotations

import threading

import pytest

from shardmart.errors import UnreachableError
from shardmart.fragments.configuration import Configuration
from shardmart.fragments.peers import timer

AWAY = "not repaired everywhere: EMEA does not answer"
FAILED = "not repaired: APJ does not answer"


class Rounds:
    """Stops after as many repairs as there are answers."""

    def __init__(self, answers: list[str]) -> None:
        self.answers = answers
        self.stop = threading.Event()

    def once(self, read: object, every_seconds: float) -> str:
        answer = self.answers.pop(0)
        if not self.answers:
            self.stop.set()
        return answer


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["", "", ""], []),
        (["APJ: 2 rows", "", "APJ: 2 rows"], ["APJ: 2 rows", "APJ: 2 rows"]),
        ([AWAY, AWAY, AWAY], [AWAY]),
        ([FAILED, FAILED, AWAY, AWAY], [FAILED, AWAY]),
        ([FAILED, "", FAILED], [FAILED, FAILED]),
    ],
)
def test_a_failure_is_said_once_until_it_is_over(
    answers: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = Rounds(answers)
    monkeypatch.setattr(timer, "_once", rounds.once)
    lines: list[str] = []

    def read() -> Configuration:
        raise UnreachableError("no file")

    timer.run(read, 0.001, rounds.stop, lines.append)
    assert lines == said


@pytest.mark.parametrize(("seconds_ago", "late"), [(0, False), (3 * 60 + 60, False), (3 * 60 + 61, True)])
def test_it_is_late_after_three_intervals_and_a_minute(seconds_ago: float, late: bool) -> None:
    said = timer.late({"timer": {"seconds_ago": seconds_ago, "every_seconds": 60}})
    assert bool(said) == late


def test_a_timer_that_never_was_is_not_late() -> None:
    assert timer.late({}) is None
    assert timer.late({"command": {"seconds_ago": 10**6, "every_seconds": None}}) is None
