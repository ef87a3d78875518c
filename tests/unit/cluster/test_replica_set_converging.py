"""What converging a replica set does with members that are new, formed, foreign, silent or busy with an election."""

from __future__ import annotations

from typing import Any

import pytest
from fake_members import FakeMembers
from pymongo.errors import AutoReconnect, OperationFailure

from shardmart.cluster.converge import replica_set
from shardmart.cluster.converge.replica_set import (
    ELECTION_NOT_YET,
    PASSING_ERRORS,
    MemberSpec,
    ReplicaSetSpec,
    converge,
    primary_of,
)
from shardmart.cluster.errors import ClusterError, DeadlineError, SecretMissingError
from shardmart.cluster.protocol import codes
from shardmart.cluster.protocol.connection import Credentials

HOSTS = ("h:1", "h:2", "h:3")
SPEC = ReplicaSetSpec("rs", tuple(MemberSpec(host) for host in HOSTS))
CONFIGURATION = SPEC.first_configuration()
NOBODY = Credentials()
INITIATED = "initiate rs with 3 members"


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> FakeMembers:
    """Three members that know nothing of each other."""
    made = FakeMembers(*HOSTS)
    monkeypatch.setattr(replica_set, "connect", made.connect)
    monkeypatch.setattr(replica_set, "hello", made.hello)
    return made


@pytest.fixture
def formed(members: FakeMembers) -> FakeMembers:
    """The three members as a set, h:2 its primary."""
    members.spread(CONFIGURATION)
    members.primary = "h:2"
    return members


def commands(members: FakeMembers, *of: str) -> list[tuple[str, str]]:
    return [entry for entry in members.commands if entry[1] in of]


def test_new_set_is_initiated_by_its_first_member_which_is_elected_at_once(members: FakeMembers) -> None:
    outcome = converge(SPEC, NOBODY)
    assert outcome.changes == [INITIATED]
    assert commands(members, "replSetInitiate", "replSetStepUp") == [
        ("h:1", "replSetInitiate"),
        ("h:1", "replSetStepUp"),
    ]
    assert outcome.facts["primary"] == "h:1"
    assert outcome.after == replica_set.summary(CONFIGURATION)


def test_set_as_declared_is_left_alone(formed: FakeMembers) -> None:
    outcome = converge(SPEC, NOBODY)
    assert outcome.changes == []
    assert commands(formed, "replSetInitiate", "replSetStepUp", "replSetReconfig") == []
    assert outcome.before == outcome.after == replica_set.summary(CONFIGURATION)
    assert outcome.facts["primary"] == "h:2"


def test_drifted_member_is_repaired_through_the_primary(formed: FakeMembers) -> None:
    wanted = ReplicaSetSpec("rs", (MemberSpec("h:1", priority=3), *SPEC.members[1:]))
    outcome = converge(wanted, NOBODY)
    assert outcome.changes == ["h:1: priority 1.0 -> 3.0"]
    assert commands(formed, "replSetReconfig") == [("h:2", "replSetReconfig")]
    assert outcome.before["members"][0]["priority"] == 1.0
    assert outcome.after["members"][0]["priority"] == 3.0


def test_set_of_which_one_member_has_a_configuration_is_never_initiated(members: FakeMembers) -> None:
    members.configurations["h:3"] = CONFIGURATION
    members.primary = "h:3"
    members.states = dict.fromkeys(HOSTS, ("SECONDARY", 1.0))
    assert converge(SPEC, NOBODY).changes == []
    assert commands(members, "replSetInitiate") == []


@pytest.mark.parametrize(("host", "foreign"), [("h:1", {"_id": "other"}), ("h:3", {"_id": "other"})])
def test_member_of_another_set_is_refused(formed: FakeMembers, host: str, foreign: dict[str, Any]) -> None:
    formed.configurations[host] = CONFIGURATION | foreign
    with pytest.raises(ClusterError, match=f"{host} belongs to replica set other, not to rs"):
        converge(SPEC, NOBODY)


def test_members_that_were_initiated_apart_are_refused(formed: FakeMembers) -> None:
    for host, identity in zip(HOSTS, ("a", "a", "b"), strict=True):
        formed.configurations[host] = CONFIGURATION | {
            "settings": CONFIGURATION["settings"] | {"replicaSetId": identity}
        }
    with pytest.raises(ClusterError, match=r"initiated apart \(replicaSetId a, b\)"):
        converge(SPEC, NOBODY)


def test_newest_configuration_is_the_one_of_the_latest_term_then_version(formed: FakeMembers) -> None:
    def tagged(term: int, version: int, tag: str) -> dict[str, Any]:
        first = CONFIGURATION["members"][0] | {"tags": {"of": tag}}
        return CONFIGURATION | {"term": term, "version": version, "members": [first, *CONFIGURATION["members"][1:]]}

    formed.configurations = {"h:1": tagged(1, 9, "old"), "h:2": tagged(2, 3, "new"), "h:3": tagged(2, 2, "older")}
    planned = converge(SPEC, NOBODY, check_mode=True)
    assert planned.before["members"][0]["tags"] == {"of": "new"}


