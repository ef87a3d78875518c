"""What is right and wrong behind the router, decided from what members said."""

from __future__ import annotations

from typing import Any

import pytest

from shardmart.cluster.protocol.connection import Deadline
from shardmart.ledger.mongodb import members
from shardmart.ledger.system import Examination


@pytest.mark.parametrize("states", [["primary", "secondary", "secondary"], ["primary"]])
def test_one_primary_and_secondaries_are_no_problem(states: list[str]) -> None:
    assert members.role_problems("set", dict(zip("abc", states, strict=False))) == []


@pytest.mark.parametrize(
    ("states", "primaries"),
    [
        (["secondary", "secondary", "secondary"], 0),
        (["primary", "primary", "secondary"], 2),
        (["primary", "secondary", "neither"], 1),
        (["primary", "secondary", "connection refused"], 1),
    ],
)
def test_every_other_set_is_named_with_what_its_members_said(states: list[str], primaries: int) -> None:
    (problem,) = members.role_problems("set", dict(zip("abc", states, strict=True)))
    assert problem == f"set has {primaries} primaries (a {states[0]}, b {states[1]}, c {states[2]})"


def test_equal_members_hold_equal_data() -> None:
    same = {"shop": {"orders": "x", "users": "y"}}
    assert members.hash_problems({"a": same, "b": dict(same), "c": dict(same)}) == []


def test_members_that_differ_are_named_with_the_collections() -> None:
    hashes = {
        "a": {"shop": {"orders": "x", "users": "y"}},
        "b": {"shop": {"orders": "x", "users": "z"}},
        "c": {"shop": {"orders": "x", "users": "y"}, "more": {"things": "t"}},
        "d": {"shop": {"orders": "x"}},
        "e": {"shop": {"orders": "x", "users": "y"}, "empty": {}},
    }
    assert members.hash_problems(hashes) == [
        "b and a differ in shop.users",
        "c and a differ in more.things",
        "d and a differ in shop.users",
        "e and a differ in their databases",
    ]


def test_what_the_router_counts_too_is_no_orphan() -> None:
    report = Examination()
    members.judge_orphans({"shop.a": 3, "shop.b": 0}, {"shop.a": 3, "shop.b": 0}, 5, report)
    assert report == Examination(checked=["members: no orphaned documents in 2 collections"])


def test_orphans_of_moved_ranges_are_a_note_and_others_a_problem() -> None:
    direct, owned = {"shop.a": 7, "shop.b": 1}, {"shop.a": 3, "shop.b": 1}
    waiting, forgotten = Examination(), Examination()
    members.judge_orphans(direct, owned, 1, waiting)
    members.judge_orphans(direct, owned, 0, forgotten)
    assert waiting == Examination(notes=["documents of 1 moved ranges await their deletion: {'shop.a': 4}"])
    assert forgotten == Examination(problems=["orphaned documents that nothing is going to delete: {'shop.a': 4}"])


def test_a_problem_that_passes_in_time_is_none() -> None:
    answers = iter([["not yet"], []])
    report = Examination()
    members._until_quiet(lambda: next(answers), Deadline(30), report)
    assert report.problems == []


def test_a_problem_that_stays_is_told_once_the_time_is_up() -> None:
    report = Examination()
    members._until_quiet(lambda: ["a is down", "b is down"], Deadline(0), report)
    assert report.problems == ["still so after 0 s for a is down; b is down"]


def nobody(*_: object) -> list[str]:
    return []


def test_a_set_without_a_primary_is_a_problem_and_the_rest_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"c:1": "primary", "s:1": "secondary", "s:2": "secondary"}
    report = examined(monkeypatch, said)
    assert report.problems == ["still so after 0 s for s has 0 primaries (s:1 secondary, s:2 secondary)"]
    assert report.checked == []


SAME = "members: one primary in each of 2 sets, 3 members hold the same as the others of their set"


def test_a_healthy_cluster_is_said_to_have_been_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    report = examined(monkeypatch, {"c:1": "primary", "s:1": "secondary", "s:2": "primary"})
    assert report == Examination(checked=[SAME])


def test_draining_is_asked_of_the_primary_of_the_config_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def draining(address: str, _: object) -> list[str]:
        asked.append(address)
        return ["shard s is draining"]

    report = examined(monkeypatch, {"c:1": "primary", "s:1": "secondary", "s:2": "primary"}, draining)
    assert asked == ["c:1"]
    assert report.problems == ["still so after 0 s for shard s is draining"]


def test_every_set_is_compared_the_config_servers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def hashes(replica_set: Any, _: object) -> list[str]:
        compared.append(replica_set.name)
        return [f"{replica_set.name} differs"] if replica_set.name == "c" else []

    report = examined(monkeypatch, {"c:1": "primary", "s:1": "secondary", "s:2": "primary"}, hashes=hashes)
    assert set(compared) == {"c", "s"}
    assert report.problems == ["still so after 0 s for c differs"]
    assert report.checked == []


def examined(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], draining: object = nobody, hashes: object = nobody
) -> Examination:
    """A look at a config server c and a shard s whose members say so of themselves, without a second try."""
    from shardmart.cluster.description import Cluster, Member, ReplicaSet, Role
    from shardmart.cluster.protocol.connection import Credentials

    def replica_set(name: str, role: Role, size: int) -> ReplicaSet:
        found = tuple(Member(f"{name}{n}", role, name, name, n) for n in range(1, size + 1))
        return ReplicaSet(name, role, found)

    cluster = Cluster("x", "embedded", replica_set("c", Role.CONFIG, 1), (replica_set("s", Role.SHARD, 2),), ())
    monkeypatch.setattr(members, "_state", lambda address, _: said[address])
    monkeypatch.setattr(members, "_hash_problems", hashes)
    monkeypatch.setattr(members, "_draining", draining)
    return members.check(cluster, Credentials(), None, [], 0)
