"""The `replica_set` module on three real mongods."""

from __future__ import annotations

from typing import Any

import pytest

from shardmart.cluster.protocol.connection import connect
from tests.support.clusters import EmbeddedCluster
from tests.support.modules import run_module


def arguments(cluster: EmbeddedCluster, **changes: Any) -> dict[str, Any]:
    """The module's arguments for the set as its topology declares it."""
    declared = cluster.set_of("shard1ReplSet")
    return {
        "name": declared.name,
        "members": [member.as_document() for member in declared.members],
        "election_timeout_ms": 2000,
        "heartbeat_ms": 500,
        "keyfile": str(cluster.state.keyfile),
        "wait_seconds": 60,
    } | changes


def configuration(cluster: EmbeddedCluster) -> dict[str, Any]:
    """What the set's first member holds as its configuration."""
    member = cluster.set_of("shard1ReplSet").members[0].address
    with connect(member, cluster.members_credentials) as client:
        found: dict[str, Any] = client.admin.command("replSetGetConfig")["config"]
    return found


def test_set_is_formed_once_and_kept(bare_set: EmbeddedCluster) -> None:
    planned = run_module("replica_set", check=True, **arguments(bare_set))
    assert planned["changed"]
    formed = run_module("replica_set", **arguments(bare_set))
    assert formed["changes"] == ["initiate shard1ReplSet with 3 members"] == planned["changes"]
    assert formed["primary"] == bare_set.set_of("shard1ReplSet").members[0].address
    identity = configuration(bare_set)["settings"]["replicaSetId"]

    again = run_module("replica_set", **arguments(bare_set))
    assert not again["changed"]
    assert not run_module("replica_set", check=True, **arguments(bare_set))["changed"]
    assert configuration(bare_set)["settings"]["replicaSetId"] == identity

    # A drifted priority, tag and setting are repaired; check mode says so first and changes nothing.
    drifted = configuration(bare_set)
    drifted["version"] += 1
    drifted.pop("term")
    drifted["members"][2] |= {"priority": 0.0, "tags": {"disk": "slow"}}
    drifted["settings"]["heartbeatIntervalMillis"] = 900
    with connect(formed["primary"], bare_set.members_credentials) as client:
        client.admin.command("replSetReconfig", drifted)
    planned = run_module("replica_set", check=True, **arguments(bare_set))
    assert planned["changed"]
    assert configuration(bare_set)["settings"]["heartbeatIntervalMillis"] == 900
    repaired = run_module("replica_set", **arguments(bare_set))
    assert repaired["changes"] == planned["changes"]
    assert "priority 0.0 -> 1.0" in repaired["changes"][0]
    assert repaired["diff"]["before"]["members"][2]["tags"] == {"disk": "slow"}
    assert repaired["diff"]["after"]["members"][2]["tags"] == {}
    assert configuration(bare_set)["members"][2]["priority"] == 1.0
    assert configuration(bare_set)["settings"]["heartbeatIntervalMillis"] == 500

    # A member the topology does not have is named, not removed, unless that is allowed.
    two_less = [bare_set.set_of("shard1ReplSet").members[0].as_document()]
    refused = run_module("replica_set", **arguments(bare_set, members=two_less))
    assert refused["failed"]
    extra = [m.address for m in bare_set.set_of("shard1ReplSet").members[1:]]
    assert ", ".join(extra) in refused["msg"]
    there = [member["host"] for member in configuration(bare_set)["members"]]
    assert there == [m.address for m in bare_set.set_of("shard1ReplSet").members]
    removed = run_module("replica_set", **arguments(bare_set, members=two_less, allow_removal=True))
    assert removed["changes"] == [f"remove member {host}" for host in extra]
    added = run_module("replica_set", **arguments(bare_set))
    assert added["changes"] == [f"add member {host}" for host in extra]

    # Another name is refused: this is somebody else's set.
    foreign = run_module("replica_set", **arguments(bare_set, name="shard9ReplSet"))
    assert "belongs to replica set shard1ReplSet, not to shard9ReplSet" in foreign["msg"]


def test_silent_member_is_named_at_the_deadline(bare_set: EmbeddedCluster) -> None:
    bare_set.kill("shard1-3")
    result = run_module("replica_set", **arguments(bare_set, wait_seconds=1))
    missing = bare_set.set_of("shard1ReplSet").members[2].address
    assert result["msg"].startswith(f"waited 1 s for members of shard1ReplSet: no answer from {missing}")


def test_set_is_not_initiated_when_any_member_has_a_configuration(bare_set: EmbeddedCluster) -> None:
    members = bare_set.set_of("shard1ReplSet").members
    alone = run_module("replica_set", **arguments(bare_set, members=[members[2].as_document()]))
    assert alone["changed"]
    identity = None
    with connect(members[2].address, bare_set.members_credentials) as client:
        identity = client.admin.command("replSetGetConfig")["config"]["settings"]["replicaSetId"]
    joined = run_module("replica_set", **arguments(bare_set))
    assert [change.split(" 127")[0] for change in joined["changes"]] == ["add member", "add member"]
    assert configuration(bare_set)["settings"]["replicaSetId"] == identity


def test_wrong_keyfile_is_one_line(bare_set: EmbeddedCluster, tmp_path: Any) -> None:
    wrong = tmp_path / "keyfile"
    wrong.write_text("notTheKeyfile")
    result = run_module("replica_set", **arguments(bare_set, keyfile=str(wrong)))
    assert result["failed"]
    assert "Authentication failed" in result["msg"]
    assert "\n" not in result["msg"]


@pytest.mark.parametrize("content", [None, ""])
def test_missing_or_empty_keyfile_is_named(bare_set: EmbeddedCluster, tmp_path: Any, content: str | None) -> None:
    file = tmp_path / "keyfile"
    if content is not None:
        file.write_text(content)
    result = run_module("replica_set", **arguments(bare_set, keyfile=str(file)))
    assert str(file) in result["msg"]
