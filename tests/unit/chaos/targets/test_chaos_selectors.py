"""Selectors: which servers a word means, and what is said of a word that means none."""

from __future__ import annotations

import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.targets.selectors import Targets
from shardmart.cluster.description import Node


def names(found: list[Node]) -> list[str]:
    return [server.name for server in found]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("shard1-2", ["shard1-2"]),
        ("shard2ReplSet", ["shard2-1", "shard2-2", "shard2-3"]),
        ("routers", ["mongos1"]),
        ("config", ["configsvr1", "configsvr2", "configsvr3"]),
        ("primary:shard1ReplSet", ["shard1-2"]),
        ("secondary:shard1ReplSet", ["shard1-3"]),
        ("primary:config", ["configsvr2"]),
        ("primary:shard1ReplSet,secondary:shard1ReplSet", ["shard1-2", "shard1-3"]),
        (["routers", "mongos1"], ["mongos1"]),
    ],
)
def test_selector_means(targets: Targets, selector: str | list[str], expected: list[str]) -> None:
    assert names(targets.resolve(selector)) == expected


def test_all_and_members(targets: Targets) -> None:
    members = [f"{group}{n}" for group in ("configsvr", "shard1-", "shard2-") for n in (1, 2, 3)]
    assert names(targets.resolve("members")) == members
    assert names(targets.resolve("all")) == [*members, "mongos1"]


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("shard9-1", "no server 'shard9-1'; there are configsvr1"),
        ("primary:shard9", "no replica set 'shard9'"),
        ("arbiter:shard1ReplSet", "only primary:SET and secondary:SET"),
    ],
)
def test_word_that_means_nothing_is_named(targets: Targets, selector: str, message: str) -> None:
    with pytest.raises(ChaosError, match=message):
        targets.resolve(selector)


def test_primary_that_does_not_come_is_a_deadline(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "primary", lambda name: None)
    with pytest.raises(ChaosError, match=r"waited 0.2 s for a primary of shard1ReplSet"):
        targets.resolve("primary:shard1ReplSet", wait_seconds=0.2)
