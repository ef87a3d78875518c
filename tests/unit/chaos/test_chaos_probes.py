"""What a probe makes of what it measured."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from shardmart.chaos.toolkit import probes

BUSY = [170.0, 100.4, 113.85, None, 131.2]  # one constant delay of 100 ms, seen from a machine that is busy with others


@pytest.fixture
def handshakes(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """What the next handshakes take, milliseconds; None is one that failed."""
    waiting: list[float | None] = []

    def found() -> SimpleNamespace:
        answers: Iterator[float | None] = iter(waiting)
        return SimpleNamespace(resolve=lambda name: [name], connect_ms=lambda server, timeout_s: next(answers))

    monkeypatch.setattr(probes, "_targets", found)
    return waiting


def test_round_trip_is_the_delay_and_not_what_a_busy_machine_adds(handshakes: list[float | None]) -> None:
    handshakes.extend(BUSY)
    assert probes.round_trip_ms("mongos1", samples=5) == 100.4


def test_round_trip_at_a_percentile(handshakes: list[float | None]) -> None:
    handshakes.extend(BUSY)
    assert probes.round_trip_ms("mongos1", samples=5, percentile=50) == 113.85


def test_round_trip_says_that_nobody_answers(handshakes: list[float | None]) -> None:
    handshakes.extend([None, None])
    assert probes.round_trip_ms("mongos1", samples=2) == -1
