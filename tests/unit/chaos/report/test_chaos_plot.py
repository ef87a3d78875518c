"""Labels of elections in the picture of a run."""

from __future__ import annotations

from itertools import combinations

from shardmart.chaos.report.plot import ELECTION_LABEL_SHARE, ELECTION_LINES, election_labels
from shardmart.chaos.report.timeline import Election, Timeline

DURATION = 1000.0
WIDTH = ELECTION_LABEL_SHARE * DURATION


def labelled(*moments: float) -> list[tuple[float, int]]:
    timeline = Timeline(1, DURATION, elections=[Election(at, "shard1ReplSet", "shard1-2") for at in moments])
    return [(election.at, line) for election, line in election_labels(timeline)]


def test_single_elections_share_the_first_line() -> None:
    assert labelled(100, 300, 500, 660, 950) == [(100, 0), (300, 0), (500, 0), (660, 0), (950, 0)]


def test_burst_takes_the_lines_there_are() -> None:
    moments = [500 + n for n in range(len(ELECTION_LINES) + 2)]
    assert labelled(*moments) == list(zip(moments, range(len(ELECTION_LINES)), strict=False))


def test_labels_that_stand_left_of_their_moment_cover_none() -> None:
    found = labelled(700, 760, 790, 820, 850, 880, 940, 990)
    spans = [(line, at - WIDTH if at > 0.8 * DURATION else at) for at, line in found]
    assert len(found) > len(ELECTION_LINES)
    for (line, start), (other_line, other) in combinations(spans, 2):
        assert line != other_line or abs(start - other) >= WIDTH