def test_configuration_without_a_term_is_older_than_any_with_one(formed: FakeMembers) -> None:
    """It is of before a first election, or of a server that knew no terms."""
    old, new = CONFIGURATION | {"version": 9}, CONFIGURATION | {"version": 3, "term": 1}
    first = new["members"][0] | {"tags": {"of": "new"}}
    formed.configurations = {"h:1": old, "h:2": new | {"members": [first, *new["members"][1:]]}, "h:3": old}
    assert converge(SPEC, NOBODY, check_mode=True).before["members"][0]["tags"] == {"of": "new"}


def test_plan_of_a_new_set_changes_nothing(members: FakeMembers) -> None:
    planned = converge(SPEC, NOBODY, check_mode=True)
    assert planned.changes == [INITIATED]
    assert (planned.before, planned.after) == ({}, replica_set.summary(CONFIGURATION))
    assert {name for _, name in members.commands} == {"replSetGetConfig"}


def test_plan_of_a_change_changes_nothing(formed: FakeMembers) -> None:
    wanted = ReplicaSetSpec("rs", SPEC.members, election_timeout_ms=5, heartbeat_ms=6)
    planned = converge(wanted, NOBODY, check_mode=True)
    assert planned.changes == ["settings.electionTimeoutMillis 10000 -> 5, settings.heartbeatIntervalMillis 2000 -> 6"]
    assert planned.after["settings"] == {"electionTimeoutMillis": 5, "heartbeatIntervalMillis": 6}
    assert {name for _, name in formed.commands} == {"replSetGetConfig"}


def test_plan_of_foreign_members_is_refused(formed: FakeMembers) -> None:
    formed.configurations["h:1"] = CONFIGURATION | {"_id": "other"}
    with pytest.raises(ClusterError, match="belongs to replica set other"):
        converge(SPEC, NOBODY, check_mode=True)


def test_plan_without_a_keyfile_is_one_of_a_new_set(members: FakeMembers) -> None:
    members.failures["replSetGetConfig"] = [SecretMissingError("no keyfile")]
    assert converge(SPEC, NOBODY, check_mode=True).changes == [INITIATED]


def test_silent_member_is_named_at_the_deadline(members: FakeMembers) -> None:
    members.silent = {"h:2"}
    with pytest.raises(DeadlineError, match=r"members of rs: no answer from h:2 \(last: h:2: h:2 is silent"):
        converge(SPEC, NOBODY, wait_seconds=0.3)
    assert commands(members, "replSetInitiate") == []


