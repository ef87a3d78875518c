"""Placement: pure, minimal in what a change moves, even, and right at its edges."""

from __future__ import annotations

from itertools import pairwise, permutations

import pytest

from shardmart.ring.errors import SettingsError
from shardmart.ring.placement import ring as placement
from shardmart.ring.placement.ring import HIGHEST, LOWEST, Ring, changes, joined, shared

KEYS = [f"key-{n}" for n in range(20_000)]


def three(**more: int) -> Ring:
    return Ring({"n1": 1, "n2": 1, "n3": 1} | more)


def test_a_joining_node_takes_copies_and_no_other_node_gets_one() -> None:
    before, after = three(), three(n4=1)
    for key in KEYS:
        assert set(after.holders(key)) - set(before.holders(key)) <= {"n4"}


def test_a_leaving_node_gives_its_copies_and_every_other_copy_stays() -> None:
    before, after = three(n4=1), three()
    for key in KEYS:
        assert set(before.holders(key)) - set(after.holders(key)) <= {"n4"}


def test_the_changes_are_exactly_the_keys_whose_holders_differ() -> None:
    before, after = three(), three(n4=1)
    arcs = list(changes(before, after))
    for key in KEYS[:2000]:
        place = placement.hash_of(key)
        inside = [(old, new) for arc, old, new in arcs if arc.first <= place <= arc.last]
        differ = set(before.holders(key)) != set(after.holders(key))
        assert inside == ([(before.holders(key), after.holders(key))] if differ else [])


def test_the_arcs_cover_the_circle_once() -> None:
    arcs = [arc for arc, _ in three().arcs()]
    assert arcs[0].first == LOWEST
    assert arcs[-1].last == HIGHEST
    assert all(one.last + 1 == other.first for one, other in pairwise(arcs))


def test_holders_are_distinct_and_as_many_as_copies() -> None:
    ring = Ring({"a": 1, "b": 1, "c": 1, "d": 1}, copies=3)
    assert all(len(set(ring.holders(key))) == 3 for key in KEYS[:1000])


def test_the_standard_deviation_of_keys_is_at_most_5_percent_with_the_default() -> None:
    counts = dict.fromkeys(["n1", "n2", "n3"], 0)
    ring = three()
    for n in range(100_000):
        counts[ring.holders(f"cart-{n}")[0]] += 1
    mean = sum(counts.values()) / 3
    deviation = (sum((count - mean) ** 2 for count in counts.values()) / 3) ** 0.5
    assert deviation / mean <= 0.05, counts


def test_a_node_of_weight_2_owns_about_twice_as_much() -> None:
    shares = Ring({"a": 1, "b": 1, "big": 2}).shares()
    assert shares["big"] == pytest.approx(0.5, abs=0.05)
    assert sum(shares.values()) == pytest.approx(1)


def test_points_that_collide_are_taken_by_name_in_any_order_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "hash_bytes", lambda text: len(text.split(b"#")[1]))  # every point is one of a few
    rings = [Ring(dict.fromkeys(order, 1), virtual_nodes=20) for order in permutations(["a", "b", "c"])]
    for place in (LOWEST, 0, 1, 2, HIGHEST):
        assert {ring.holders_at(place) for ring in rings} == {("a", "b")}


def test_two_nodes_share_what_both_hold() -> None:
    ring = three()
    arcs = shared(ring, "n1", "n2")
    for key in KEYS[:2000]:
        place = placement.hash_of(key)
        inside = any(arc.first <= place <= arc.last for arc in arcs)
        assert inside == ({"n1", "n2"} <= set(ring.holders(key)))
    assert joined(arcs) == arcs


@pytest.mark.parametrize(("weights", "copies"), [({}, 1), ({"a": 1}, 2), ({"a": 0}, 1), ({"a": 1}, 0)])
def test_a_ring_that_cannot_be_is_refused(weights: dict[str, int], copies: int) -> None:
    with pytest.raises(SettingsError):
        Ring(weights, copies)


def test_the_holders_are_those_written_down_in_docs_ring() -> None:
    assert [three().holders(f"cart-{n}") for n in (1, 2, 3)] == [("n3", "n1"), ("n3", "n1"), ("n1", "n2")]
