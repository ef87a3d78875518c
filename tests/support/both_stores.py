"""The same shop in both stores of the fragments, on servers that run."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from shardmart.cluster.converge import sharding, users
from shardmart.cluster.protocol.connection import Deadline, connect
from shardmart.fragments.configuration import PASSWORDS, Configuration
from shardmart.fragments.mongodb.layout import collections
from shardmart.fragments.mongodb.seeding import insert_random_data as seed_mongodb
from shardmart.fragments.relational.seeding import insert_random_data as seed_relational
from shardmart.fragments.rows import Shop
from shardmart.fragments.store import Row
from shardmart.loader.generation.dataset import Counts
from tests.support.clusters import EmbeddedCluster
from tests.support.region_nodes import REGIONS, RegionNodes

COUNTS = Counts(24, 3, 80)


def both_stores(nodes: RegionNodes, cluster: EmbeddedCluster, counts: Counts = COUNTS) -> Configuration:
    """Both stores, laid out as the role does it, with one data set in both."""
    secret = nodes.folder / "secrets" / PASSWORDS["mongodb"]
    spec = users.UserSpec("fragments", secret, ({"role": "readWrite", "db": "fragments"},))
    users.converge([spec], cluster.router, users.Administrators(login=cluster.admin))
    with connect(cluster.router, cluster.admin) as client:
        specs = [
            sharding.CollectionSpec(
                name=each["name"],
                shard_key=each["shard_key"],
                indexes=tuple(each["indexes"]),
                zone_ranges=tuple(sharding.ZoneRange(r["zone"], r["min"], r["max"]) for r in each["zone_ranges"]),
                validator=each.get("validator"),
            )
            for each in collections(catch_all=False)
        ]
        sharding.converge_collections("fragments", specs, client, Deadline(60))
        again = sharding.converge_collections("fragments", specs, client, Deadline(60))
        assert again.changes == []
    stores = replace(nodes.configuration, mongodb=(cluster.router, None))
    shop = Shop(1, counts, REGIONS)
    seed_relational(stores, shop)
    seed_mongodb(stores, shop)
    return stores


def person(region: str, key: str, name: str = "Ada Lovelace") -> Row:
    return {
        "region": region, "customer_id": key, "customer_name": name, "email": "ada@example.com", "street": "Main 1",
        "postcode": "1000", "city": "Rome", "country": "IT", "created_at": datetime(2026, 1, 2, tzinfo=UTC),
    }  # fmt: skip


def prepared_then_committed(cluster: EmbeddedCluster) -> dict[str, int]:
    """How many transactions each shard has prepared, because another shard was in them, and committed."""
    found = {}
    for shard in cluster.description.shards:
        with connect(shard.addresses[0], cluster.members_credentials) as client:
            facts = client.admin.command("serverStatus")["transactions"]
        found[shard.name] = facts["totalPreparedThenCommitted"]
    return found
