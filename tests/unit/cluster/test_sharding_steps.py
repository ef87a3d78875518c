"""Which commands bring shards, zones, balancer and collections to what is declared, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from bson import MaxKey, MinKey
from fake_router import FakeCollection, FakeRouter
from pymongo.errors import AutoReconnect, OperationFailure

from shardmart.cluster.converge.sharding import (
    PASSING_ERRORS,
    CollectionSpec,
    ShardSpec,
    ZoneRange,
    converge_balancer,
    converge_collections,
    converge_shards,
    converge_zones,
)
from shardmart.cluster.errors import ClusterError, DeadlineError
from shardmart.cluster.protocol.connection import Deadline

ONE = ShardSpec("one", ("h:1", "h:2"), ("APJ", "EMEA"))
TWO = ShardSpec("two", ("h:3",), ("LATAM",))
PRESENT = (
    {"_id": "one", "host": "one/h:1,h:2", "tags": ["APJ", "EMEA"]},
    {"_id": "two", "host": "two/h:3", "tags": ["LATAM"]},
)
KEY = {"region": 1, "_id": "hashed"}
RANGE = ZoneRange("APJ", {"region": "APJ"}, {"region": "EMEA"})
APJ = {
    "ns": "shop.things",
    "tag": "APJ",
    "min": {"region": "APJ", "_id": MinKey()},
    "max": {"region": "EMEA", "_id": MinKey()},
}
VALIDATOR = {"$jsonSchema": {"required": ["name"]}}
PRIMARY_INDEX = {"name": "_id_", "key": {"_id": 1}}
BY_NAME = {"name": "by_name", "keys": {"name": 1}, "unique": True}


@pytest.fixture
def deadline() -> Deadline:
    return Deadline(5)


def router_with_things(
    *, key: dict[str, Any] | None = KEY, tags: tuple[dict[str, Any], ...] = (), documents: Any = (), **options: Any
) -> FakeRouter:
    """A router that knows the collection shop.things."""
    router = FakeRouter(*PRESENT)
    router["config"].held["tags"] = FakeCollection(tags)
    router["config"].held["collections"] = FakeCollection([{"_id": "shop.things", "key": key}] if key else [])
    router["shop"].held["things"] = FakeCollection(documents, options.pop("indexes", [PRIMARY_INDEX]))
    if key or documents:
        router["shop"].options["things"] = options
    return router


def collections(router: FakeRouter, spec: CollectionSpec, *, check_mode: bool = False) -> list[str]:
    return converge_collections("shop", [spec], router, Deadline(5), check_mode=check_mode).changes


def test_shards_that_are_there_are_left_alone(deadline: Deadline) -> None:
    router = FakeRouter(*PRESENT)
    outcome = converge_shards([ONE, TWO], router, deadline)
    assert outcome.changes == router.said == []
    assert outcome.before == outcome.after == {"shards": {"one": "one/h:1,h:2", "two": "two/h:3"}}


def test_missing_shard_is_added_by_its_exact_name(deadline: Deadline) -> None:
    router = FakeRouter(PRESENT[0] | {"_id": "one0", "host": "one0/h:9"})
    outcome = converge_shards([ONE], router, deadline)
    assert outcome.changes == ["add shard one"]
    assert router.said == [{"addShard": "one/h:1,h:2", "name": "one"}]
    assert outcome.after == {"shards": {"one0": "one0/h:9", "one": "one/h:1,h:2"}}
    assert outcome.before == {"shards": {"one0": "one0/h:9"}}


def test_draining_shard_is_refused(deadline: Deadline) -> None:
    with pytest.raises(ClusterError, match="one is draining"):
        converge_shards([ONE], FakeRouter(PRESENT[0] | {"draining": True}), deadline)


def test_shard_of_another_replica_set_is_refused(deadline: Deadline) -> None:
    with pytest.raises(ClusterError, match="one is registered with replica set other"):
        converge_shards([ONE], FakeRouter({"_id": "one", "host": "other/h:1"}), deadline)


@pytest.mark.parametrize(
    "converge",
    [
        lambda router, deadline: converge_shards([ONE], router, deadline, check_mode=True),
        lambda router, deadline: converge_zones([ONE], router, deadline, check_mode=True),
        lambda router, deadline: converge_balancer(router, deadline, enabled=True, check_mode=True),
    ],
)
def test_check_mode_plans_and_commands_nothing(converge: Any, deadline: Deadline) -> None:
    router = FakeRouter(balancer="off")
    assert converge(router, deadline).changes
    assert router.said == []


def test_zones_are_added_before_any_is_removed(deadline: Deadline) -> None:
    router = FakeRouter(PRESENT[0] | {"tags": ["EMEA", "LATAM"]}, PRESENT[1] | {"tags": ["APJ"]})
    outcome = converge_zones([ONE, TWO], router, deadline)
    assert router.said == [
        {"addShardToZone": "one", "zone": "APJ"},
        {"addShardToZone": "two", "zone": "LATAM"},
        {"removeShardFromZone": "one", "zone": "LATAM"},
        {"removeShardFromZone": "two", "zone": "APJ"},
    ]
    assert outcome.changes == [
        "one: serve zone APJ", "two: serve zone LATAM", "one: leave zone LATAM", "two: leave zone APJ",
    ]  # fmt: skip
    assert outcome.before == {"zones": {"one": ["EMEA", "LATAM"], "two": ["APJ"]}}
    assert outcome.after == {"zones": {"one": ["APJ", "EMEA"], "two": ["LATAM"]}}


def test_zones_that_are_as_declared_are_left_alone(deadline: Deadline) -> None:
    router = FakeRouter(*PRESENT)
    assert converge_zones([ONE, TWO], router, deadline).changes == router.said == []


def test_zones_of_a_shard_that_is_not_there_are_refused_outside_check_mode(deadline: Deadline) -> None:
    with pytest.raises(ClusterError, match="shard two is not in the cluster"):
        converge_zones([ONE, TWO], FakeRouter(PRESENT[0]), deadline)
    planned = converge_zones([TWO], FakeRouter(PRESENT[0]), deadline, check_mode=True)
    assert planned.changes == ["two: serve zone LATAM"]


@pytest.mark.parametrize(
    ("now", "wanted", "commands"),
    [
        ("off", True, [{"balancerStart": 1}]),
        ("full", False, [{"balancerStop": 1}]),
        ("full", True, []),
        ("off", False, []),
    ],
)
def test_balancer_is_switched_only_when_it_differs(now: str, wanted: bool, commands: Any, deadline: Deadline) -> None:
    router = FakeRouter(balancer=now)
    outcome = converge_balancer(router, deadline, enabled=wanted)
    assert router.said == commands
    assert outcome.changes == [f"balancer {'on' if wanted else 'off'}"] * len(commands)
    assert (outcome.before, outcome.after) == ({"balancer": now != "off"}, {"balancer": wanted})


def test_collection_is_zoned_sharded_validated_and_indexed_in_this_order() -> None:
    router = router_with_things(key=None)
    spec = CollectionSpec("things", KEY, (BY_NAME,), (RANGE,), VALIDATOR)
    changes = collections(router, spec)
    assert router.commands == [
        ("admin", {"updateZoneKeyRange": "shop.things", "min": APJ["min"], "max": APJ["max"], "zone": "APJ"}),
        ("admin", {"shardCollection": "shop.things", "key": KEY, "presplitHashedZones": True}),
        ("shop", {"collMod": "things", "validator": VALIDATOR, "validationLevel": "strict"}),
        ("shop", {"createIndexes": "things", "indexes": [{"key": {"name": 1}, "name": "by_name", "unique": True}]}),
    ]
    assert changes == [
        "shop.things: range {region: APJ, _id: MinKey} to {region: EMEA, _id: MinKey} belongs to zone APJ",
        "shop.things: shard by {region: 1, _id: hashed}",
        "shop.things: set the validator",
        "shop.things: create index by_name {name: 1}",
    ]


def test_collection_as_declared_is_left_alone() -> None:
    present = [PRIMARY_INDEX, {"name": "another name", "key": {"name": 1.0}, "unique": True}]
    router = router_with_things(tags=(APJ,), indexes=present, validator=VALIDATOR, documents=[{"_id": 1}])
    assert collections(router, CollectionSpec("things", KEY, (BY_NAME,), (RANGE,), VALIDATOR)) == router.said == []


def test_check_mode_plans_a_collection_that_does_not_exist() -> None:
    router = router_with_things(key=None, indexes=None)
    spec = CollectionSpec("things", KEY, (BY_NAME,), (RANGE,), VALIDATOR)
    assert len(collections(router, spec, check_mode=True)) == 4
    assert router.said == []
    with pytest.raises(ClusterError, match=r"shop\.things: no such namespace"):
        collections(router, spec)


def test_collections_are_converged_unless_a_plan_was_asked_for(deadline: Deadline) -> None:
    router = router_with_things(key=None)
    converge_collections("shop", [CollectionSpec("things", KEY)], router, deadline)
    assert router.said == [{"shardCollection": "shop.things", "key": KEY}]


def test_check_mode_plans_for_a_collection_with_documents() -> None:
    """What holds documents is refused when it would be sharded; a plan changes nothing and says so."""
    router = router_with_things(key=None, documents=[{"_id": 1}])
    assert "shop.things: shard by {_id: 1}" in collections(
        router, CollectionSpec("things", {"_id": 1}), check_mode=True
    )


@pytest.mark.parametrize(
    ("key", "ranges", "presplit"),
    [(KEY, (RANGE,), True), (KEY, (), False), ({"region": 1}, (RANGE,), False)],
)
def test_only_hashed_keys_with_zones_are_split_before(key: Any, ranges: Any, presplit: bool) -> None:
    router = router_with_things(key=None)
    collections(router, CollectionSpec("things", key, zone_ranges=ranges))
    (command,) = (command for command in router.said if "shardCollection" in command)
    assert command.get("presplitHashedZones", False) is presplit


def test_collection_that_8_0_lists_without_being_sharded_is_sharded() -> None:
    router = router_with_things(key=None)
    moved = {"_id": "shop.things", "key": {"_id": 1}, "unsplittable": True}
    router["config"].held["collections"] = FakeCollection([moved])
    assert collections(router, CollectionSpec("things", KEY)) == ["shop.things: shard by {region: 1, _id: hashed}"]


@pytest.mark.parametrize("key", [{"_id": "hashed", "region": 1}, {"region": 1}])
def test_other_shard_key_is_refused(key: dict[str, Any]) -> None:
    with pytest.raises(ClusterError, match="a shard key is changed by reshardCollection"):
        collections(router_with_things(key=key), CollectionSpec("things", KEY))


def test_collection_with_documents_is_not_sharded_in_silence() -> None:
    router = router_with_things(key=None, documents=[{"_id": 1}])
    with pytest.raises(ClusterError, match="holds documents and is not sharded"):
        collections(router, CollectionSpec("things", KEY))
    assert router.said == []


def test_range_nobody_declares_leaves_its_zone_before_others_are_made() -> None:
    stale = APJ | {"min": {"region": MinKey(), "_id": MinKey()}, "max": {"region": MaxKey(), "_id": MaxKey()}}
    router = router_with_things(tags=(stale, APJ | {"ns": "shop.others", "tag": "EMEA"}))
    changes = collections(router, CollectionSpec("things", KEY, zone_ranges=(RANGE,)))
    assert [(command["min"]["region"], command["zone"]) for command in router.said] == [
        (MinKey(), None),
        ("APJ", "APJ"),
    ]
    assert changes[0] == "shop.things: range {region: MinKey, _id: MinKey} leaves zone APJ"


def test_range_of_another_zone_is_given_to_the_declared_one() -> None:
    router = router_with_things(tags=(APJ | {"tag": "EMEA"},))
    collections(router, CollectionSpec("things", KEY, zone_ranges=(RANGE,)))
    assert [command["zone"] for command in router.said] == ["APJ"]


@pytest.mark.parametrize(
    ("now", "wanted", "change"),
    [
        ({}, VALIDATOR, ["shop.things: set the validator"]),
        ({"a": 1}, VALIDATOR, ["shop.things: change the validator"]),
        (VALIDATOR, VALIDATOR, []),
        ({"a": 1}, None, []),
    ],
)
def test_validator_is_changed_when_one_is_declared(now: Any, wanted: Any, change: list[str]) -> None:
    assert collections(router_with_things(validator=now), CollectionSpec("things", KEY, validator=wanted)) == change


@pytest.mark.parametrize(
    ("on_primary", "on_owners", "change"),
    [
        ({}, [VALIDATOR, VALIDATOR], []),
        (VALIDATOR, [VALIDATOR, None], ["shop.things: change the validator"]),
        (VALIDATOR, [None], ["shop.things: set the validator"]),
    ],
    ids=["the primary shard owns none", "one owner missed it", "the owner missed it"],
)
def test_the_validator_that_counts_is_that_of_the_shards_that_hold_documents(
    on_primary: Any, on_owners: list[Any], change: list[str]
) -> None:
    router = router_with_things(validator=on_primary)
    router["shop"]["things"].catalog = [{"validator": each} if each else {} for each in on_owners]
    assert collections(router, CollectionSpec("things", KEY, validator=VALIDATOR)) == change


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ({"key": {"name": 1}, "unique": True}, False),
        ({"key": {"name": 1.0}, "unique": True}, False),
        ({"key": {"name": 1}}, True),
        ({"key": {"name": -1}, "unique": True}, True),
        ({"key": {"name": 1, "price": 1}, "unique": True}, True),
        ({"key": {"name": "hashed"}, "unique": True}, True),
        ({"key": {"name": 1}, "unique": True, "sparse": False}, False),
        ({"key": {"name": 1}, "unique": True, "sparse": True}, True),
    ],
)
def test_index_is_what_its_keys_and_options_are(present: dict[str, Any], missing: bool) -> None:
    router = router_with_things(indexes=[PRIMARY_INDEX, {"name": "x", **present}])
    assert bool(collections(router, CollectionSpec("things", KEY, (BY_NAME,)))) is missing


@pytest.mark.parametrize("passing", [OperationFailure("?", PASSING_ERRORS[0]), AutoReconnect("away")])
def test_command_whose_failure_may_pass_is_sent_again(passing: Exception, deadline: Deadline) -> None:
    router = FakeRouter()
    router.failures = [passing]
    assert converge_shards([TWO], router, deadline).changes == ["add shard two"]
    assert len(router.said) == 2


def test_command_that_keeps_failing_is_named_at_the_deadline() -> None:
    router = FakeRouter()
    router.failures = [AutoReconnect("away")] * 1000
    with pytest.raises(DeadlineError, match=r"shard two to be added: .*away"):
        converge_shards([TWO], router, Deadline(0.3))


def test_other_failure_is_said_at_once(deadline: Deadline) -> None:
    router = FakeRouter()
    router.failures = [OperationFailure("no", 13)]
    with pytest.raises(ClusterError, match=r"shard two to be added: .*no"):
        converge_shards([TWO], router, deadline)
    assert len(router.said) == 1
