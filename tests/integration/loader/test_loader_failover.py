"""A load survives what happens to a cluster: elections, a router's death, a shard that is away for longer."""

from __future__ import annotations

import pytest
from loader_shop import Shop, wait_for_orders, written

pytestmark = pytest.mark.long

LARGE = ("--users", "2000", "--orders-per-user", "10", "--workers", "2", "--batch", "250")
COUNTS = {"users": 2000, "products": 20, "orders": 20_000}


def test_primaries_killed_during_the_load_lose_and_double_nothing(replicated_shop: Shop) -> None:
    shop = replicated_shop
    process = shop.start(*LARGE)
    for shard, orders in (("shard1ReplSet", 2_000), ("shard2ReplSet", 6_000)):
        wait_for_orders(shop, orders)
        shop.cluster.kill(shop.cluster.primary_of(shard))
        assert process.poll() is None, f"the load was over before the primary of {shard} died"
    result = written(process)
    assert result["verified"]
    assert result["written"] == sum(COUNTS.values())
    assert shop.counts() == COUNTS


def test_a_router_killed_and_restarted_during_the_load_loses_and_doubles_nothing(replicated_shop: Shop) -> None:
    shop = replicated_shop
    process = shop.start(*LARGE)
    wait_for_orders(shop, 2_000)
    shop.cluster.kill("mongos1")
    assert process.poll() is None, "the load was over before the router died"
    shop.cluster.start("mongos1")
    result = written(process)
    assert result["verified"]
    assert shop.counts() == COUNTS


def test_a_shard_that_stays_away_ends_the_load_with_3_and_the_next_finishes_it(replicated_shop: Shop) -> None:
    shop = replicated_shop
    process = shop.start(*LARGE, "--retry-seconds", "3")
    wait_for_orders(shop, 2_000)
    members = [member.name for member in shop.cluster.set_of("shard2ReplSet").members]
    for member in members:
        shop.cluster.kill(member)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 3, (output, errors)
    assert "run the same command again" in errors
    assert "Traceback" not in errors
    shop.cluster.start(*members)
    result = shop.load(*LARGE)
    assert result["verified"]
    assert 0 < result["written"] < sum(COUNTS.values())
    assert shop.counts() == COUNTS
