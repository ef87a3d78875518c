"""What the clients of the workloads on MongoDB do to the documents, and what they answer the journal."""

from __future__ import annotations

from typing import Any

import pytest
from memory_mongo import MemoryMongo
from pymongo import ReadPreference
from pymongo.errors import AutoReconnect, DuplicateKeyError, OperationFailure
from pymongo.write_concern import WriteConcern

from shardmart.ledger.mongodb import MongoSystem
from shardmart.ledger.system import NoEffectError
from shardmart.ledger.workloads import WORKLOADS
from shardmart.ledger.workloads.transfer import ACCOUNTS, INITIAL_CENTS, TOTAL_CENTS
from shardmart.ledger.workloads.workload import Client


@pytest.fixture
def mongo() -> MemoryMongo:
    return MemoryMongo()


def client_of(workload: str, mongo: MemoryMongo) -> Client[Any]:
    system = MongoSystem(mongo, "ledger", WriteConcern("majority"), 5000)  # type: ignore[arg-type]
    return WORKLOADS[workload].client(system, "r1")


def held(mongo: MemoryMongo, collection: str) -> dict[str, Any]:
    return mongo.documents["ledger"][collection]


def test_an_append_makes_the_list_and_a_read_returns_the_whole_of_it(mongo: MemoryMongo) -> None:
    client = client_of("append", mongo)
    assert client.invoke("read", {"key": 4}, 9) == []
    assert [client.invoke("append", {"key": 4}, number) for number in (11, 12)] == [1, 1]
    assert client.invoke("append", {"key": 5}, 13) == 1
    assert client.invoke("read", {"key": 4}, 14) == [11, 12]
    assert held(mongo, "lists") == {"r1:4": {"_id": "r1:4", "items": [11, 12]}, "r1:5": {"_id": "r1:5", "items": [13]}}


@pytest.mark.parametrize(("workload", "collection"), [("append", "lists"), ("register", "registers")])
def test_reads_are_linearizable_and_bounded_in_time(mongo: MemoryMongo, workload: str, collection: str) -> None:
    client_of(workload, mongo).invoke("read", {"key": 4}, 9)
    assert mongo.done == [f"find_one {collection} linearizable"]
    assert mongo.bounds == [5000]
    assert all(preference == ReadPreference.PRIMARY for preference in mongo.preferences)


def test_a_register_is_written_read_and_changed_only_from_the_value_expected(mongo: MemoryMongo) -> None:
    client = client_of("register", mongo)
    assert client.invoke("read", {"key": 0}, 1) == {"value": None}
    assert client.invoke("cas", {"key": 0, "expected": 1, "value": 2}, 2) == 0
    assert held(mongo, "registers") == {}, "a compare-and-set makes no register"
    assert client.invoke("write", {"key": 0, "value": 3}, 3) == 1
    assert client.invoke("read", {"key": 0}, 4) == {"value": 3}
    assert client.invoke("cas", {"key": 0, "expected": 7, "value": 5}, 5) == 0
    assert client.invoke("cas", {"key": 0, "expected": 3, "value": 6}, 6) == 1
    assert held(mongo, "registers") == {"r1:0": {"_id": "r1:0", "value": 6}}


def test_an_order_is_placed_with_its_history_and_moved_along(mongo: MemoryMongo) -> None:
    client = client_of("orders", mongo)
    assert client.invoke("place", {"order": 7, "user": 3, "cents": 250}, 7) == 1
    assert client.invoke("advance", {"order": 7, "user": 3, "status": "paid"}, 8) == 1
    assert held(mongo, "orders")["r1:7"] == {
        "_id": "r1:7", "user_id": 3, "total_cents": 250, "status": "paid",
        "history": [{"op": 7, "status": "placed"}, {"op": 8, "status": "paid"}],
    }  # fmt: skip


def test_a_step_of_an_order_that_is_not_there_changes_nothing(mongo: MemoryMongo) -> None:
    client = client_of("orders", mongo)
    client.invoke("place", {"order": 7, "user": 3, "cents": 250}, 7)
    assert client.invoke("advance", {"order": 7, "user": 4, "status": "paid"}, 8) == 0
    assert client.invoke("advance", {"order": 9, "user": 3, "status": "paid"}, 8) == 0
    assert list(held(mongo, "orders")) == ["r1:7"]
    assert held(mongo, "orders")["r1:7"]["status"] == "placed"


def test_an_order_that_is_placed_twice_is_the_servers_to_refuse(mongo: MemoryMongo) -> None:
    client = client_of("orders", mongo)
    client.invoke("place", {"order": 7, "user": 3, "cents": 250}, 7)
    with pytest.raises(DuplicateKeyError):
        client.invoke("place", {"order": 7, "user": 3, "cents": 250}, 7)


