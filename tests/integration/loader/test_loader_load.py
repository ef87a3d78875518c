"""What is loaded is there exactly once, whatever happened before, and is the right thing."""

from __future__ import annotations

import datetime
from typing import Any

import psutil
import pytest
from loader_shop import MODEL, Shop, wait_for_orders, written
from pymongo import MongoClient

from shardmart.cluster.protocol.connection import connect
from shardmart.loader.generation import identity

pytestmark = pytest.mark.long

REFERENCE = {"users": 10, "products": 20, "orders": 30}
LARGE = ("--users", "4000", "--orders-per-user", "10", "--workers", "2", "--batch", "200")
LARGE_COUNTS = {"users": 4000, "products": 20, "orders": 40_000}


def test_first_load_writes_all_and_second_nothing(shop: Shop) -> None:
    first = shop.load()
    assert first["written"] == 60
    assert first["verified"]
    assert shop.counts() == REFERENCE
    second = shop.load()
    assert second["written"] == 0
    assert second["verified"]
    checksums = [[part["checksum"] for part in run["collections"].values()] for run in (first, second)]
    assert checksums[0] == checksums[1]
    assert shop.counts() == REFERENCE


def test_what_is_read_back_is_what_a_dry_run_makes(shop: Shop) -> None:
    loaded, made = shop.load("--seed", "5"), shop.load("--seed", "5", "--dry-run")
    for name in REFERENCE:
        assert loaded["collections"][name]["checksum"] == made["collections"][name]["checksum"]


def test_larger_counts_add_only_what_is_missing(shop: Shop) -> None:
    shop.load()
    assert shop.load("--users", "15")["written"] == 5 + 5 * 3
    assert shop.load("--users", "15", "--orders-per-user", "5")["written"] == 15 * 2
    # Orders of before keep the articles they were made of; new ones buy from the larger catalogue.
    grown = shop.load("--users", "20", "--orders-per-user", "5", "--products", "35")
    assert grown["written"] == 5 + 5 * 5 + 15
    assert grown["verified"]
    assert shop.load("--users", "20", "--orders-per-user", "5", "--products", "35")["written"] == 0
    # And a smaller load finds all it wants.
    assert shop.load()["written"] == 0


def test_a_load_killed_with_9_is_finished_by_the_next(shop: Shop) -> None:
    process = shop.start(*LARGE)
    wait_for_orders(shop, 5_000)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive, "workers outlive their parent"
    before = shop.counts()
    assert before["orders"] < LARGE_COUNTS["orders"], "the load was over before it was killed"
    second = shop.load(*LARGE)
    assert second["written"] == sum(LARGE_COUNTS.values()) - sum(before.values())
    assert second["verified"]
    assert shop.counts() == LARGE_COUNTS


def test_an_interrupted_load_ends_with_130_and_keeps_what_it_wrote(shop: Shop) -> None:
    process = shop.start(*LARGE)
    wait_for_orders(shop, 3_000)
    process.terminate()
    result = written(process, code=130)
    assert result["interrupted"]
    assert not result["verified"]
    assert 0 < result["written"] == sum(shop.counts().values()) < sum(LARGE_COUNTS.values())


def test_two_loaders_at_once_do_no_harm(shop: Shop) -> None:
    sizes = ("--users", "1500", "--orders-per-user", "6", "--batch", "100")
    processes = [shop.start(*sizes), shop.start(*sizes)]
    wait_for_orders(shop, 1_000)
    assert [process.poll() for process in processes] == [None, None], "they did not run at once"
    results = [written(process) for process in processes]
    assert all(result["verified"] for result in results)
    assert sum(result["written"] for result in results) == 1500 + 20 + 9000
    assert shop.counts() == {"users": 1500, "products": 20, "orders": 9000}


