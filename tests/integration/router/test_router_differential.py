"""Random commands through the router and on one plain server, with fixed seeds; new ones: `make differential`."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient

from tests.support import differential
from tests.support.clusters import EmbeddedCluster

pytestmark = pytest.mark.long

SEEDS = range(16)
MORE_SEEDS = range(16, 40)
LENGTH = 25


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seeds", [SEEDS, pytest.param(MORE_SEEDS, marks=pytest.mark.full)], ids=["", "more seeds"])
def test_a_sharded_database_answers_as_one_server(
    cluster: EmbeddedCluster, client: MongoClient[Any], seeds: range
) -> None:
    member = cluster.description.shards[0].members[0].address
    with MongoClient(member, directConnection=True, **cluster.members_credentials.options()) as direct:
        pair = differential.prepare(client, direct)
        found = differential.search(pair, seeds, LENGTH, lambda: False, print)
        client.drop_database("differential")
        direct.drop_database("differential_plain")
    assert not found, found[0]
    assert pair.tried >= len(seeds) * LENGTH


def test_what_a_shard_projects_and_nobody_is_shown_may_fail(cluster: EmbeddedCluster, client: MongoClient[Any]) -> None:
    """Seed 940467509: n + 1 of a document that is skipped and whose n is no number; all else is a difference."""
    member = cluster.description.shards[0].members[0].address
    with MongoClient(member, directConnection=True, **cluster.members_credentials.options()) as direct:
        pair = differential.prepare(client, direct)
        documents = [{"_id": i, "k": i, "r": "AD"[i % 2], "u": 0, "n": True if i < 2 else i} for i in range(8)]
        find = {"find": "both", "sort": {"_id": 1}, "skip": 4, "projection": {"sum": {"$add": ["$n", 1]}}}
        found = pair.run(1, [{"insert": "both", "documents": documents}, find])
        direct["differential_plain"]["both"].update_many({}, {"$set": {"n": 1}})
        without = pair._compare(find)
        client.drop_database("differential")
        direct.drop_database("differential_plain")
    assert found is None
    assert "16554" in str(without)


def test_a_difference_is_shrunk_to_the_commands_it_needs() -> None:
    class Fake(differential.Pair):
        def run(self, seed: int, commands: list[dict[str, Any]]) -> differential.Difference | None:
            needed = [c for c in commands if c in ({"a": 3}, {"a": 17})]
            at = commands.index(needed[-1]) + 1 if len(needed) == 2 else 0
            return differential.Difference(seed, commands[:at], at - 1, "differs") if at else None

    fake = Fake(None, None)
    whole = fake.run(1, [{"a": n} for n in range(30)])
    assert whole
    assert differential.shrink(fake, whole).commands == [{"a": 3}, {"a": 17}]


def test_a_seed_makes_the_same_case_again() -> None:
    assert differential.Generator(7).case(50) == differential.Generator(7).case(50)
    assert differential.Generator(7).case(50) != differential.Generator(8).case(50)