def test_units_are_reserved_until_too_few_are_left(mongo: MemoryMongo) -> None:
    client = client_of("stock", mongo)
    assert client.invoke("reserve", {"product": 2, "units": 1}, 1) == 0
    assert client.invoke("stock", {"product": 2, "units": 5}, 2) == 1
    assert client.invoke("reserve", {"product": 2, "units": 3}, 3) == 1
    assert client.invoke("reserve", {"product": 2, "units": 3}, 4) == 0
    assert client.invoke("reserve", {"product": 2, "units": 2}, 5) == 1, "the last units may be had"
    assert held(mongo, "stock")["r1:2"] == {
        "_id": "r1:2", "initial": 5, "available": 0, "sold": 5,
        "reservations": [{"op": 3, "units": 3}, {"op": 5, "units": 2}],
    }  # fmt: skip


def balances(mongo: MemoryMongo) -> dict[int, int]:
    """The accounts that hold something else than at the beginning."""
    found = {int(key.split(":")[1]): one["balance_cents"] for key, one in held(mongo, "accounts").items()}
    return {number: cents for number, cents in found.items() if cents != INITIAL_CENTS}


MOVE = {"source": 3, "target": 5, "cents": 70}
BEGIN, END = "begin with snapshot, w majority, 5000 ms", "end of the session"
STEPS = [
    "update_one accounts in the transaction",
    "update_one accounts in the transaction",
    "insert_one transfers in the transaction",
]


def bank(mongo: MemoryMongo) -> Client[Any]:
    client = client_of("transfer", mongo)
    client.begin()
    mongo.done.clear()
    return client


def test_every_account_is_opened_with_the_same_money(mongo: MemoryMongo) -> None:
    bank(mongo)
    assert sorted(held(mongo, "accounts")) == sorted(f"r1:{number}" for number in range(ACCOUNTS))
    assert balances(mongo) == {}


def test_a_transfer_debits_credits_and_notes_in_one_transaction(mongo: MemoryMongo) -> None:
    assert bank(mongo).invoke("transfer", MOVE, 9) == 1
    assert balances(mongo) == {3: INITIAL_CENTS - 70, 5: INITIAL_CENTS + 70}
    assert held(mongo, "transfers") == {"r1:9": {"_id": "r1:9", "op": 9, **MOVE}}
    assert mongo.done == [BEGIN, *STEPS, "commit", END]


def test_the_last_cent_may_be_moved_and_no_more(mongo: MemoryMongo) -> None:
    client = bank(mongo)
    assert client.invoke("transfer", MOVE | {"cents": INITIAL_CENTS + 1}, 8) == 0
    assert mongo.done == [BEGIN, "update_one accounts in the transaction", "abort", END]
    assert balances(mongo) == {}
    assert held(mongo, "transfers") == {}
    assert client.invoke("transfer", MOVE | {"cents": INITIAL_CENTS}, 9) == 1
    assert balances(mongo) == {3: 0, 5: 2 * INITIAL_CENTS}


def test_an_audit_sums_the_accounts_of_its_run_in_a_snapshot(mongo: MemoryMongo) -> None:
    client = bank(mongo)
    mongo.documents["ledger"]["accounts"]["r2:1"] = {"_id": "r2:1", "balance_cents": 5}
    client.invoke("transfer", MOVE, 9)
    mongo.done.clear()
    assert client.invoke("audit", {}, 10) == TOTAL_CENTS
    assert mongo.done == [BEGIN, "find accounts in the transaction", "commit", END]


@pytest.mark.parametrize("aborts", [True, False])
def test_an_error_before_the_commit_has_certainly_no_effect(mongo: MemoryMongo, aborts: bool) -> None:
    client = bank(mongo)
    mongo.fail["insert_one transfers"] = AutoReconnect("connection closed")
    if not aborts:
        mongo.fail["abort"] = OperationFailure("no such transaction", 251)
    with pytest.raises(NoEffectError, match="before commit: AutoReconnect: connection closed"):
        client.invoke("transfer", MOVE, 9)
    assert balances(mongo) == {}
    assert "commit" not in mongo.done


def test_an_error_of_the_commit_itself_is_the_systems_to_classify(mongo: MemoryMongo) -> None:
    client = bank(mongo)
    mongo.fail["commit"] = AutoReconnect("connection closed")
    with pytest.raises(AutoReconnect):
        client.invoke("transfer", MOVE, 9)
    assert "abort" not in mongo.done