def test_another_seed_is_refused(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.load("--seed", "7")
    result = shop.load("--seed", "8", code=2)
    assert result["other_seeds"] == [7]
    assert "--seed 7" in capsys.readouterr().err
    assert shop.counts() == REFERENCE


def test_another_seed_is_added_with_merge(shop: Shop) -> None:
    shop.load("--seed", "7")
    assert shop.load("--seed", "8", "--merge")["written"] == 60
    assert shop.counts() == {name: 2 * count for name, count in REFERENCE.items()}
    assert shop.load("--seed", "7", "--merge")["written"] == 0


def test_drop_replaces_the_data_and_keeps_sharding_indexes_and_validators(shop: Shop) -> None:
    shop.load("--seed", "7", "--users", "2000")
    shop.database["users"].insert_one(user(_id="somebody's"))

    def settings() -> dict[str, Any]:
        config = shop.client["config"]
        return {
            name: (
                config["collections"].find_one({"_id": f"{MODEL.database}.{name}"}),
                sorted(shop.database[name].index_information()),
                shop.database[name].options(),
            )
            for name in REFERENCE
        }

    before = settings()
    result = shop.load("--seed", "8", "--drop")
    assert result["deleted"] == 2000 + 20 + 6000 + 1
    assert result["written"] == 60
    assert shop.counts() == REFERENCE
    assert settings() == before


def test_documents_of_others_are_left_alone(shop: Shop) -> None:
    shop.database["users"].insert_many([user(), user(_id=17), user(_id="x")])
    assert shop.load()["written"] == 60
    assert shop.load()["written"] == 0
    assert shop.database["users"].count_documents({}) == 13


def test_check_writes_nothing_and_counts_what_is_missing(shop: Shop) -> None:
    result = shop.load("--check", code=4)
    assert [part["missing"] for part in result["collections"].values()] == [10, 20, 30]
    assert sum(shop.counts().values()) == 0
    shop.load()
    assert shop.load("--check")["verified"]


def test_a_deleted_document_is_written_again(shop: Shop) -> None:
    shop.load()
    shop.database["orders"].delete_one({"_id": identity.order_id(1, 3, 1)})
    result = shop.load()
    assert result["written"] == 1
    assert result["verified"]


@pytest.mark.parametrize(
    ("collection", "change"),
    [
        ("orders", {"$inc": {"total_cents": 1}}),
        ("orders", {"$set": {"items.0.quantity": 99}}),
        ("users", {"$set": {"email": "somebody@else.example"}}),
        ("products", {"$unset": {"weight": ""}, "$set": {"name": "Brick"}}),
    ],
)
def test_a_tampered_document_fails_verification_and_is_named(
    shop: Shop, capsys: pytest.CaptureFixture[str], collection: str, change: dict[str, Any]
) -> None:
    shop.load()
    victim = shop.database[collection].find_one(sort=[("_id", 1)])
    assert victim
    shop.database[collection].update_one({"_id": victim["_id"]}, change)
    result = shop.load(code=4)
    assert result["collections"][collection]["different"] == 1
    assert not result["verified"]
    assert str(victim["_id"]) in capsys.readouterr().err


def test_what_the_shop_changed_since_is_counted_and_no_fault(shop: Shop) -> None:
    shop.load()
    shop.database["orders"].update_one({"_id": identity.order_id(1, 0, 0)}, {"$set": {"status": "pending"}})
    shop.database["orders"].update_one({"_id": identity.order_id(1, 0, 1)}, {"$set": {"status": "paid"}})
    shop.database["products"].update_one({"_id": identity.product_id(1, 0)}, {"$inc": {"stock": 100_000}})
    result = shop.load()
    assert result["written"] == 0
    assert result["collections"]["orders"]["changed"] in {1, 2}  # one may have had the status it was given
    assert result["collections"]["products"]["changed"] == 1


def test_a_document_on_two_shards_fails_verification(shop: Shop) -> None:
    shop.load()
    apj = shop.database["users"].find_one({"region": "APJ"})
    assert apj
    # `_id` is unique within a shard only: a document that says another region is taken by another shard.
    shop.database["users"].insert_one(apj | {"region": "LATAM"})
    assert shop.load(code=4)["collections"]["users"]["doubled"] == 1


def test_orphans_are_not_counted(shop: Shop) -> None:
    shop.load()
    apj = shop.database["users"].find_one({"region": "APJ"})
    assert apj
    latam_shard = next(s for s in shop.cluster.description.shards if "APJ" not in s.zones)
    member = latam_shard.members[0].address
    with connect(member, shop.cluster.members_credentials) as direct:
        direct[MODEL.database]["users"].insert_one(apj)
    try:
        assert shop.load()["verified"]
        assert shop.counts() == REFERENCE
    finally:
        with connect(member, shop.cluster.members_credentials) as direct:
            direct[MODEL.database]["users"].delete_one({"_id": apj["_id"]})


def test_documents_per_shard_are_those_the_shards_count_and_near_what_zones_predict(shop: Shop) -> None:
    result = shop.load("--users", "3000", "--orders-per-user", "1")
    for name in ("users", "orders"):
        shards = result["collections"][name]["shards"]
        assert sum(shards["found"].values()) == 3000
        for shard in shop.cluster.description.shards:
            with connect(shard.members[0].address, shop.cluster.members_credentials) as direct:
                assert direct[MODEL.database][name].count_documents({}) == shards["found"][shard.name]
            assert shards["predicted"][shard.name] == pytest.approx(1500, abs=2)
            assert shards["found"][shard.name] == pytest.approx(1500, rel=0.05)


def test_read_write_on_the_database_is_all_the_loader_needs(shop: Shop) -> None:
    shop.client.admin.command("createUser", "least", pwd="least", roles=[{"role": "readWrite", "db": MODEL.database}])
    try:
        result = shop.load("--uri", f"mongodb://least:least@{shop.cluster.router}/?authSource=admin")
    finally:
        shop.client.admin.command("dropUser", "least")
    assert result["verified"]
    # Without `read` on `config` nobody says which zones the shards serve.
    assert result["collections"]["orders"]["shards"]["predicted"] is None


def test_a_wrong_password_ends_with_3_and_is_not_shown(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.load("--uri", f"mongodb://loader:hunter2@{shop.cluster.router}/?authSource=admin", code=3)
    assert "hunter2" not in capsys.readouterr().err


def test_a_cluster_without_collections_ends_with_3(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardmart.loader.survey.COLLECTIONS", ("users", "products", "invoices"))
    shop.load(code=3)
    assert sum(shop.counts().values()) == 0


def user(**fields: Any) -> dict[str, Any]:
    """A user as somebody else would insert one."""
    address_fields = {"street": "Main Street 1", "postcode": "1", "city": "Springfield", "country": "US"}
    return {
        "region": "LATAM",
        "name": "Someone",
        "email": "someone@shop.example",
        "address": address_fields,
        "created_at": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    } | fields


def test_the_loader_user_can_be_used(shop: Shop) -> None:
    with MongoClient[dict[str, Any]](shop.cluster.uri("loader")) as client:
        assert client[MODEL.database]["users"].find_one() is None
