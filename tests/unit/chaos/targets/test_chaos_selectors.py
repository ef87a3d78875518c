"""Selectors: which servers a word means, and what is said of a word that means none."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.targets.selectors import Targets
from shardmart.cluster.description import Node, Role
from shardmart.cluster.host.processes import Process, remember
from shardmart.platforms.state import State, StateError


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


@pytest.fixture
def with_ring(targets: Targets, tmp_path: Path) -> Targets:
    """The same cluster, and beside it a ring whose servers were started once."""
    run = tmp_path / "rings" / "carts" / "run"
    run.mkdir(parents=True)
    for number, name in enumerate(("carts-store", "carts-1", "carts-2")):
        pid_file = run / f"{name}.pid"
        pid_file.write_text("0\n")
        remember(Process(name, ("mongod", "--config", name), "127.0.0.1", 31700 + number, name, pid_file, run / "log"))
    made = Targets(State(tmp_path))
    made.primary = targets.primary  # type: ignore[method-assign]
    return made


def test_servers_of_a_ring_are_selected_by_name_and_its_nodes_by_the_rings(with_ring: Targets) -> None:
    assert names(with_ring.resolve("ring:carts")) == ["carts-1", "carts-2"]
    assert names(with_ring.resolve("carts-store,shard1-2")) == ["carts-store", "shard1-2"]
    assert [(node.role, node.group, node.port) for node in with_ring.resolve("carts-1")] == [
        (Role.RING, "carts", 31701)
    ]
    with pytest.raises(ChaosError, match="no ring 'baskets'; there is carts"):
        with_ring.resolve("ring:baskets")


def test_no_word_of_the_cluster_means_a_ring(with_ring: Targets) -> None:
    for word in ("all", "members", "routers", "config", "shard1ReplSet"):
        assert not {Role.RING} & {node.role for node in with_ring.resolve(word)}, word


def test_ring_alone_is_enough_and_the_cluster_that_is_not_there_is_missed(with_ring: Targets, tmp_path: Path) -> None:
    with_ring.require_cluster()
    (tmp_path / "cluster.json").unlink()
    alone = Targets(State(tmp_path))
    assert names(alone.resolve("carts-2")) == ["carts-2"]
    assert alone.resolve("all") == []
    with pytest.raises(StateError, match="no cluster in"):
        alone.require_cluster()


def test_ring_without_a_server_that_was_started_is_none(targets: Targets) -> None:
    with pytest.raises(ChaosError, match="no ring 'carts'; there is none: run `make ring`"):
        targets.resolve("ring:carts")
