"""Which reconfiguration comes next: never more than one voting change, never a removal nobody allowed."""

from __future__ import annotations

from typing import Any

import pytest

from shardmart.cluster.converge.replica_set import MemberSpec, ReplicaSetSpec, next_step, unhealthy
from shardmart.cluster.description import Election, Member, ReplicaSet, Role
from shardmart.cluster.errors import ClusterError


def spec(*members: MemberSpec, **options: Any) -> ReplicaSetSpec:
    return ReplicaSetSpec("rs", members or tuple(MemberSpec(f"h:{n}") for n in (1, 2, 3)), **options)


def steps(current: dict[str, Any], wanted: ReplicaSetSpec) -> list[tuple[str, dict[str, Any]]]:
    """Every step until the configuration is the wanted one."""
    found = []
    while step := next_step(current, wanted):
        assert step.configuration["version"] == current["version"] + 1
        found.append((step.change, step.configuration))
        current = step.configuration
        assert len(found) < 20, "converging does not end"
    return found


def votes(configuration: dict[str, Any]) -> set[str]:
    return {m["host"] for m in configuration["members"] if m["votes"]}


def test_declared_configuration_needs_no_step() -> None:
    assert next_step(spec().first_configuration(), spec()) is None


def test_server_settings_that_are_not_declared_are_left_alone() -> None:
    current = spec().first_configuration()
    current["settings"] |= {"chainingAllowed": False, "replicaSetId": "x"}
    current["term"] = 4
    (_, after), *_ = steps(current, spec(election_timeout_ms=5000))
    assert after["settings"]["chainingAllowed"] is False
    assert after["settings"]["replicaSetId"] == "x"
    assert "term" not in after, "an old term is refused after an election"


def test_everything_harmless_goes_in_one_step() -> None:
    wanted = spec(
        MemberSpec("h:1", priority=2), MemberSpec("h:2", tags={"dc": "a"}), MemberSpec("h:3"), heartbeat_ms=100
    )
    (change, _), *rest = steps(spec().first_configuration(), wanted)
    assert rest == []
    assert change == (
        "h:1: priority 1.0 -> 2.0, h:2: tags {} -> {'dc': 'a'}, settings.heartbeatIntervalMillis 2000 -> 100"
    )


def test_no_step_changes_more_than_one_vote() -> None:
    wanted = spec(*(MemberSpec(f"h:{n}") for n in (3, 4, 5, 6, 7)), allow_removal=True)
    current = spec().first_configuration()
    before = votes(current)
    for _, configuration in steps(current, wanted):
        assert len(before ^ votes(configuration)) <= 1
        before = votes(configuration)
    assert before == {f"h:{n}" for n in (3, 4, 5, 6, 7)}


def test_vote_taken_away_goes_with_the_priority() -> None:
    wanted = spec(MemberSpec("h:1"), MemberSpec("h:2"), MemberSpec("h:3", priority=0, votes=0))
    (change, after), *rest = steps(spec().first_configuration(), wanted)
    assert change == "h:3: votes 1 -> 0"
    assert after["members"][2]["priority"] == 0
    assert rest == []


def test_new_member_gets_an_id_nobody_had() -> None:
    current = spec().first_configuration()
    current["members"] = [m for m in current["members"] if m["host"] != "h:2"]
    (_, after), *_ = steps(current, spec())
    assert sorted(m["_id"] for m in after["members"]) == [0, 2, 3]


def test_removal_nobody_allowed_names_the_members() -> None:
    with pytest.raises(ClusterError, match="rs has members that the topology does not: h:2, h:3"):
        next_step(spec().first_configuration(), spec(MemberSpec("h:1")))


def test_unhealthy_names_states_and_strangers() -> None:
    status = {
        "members": [
            {"name": "h:1", "stateStr": "PRIMARY", "health": 1.0},
            {"name": "h:2", "stateStr": "RECOVERING", "health": 1.0},
            {"name": "h:3", "stateStr": "(not reachable/healthy)", "health": 0.0},
        ]
    }
    assert unhealthy(status, ["h:1", "h:2", "h:3", "h:4"]) == {
        "h:2": "RECOVERING",
        "h:3": "unreachable ((not reachable/healthy))",
        "h:4": "not a member",
    }


@pytest.mark.parametrize(("role", "config_server"), [(Role.CONFIG, True), (Role.SHARD, False)])
def test_replica_set_is_made_as_its_description_has_it(role: Role, config_server: bool) -> None:
    members = (
        Member("a1", role, "rs", "h", 1),
        Member("a2", role, "rs", "h", 2, priority=0, votes=0, hidden=True, tags={"dc": "b"}),
    )
    wanted = (MemberSpec("h:1"), MemberSpec("h:2", priority=0, votes=0, hidden=True, tags={"dc": "b"}))
    declared, election = ReplicaSet("rs", role, members), Election(timeout_ms=7, heartbeat_ms=8)
    expected = ReplicaSetSpec("rs", wanted, config_server, election_timeout_ms=7, heartbeat_ms=8)
    assert ReplicaSetSpec.of(declared, election) == expected
    assert expected.allow_removal is False, "nobody is removed whom nobody allowed to be"
    assert ReplicaSetSpec.of(declared, election, allow_removal=True).allow_removal is True
