"""Which reads a client may ask for: the preference of a member, and the read concern of a command."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from shardmart.router.operations.context import Context
from shardmart.router.protocol import rawbson, wire
from shardmart.router.protocol.errors import RouterError
from shardmart.router.routing.replica_set import ReadPreference


def asked(command: dict[str, Any]) -> Context:
    """A command as it comes in."""
    message = wire.Message(1, 0, rawbson.encode({**command, "$db": "shop"}))
    return Context(cast(Any, SimpleNamespace()), cast(Any, SimpleNamespace()), message)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"mode": "fastest"}, 9),
        ({"mode": "nearest", "tags": {"rack": "a"}}, 14),
        ({"mode": "nearest", "tags": ["a"]}, 14),
        ({"mode": "nearest", "maxStalenessSeconds": "90"}, 14),
        ({"mode": "nearest", "maxStalenessSeconds": True}, 14),
        ({"mode": "nearest", "maxStalenessSeconds": 89}, 160),
        ({"mode": "nearest", "maxStalenessSeconds": 0.5}, 160),
        ({"mode": "primary", "maxStalenessSeconds": 90}, 9),
        ({"maxStalenessSeconds": 90}, 9),
    ],
)
def test_a_preference_that_mongos_refuses_is_refused(document: dict[str, Any], code: int) -> None:
    with pytest.raises(RouterError) as refused:
        ReadPreference.parse(document)
    assert refused.value.code == code


@pytest.mark.parametrize(("seconds", "kept"), [(90, 90), (-1, 0), (0, 0), (120.5, 120.5)])
def test_a_staleness_of_a_minute_and_a_half_is_kept_and_none_is_none(seconds: float, kept: float) -> None:
    found = ReadPreference.parse({"mode": "secondary", "maxStalenessSeconds": seconds})
    assert (found.mode, found.max_staleness) == ("secondary", kept)


def test_members_are_told_mode_and_tags_and_of_the_primary_nothing() -> None:
    assert ReadPreference().document == {}
    found = ReadPreference.parse({"mode": "nearest", "tags": [{"rack": "a"}], "maxStalenessSeconds": 90})
    assert found.document == {"$readPreference": {"mode": "nearest", "tags": [{"rack": "a"}]}}


@pytest.mark.parametrize(
    ("command", "level", "taken"),
    [
        ("find", "snapshot", True), ("aggregate", "snapshot", True), ("distinct", "snapshot", True),
        ("getMore", "snapshot", True), ("count", "majority", True), ("count", "snapshot", False),
        ("findAndModify", "snapshot", False), ("insert", "majority", False), ("listIndexes", "snapshot", False),
        ("insert", "local", True), ("find", "majority", True),
    ],
)  # fmt: skip
def test_a_read_concern_is_taken_by_the_commands_that_have_it(command: str, level: str, taken: bool) -> None:
    context = asked({command: "c", "readConcern": {"level": level}})
    if taken:
        context.check_read_concern()
        return
    with pytest.raises(RouterError, match=f"Command {command} does not support") as refused:
        context.check_read_concern()
    assert refused.value.code == 72


def test_a_command_that_names_no_level_has_none_that_could_be_wrong() -> None:
    asked({"insert": "c"}).check_read_concern()
    asked({"insert": "c", "readConcern": {"afterClusterTime": 1}}).check_read_concern()


@pytest.mark.parametrize(
    ("fields", "of_snapshot"),
    [
        ({"readConcern": {"level": "snapshot"}}, True),
        ({"readConcern": {"level": "majority"}}, False),
        ({"readConcern": {"level": "snapshot"}, "autocommit": False}, False),  # a transaction has its table pinned
        ({}, False),
    ],
)
def test_a_read_of_another_time_is_left_to_a_member_who_knows_the_owners_of_then(
    fields: dict[str, Any], of_snapshot: bool
) -> None:
    assert asked({"find": "c", **fields}).of_snapshot is of_snapshot