def test_member_is_given_time_to_answer_at_the_deadline_too(
    members: FakeMembers, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def hello(_host: str, _tls: object, *, timeout_seconds: float) -> None:
        given.append(timeout_seconds)
        raise AutoReconnect("not yet")

    monkeypatch.setattr(replica_set, "hello", hello)
    with pytest.raises(DeadlineError):
        converge(SPEC, NOBODY, wait_seconds=0)
    assert all(0 < seconds <= 0.2 for seconds in given)
    assert len(given) == 3


def test_member_that_answers_late_is_awaited(members: FakeMembers) -> None:
    members.failures["hello"] = [AutoReconnect("not yet")] * 4
    assert converge(SPEC, NOBODY).changes == [INITIATED]


def test_configuration_that_cannot_be_read_is_refused(members: FakeMembers) -> None:
    members.failures["replSetGetConfig"] = [OperationFailure("not authorized", codes.UNAUTHORIZED)]
    with pytest.raises(ClusterError, match=r"h:1: .*not authorized"):
        converge(SPEC, NOBODY)


def test_member_that_is_lost_while_it_is_asked_is_left_out(formed: FakeMembers) -> None:
    formed.failures["replSetGetConfig"] = [AutoReconnect("gone")]
    assert converge(SPEC, NOBODY).changes == []


@pytest.mark.parametrize("code", [codes.NODE_NOT_FOUND])
def test_initiation_is_tried_again_while_a_member_is_not_reached(members: FakeMembers, code: int) -> None:
    members.failures["replSetInitiate"] = [OperationFailure("?", code)] * 2
    assert converge(SPEC, NOBODY).changes == [INITIATED]
    assert len(commands(members, "replSetInitiate")) == 3


def test_set_that_somebody_else_initiated_meanwhile_is_gone_on_with(members: FakeMembers) -> None:
    def initiated_by_another(*_: object) -> None:
        members.spread(CONFIGURATION)

    members.failures["replSetInitiate"] = [OperationFailure("already", codes.ALREADY_INITIALIZED)]
    before = members.fail
    members.fail = lambda command: (command == "replSetInitiate" and initiated_by_another(), before(command))[1]
    assert converge(SPEC, NOBODY).facts["primary"] == "h:1"
    assert len(commands(members, "replSetInitiate")) == 1


def test_initiation_that_is_refused_is_said_with_the_servers_words(members: FakeMembers) -> None:
    members.failures["replSetInitiate"] = [OperationFailure("bad set", codes.UNAUTHORIZED)]
    with pytest.raises(ClusterError, match=r"rs cannot be initiated: .*bad set"):
        converge(SPEC, NOBODY)


@pytest.mark.parametrize("code", ELECTION_NOT_YET)
def test_election_that_is_refused_for_now_is_asked_for_again(members: FakeMembers, code: int) -> None:
    members.failures["replSetStepUp"] = [OperationFailure("not yet", code)] * 2
    assert converge(SPEC, NOBODY).facts["primary"] == "h:1"
    assert len(commands(members, "replSetStepUp")) == 3


def test_election_that_is_refused_for_good_is_said(members: FakeMembers) -> None:
    members.failures["replSetStepUp"] = [OperationFailure("no", codes.UNAUTHORIZED)]
    with pytest.raises(ClusterError, match=r"rs: .*no"):
        converge(SPEC, NOBODY)


def test_member_that_is_the_primary_already_does_not_stand_for_election(members: FakeMembers) -> None:
    members.primary = "h:1"
    converge(SPEC, NOBODY)
    assert commands(members, "replSetStepUp") == []


@pytest.mark.parametrize("error", [AutoReconnect("gone"), *(OperationFailure("?", code) for code in PASSING_ERRORS)])
def test_reconfiguration_whose_failure_may_pass_is_tried_again(formed: FakeMembers, error: Exception) -> None:
    formed.failures["replSetReconfig"] = [error]
    wanted = ReplicaSetSpec("rs", SPEC.members, heartbeat_ms=6)
    assert converge(wanted, NOBODY).changes == ["settings.heartbeatIntervalMillis 2000 -> 6"]
    assert len(commands(formed, "replSetReconfig")) == 2


def test_reconfiguration_that_is_refused_is_said(formed: FakeMembers) -> None:
    formed.failures["replSetReconfig"] = [OperationFailure("no", codes.UNAUTHORIZED)]
    with pytest.raises(ClusterError, match=r"rs cannot be reconfigured: .*no"):
        converge(ReplicaSetSpec("rs", SPEC.members, heartbeat_ms=6), NOBODY)


def test_set_without_a_primary_is_awaited_until_the_deadline(formed: FakeMembers) -> None:
    formed.primary = None
    with pytest.raises(DeadlineError, match="a primary of rs among h:1, h:2, h:3"):
        converge(SPEC, NOBODY, wait_seconds=0.3)


def test_sick_member_is_named_at_the_deadline(formed: FakeMembers) -> None:
    formed.states["h:3"] = ("RECOVERING", 1.0)
    with pytest.raises(DeadlineError, match=r"rs to be healthy: h:3 is RECOVERING.*see the log of the member"):
        converge(SPEC, NOBODY, wait_seconds=0.3)


def test_status_that_cannot_be_read_is_asked_for_again(formed: FakeMembers) -> None:
    formed.failures["replSetGetStatus"] = [AutoReconnect("gone"), OperationFailure("?", 1)]
    assert converge(SPEC, NOBODY).facts["primary"] == "h:2"


def test_primary_is_the_member_that_says_so(formed: FakeMembers) -> None:
    assert primary_of(HOSTS, NOBODY) == "h:2"
    formed.silent = {"h:1"}
    assert primary_of(HOSTS, NOBODY) == "h:2"
    formed.silent = {"h:2"}
    assert primary_of(HOSTS, NOBODY) is None


def test_first_configuration_is_what_was_declared() -> None:
    member = MemberSpec("h:1", priority=0, votes=0, hidden=True, tags={"dc": "a"})
    document = ReplicaSetSpec(
        "rs", (MemberSpec("h:0"), member), election_timeout_ms=7, heartbeat_ms=8
    ).first_configuration()
    assert document == {
        "_id": "rs",
        "version": 1,
        "members": [
            {"_id": 0, "host": "h:0", "priority": 1.0, "votes": 1, "hidden": False, "tags": {}},
            {"_id": 1, "host": "h:1", "priority": 0.0, "votes": 0, "hidden": True, "tags": {"dc": "a"}},
        ],
        "settings": {"electionTimeoutMillis": 7, "heartbeatIntervalMillis": 8},
    }
    assert ReplicaSetSpec("rs", (member,), config_server=True).first_configuration()["configsvr"] is True


def test_summary_of_nothing_is_nothing() -> None:
    assert replica_set.summary({}) == {}
