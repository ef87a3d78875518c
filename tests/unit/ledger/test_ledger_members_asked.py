"""What the ledger asks of the members behind the router, and what it makes of their answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from memory_mongo import MemoryMongo
from pymongo.errors import AutoReconnect

from shardmart.cluster.description import Cluster, Member, ReplicaSet, Role
from shardmart.cluster.protocol.connection import Credentials
from shardmart.ledger.mongodb import members
from shardmart.ledger.system import Examination

Members = dict[str, MemoryMongo]


def replica_set(name: str, role: Role, size: int) -> ReplicaSet:
    found = tuple(Member(f"{name}{n}", role, name, name, n) for n in range(1, size + 1))
    return ReplicaSet(name, role, found)


SHARDS = (replica_set("s", Role.SHARD, 2), replica_set("t", Role.SHARD, 1))
CLUSTER = Cluster("x", "embedded", replica_set("c", Role.CONFIG, 2), SHARDS, ())
PRIMARIES = {"c:1", "s:2", "t:1"}


def put(mongo: MemoryMongo, database: str, collection: str, *keys: str, **fields: Any) -> None:
    for key in keys:
        mongo.documents[database][collection][key] = {"_id": key, **fields}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Members:
    """A healthy cluster, by address."""
    found: Members = {}
    for one in CLUSTER.replica_sets:
        for address in one.addresses:
            found[address] = MemoryMongo({"isWritablePrimary" if address in PRIMARIES else "secondary": True})
            if one.role is Role.SHARD:
                put(found[address], "ledger", "orders", f"{one.name}-1", f"{one.name}-2")
            put(found[address], "local", "oplog", address)  # each member's own

    @contextmanager
    def connect(address: str, *_: Any, **__: Any) -> Iterator[MemoryMongo]:
        if error := found[address].fail.get("connect"):
            raise error
        yield found[address]

    monkeypatch.setattr(members, "connect", connect)
    return found


@pytest.fixture
def router() -> MemoryMongo:
    found = MemoryMongo()
    put(found, "ledger", "orders", "s-1", "s-2", "t-1", "t-2")
    return found


def examined(router: MemoryMongo | None) -> Examination:
    return members.check(CLUSTER, Credentials(), router, ["ledger"], 0)  # type: ignore[arg-type]


SAME = "members: one primary in each of 3 sets, 5 members hold the same as the others of their set"


def test_a_healthy_cluster_without_orphans_has_no_problem(asked: Members, router: MemoryMongo) -> None:
    orphans = "members: no orphaned documents in 1 collections"
    assert examined(router) == Examination(checked=[SAME, orphans])
    assert examined(None) == Examination(checked=[SAME]), "without a router nobody knows what is owned"


def test_a_secondary_that_differs_is_named(asked: Members) -> None:
    put(asked["s:1"], "ledger", "orders", "s-3")
    assert examined(None).problems == ["still so after 0 s for s:2 and s:1 differ in ledger.orders"]


def test_what_each_member_has_for_itself_is_not_compared(asked: Members) -> None:
    for number, address in enumerate(asked):
        put(asked[address], "admin", "system.version", str(number))
        put(asked[address], "config", "transactions", str(number))
    assert examined(None).problems == []


@pytest.mark.parametrize(("database", "name"), [("admin", "system.users"), ("config", "chunks")])
def test_config_servers_are_compared_in_what_they_are_there_for(asked: Members, database: str, name: str) -> None:
    put(asked["c:2"], database, name, "one")
    assert examined(None).problems == [f"still so after 0 s for c:2 and c:1 differ in {database}.{name}"]
    put(asked["c:1"], database, name, "one")
    put(asked["s:1"], database, name, "one")
    assert examined(None).problems == [], "of a shard it is not asked"


def test_every_hash_gives_up_before_it_holds_up_the_writers(asked: Members) -> None:
    examined(None)
    commands = [command for mongo in asked.values() for command in mongo.commands]
    assert commands
    assert {command["maxTimeMS"] for command in commands} == {members.HASH_MILLISECONDS}


def test_a_member_that_does_not_answer_is_told_in_its_own_words(asked: Members) -> None:
    asked["s:1"].fail["connect"] = AutoReconnect("connection refused")
    problems = examined(None).problems
    assert len(problems) == 2
    assert problems[0].startswith("still so after 0 s for s has 1 primaries (s:1 ")
    assert "connection refused" in problems[0]
    assert problems[1].startswith("still so after 0 s for no dbHash of s:1: ")


@pytest.mark.parametrize(
    ("hello", "state"),
    [({"isWritablePrimary": False}, "neither"), ({"isWritablePrimary": False, "secondary": True}, "secondary")],
)
def test_a_set_without_a_primary_is_told_with_what_its_members_are(
    asked: Members, hello: dict[str, Any], state: str
) -> None:
    asked["t:1"].hello = hello
    assert examined(None).problems == [f"still so after 0 s for t has 0 primaries (t:1 {state})"]


def test_a_shard_that_is_draining_is_named(asked: Members) -> None:
    put(asked["c:1"], "config", "shards", "s")
    put(asked["c:2"], "config", "shards", "s")
    for address in ("c:1", "c:2"):
        put(asked[address], "config", "shards", "t", draining=True)
    assert examined(None).problems == ["still so after 0 s for shard t is draining"]


def test_documents_that_the_router_does_not_count_are_orphans(asked: Members, router: MemoryMongo) -> None:
    for address in ("s:1", "s:2"):
        put(asked[address], "ledger", "orders", "moved")
    words = "orphaned documents that nothing is going to delete: {'ledger.orders': 1}"
    assert examined(router).problems == [words]
    for address in ("s:1", "s:2"):
        put(asked[address], "config", "rangeDeletions", "one", "two")
    assert examined(router).notes == ["documents of 2 moved ranges await their deletion: {'ledger.orders': 1}"]


def test_orphans_of_an_empty_collection_are_found_and_views_are_not_counted(
    asked: Members, router: MemoryMongo
) -> None:
    for address in ("s:1", "s:2"):
        put(asked[address], "ledger", "old.things", "one")
        put(asked[address], "ledger", "seen", "one")
        asked[address].views.add("seen")
    assert examined(router).problems == ["orphaned documents that nothing is going to delete: {'ledger.old.things': 1}"]
