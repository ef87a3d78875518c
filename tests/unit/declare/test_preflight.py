"""What Argo CD is kept from doing to a cluster that runs."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from shardmart.declare import preflight

RELEASE: dict[str, Any] = {
    "release": {"port": 27017, "cluster_domain": "cluster.local"},
    "sets": [{"name": "configsvr", "replicaSet": "configReplSet"}, {"name": "shard1", "replicaSet": "shard1ReplSet"}],
}


def test_more_sets_and_more_members_are_taken() -> None:
    assert preflight.removals({"r-shard1": 1}, {"r-shard1": 3, "r-shard2": 3}) == []
    assert preflight.removals({}, {"r-shard1": 3}) == []


def test_a_shard_that_would_go_is_named() -> None:
    (problem,) = preflight.removals({"r-shard1": 3, "r-shard2": 3}, {"r-shard1": 3})
    assert problem.startswith("r-shard2 runs here and these values do not have it")


def test_a_shard_that_was_scaled_to_nothing_may_go() -> None:
    assert preflight.removals({"r-shard2": 0}, {}) == []


def test_fewer_members_are_refused_with_both_numbers() -> None:
    (problem,) = preflight.removals({"r-shard1": 3}, {"r-shard1": 2})
    assert "r-shard1 has 3 members and these values only 2" in problem


@pytest.mark.parametrize(
    ("key", "value", "said"), [("port", 27018, "port: "), ("cluster_domain", "x", "clusterDomain: ")]
)
def test_what_members_know_each_other_by_cannot_change(key: str, value: Any, said: str) -> None:
    wanted = copy.deepcopy(RELEASE)
    wanted["release"][key] = value
    (problem,) = preflight.changes(RELEASE, wanted)
    assert problem.startswith(said)
    assert str(value) in problem
    assert str(RELEASE["release"][key]) in problem


def test_a_replica_set_cannot_be_renamed_and_a_new_one_may_come() -> None:
    wanted = copy.deepcopy(RELEASE)
    wanted["sets"].append({"name": "shard2", "replicaSet": "any"})
    assert preflight.changes(RELEASE, wanted) == []
    wanted["sets"][1]["replicaSet"] = "other"
    assert preflight.changes(RELEASE, wanted) == ["shard1: runs as shard1ReplSet, and a replica set cannot be renamed"]
