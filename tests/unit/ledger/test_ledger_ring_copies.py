"""Copies on the nodes of a ring, compared without the ring's library."""

from __future__ import annotations

from shardmart.ledger.ring.copies import Copies, problems

A: Copies = {b"1": (5, "u1", False), b"2": (6, "u2", True)}


def test_equal_copies_on_as_many_nodes_as_they_have_to_be_are_no_problem() -> None:
    assert problems({"n1": A, "n2": A, "n3": {}}, 2) == []


def test_nodes_that_hold_other_versions_are_named() -> None:
    other: Copies = A | {b"2": (6, "u2", False)}
    assert problems({"n1": A, "n2": other}, 2) == ["n1 and n2 differ in 1 records"]


def test_too_few_and_too_many_copies_are_counted() -> None:
    one_more: Copies = {b"2": (6, "u2", True)}
    assert problems({"n1": A, "n2": one_more}, 2) == ["1 records have 1 copies, not 2"]
    assert problems({"n1": A, "n2": A, "n3": one_more}, 2) == ["1 records have 3 copies, not 2"]
