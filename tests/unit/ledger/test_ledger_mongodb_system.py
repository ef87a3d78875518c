"""MongoDB as the ledger's system: how it connects, what it makes before a run, reads after it, and deletes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from memory_mongo import MemoryMongo
from pymongo.errors import AutoReconnect, CollectionInvalid, OperationFailure
from pymongo.write_concern import WriteConcern

from shardmart.declare import topology
from shardmart.errors import BadUseError
from shardmart.ledger.mongodb import MongoSystem, collections, members
from shardmart.ledger.system import Examination, PrepareError, Target
from tests.support.clusters import ROOT

URI = "mongodb://user:secret@127.0.0.1:1/?directConnection=true"
KEYS: dict[str, dict[str, Any]] = {"orders": {"user": 1}, "stock": {"_id": "hashed"}}
ROUTER = {"msg": "isdbgrid"}


def system(mongo: MemoryMongo) -> MongoSystem:
    return MongoSystem(mongo, "ledger", WriteConcern("majority"), 5000)  # type: ignore[arg-type]


def test_collections_are_sharded_behind_a_router_and_only_made_without_one() -> None:
    router, plain = MemoryMongo(ROUTER), MemoryMongo({"setName": "one"})
    assert collections.prepare(router, "ledger", KEYS) == ["orders", "stock"]  # type: ignore[arg-type]
    assert (router.sharded, router.created) == ({"ledger.orders": {"user": 1}, "ledger.stock": {"_id": "hashed"}}, [])
    assert collections.prepare(plain, "ledger", KEYS) == ["orders", "stock"]  # type: ignore[arg-type]
    assert (plain.sharded, plain.created) == ({}, ["orders", "stock"])


@pytest.mark.parametrize("hello", [ROUTER, {}])
def test_what_is_there_already_is_not_said_to_be_new(hello: dict[str, Any]) -> None:
    mongo = MemoryMongo(hello)
    mongo.documents["ledger"]["orders"]["r1:1"] = {"_id": "r1:1"}
    assert collections.prepare(mongo, "ledger", KEYS) == ["stock"]  # type: ignore[arg-type]
    assert "orders" not in mongo.created


def test_a_collection_that_is_sharded_otherwise_stays_as_it_is() -> None:
    mongo = MemoryMongo(ROUTER)
    mongo.fail["shardCollection"] = OperationFailure("already sharded", 23)
    assert collections.prepare(mongo, "ledger", KEYS) == []  # type: ignore[arg-type]


def test_a_collection_that_another_run_made_meanwhile_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(self: object, name: str) -> None:
        raise CollectionInvalid(f"collection {name} already exists")

    monkeypatch.setattr("memory_mongo.MemoryDatabase.create_collection", create)
    assert collections.prepare(MemoryMongo(), "ledger", KEYS) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("details", [{"errmsg": "not authorized on ledger"}, None])
def test_a_refusal_is_told_with_what_to_grant(details: dict[str, Any] | None) -> None:
    mongo = MemoryMongo(ROUTER)
    mongo.fail["shardCollection"] = OperationFailure("not authorized on ledger", 13, details)
    words = r"^cannot shard ledger.orders by {'user': 1}: not authorized on ledger\S*\. The user needs readWrite"
    with pytest.raises(PrepareError, match=words.replace(r"\S*", r"(, full error: .*)?")):
        system(mongo).prepare(KEYS)


def filled() -> MemoryMongo:
    mongo = MemoryMongo()
    for key in ("r1:1", "r1:2", "r12:1", "r0:1"):
        mongo.documents["ledger"]["orders"][key] = {"_id": key, "user": 1}
    mongo.documents["ledger"]["stock"]["r1:7"] = {"_id": "r1:7"}
    return mongo


def test_clean_deletes_the_documents_of_one_run_or_of_all() -> None:
    one, every = filled(), filled()
    assert system(one).clean("r1") == {"orders": 2, "stock": 1}
    assert list(one.documents["ledger"]["orders"]) == ["r12:1", "r0:1"]
    assert system(every).clean(None) == {"orders": 4, "stock": 1}
    assert every.documents["ledger"]["orders"] == {}


def test_final_documents_are_the_runs_own_read_by_majority_without_its_name() -> None:
    mongo = filled()
    assert list(system(mongo).documents("r1", "orders")) == [{"_id": "1", "user": 1}, {"_id": "2", "user": 1}]
    assert mongo.done == ["find orders majority"]


def test_only_errors_of_the_driver_are_the_systems() -> None:
    assert system(MemoryMongo()).classify(AutoReconnect("gone")) == ("unknown", "AutoReconnect: gone")
    assert system(MemoryMongo()).classify(ZeroDivisionError("a bug")) is None


@pytest.fixture
def _known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state folder that describes a cluster, and no other word of where one is."""
    monkeypatch.delenv("SHARDMART_URI", raising=False)
    (tmp_path / "cluster.json").write_text(
        topology.load(ROOT / "inventories" / "topology.yml").resolve(lambda _: ("127.0.0.1", 1)).dumps()
    )


def options(target: Target) -> Any:
    connected = MongoSystem.connect(target)
    try:
        return connected, connected.client.options
    finally:
        connected.close()


def test_a_clients_operation_is_bounded_as_a_whole_and_retried_within_that() -> None:
    connected, of = options(Target("ledger", uri=URI, operation_seconds=2.5, connections=7))
    assert connected.timeout_ms == 2500
    assert (of.timeout, of.server_selection_timeout, of.pool_options.max_pool_size) == (2.5, 2.5, 7)
    assert (of.retry_writes, of.retry_reads) == (True, True)
    assert connected.on_shards, "so that the shards say how long it was without writes"


def test_a_check_reads_as_long_as_it_must() -> None:
    connected, of = options(Target("ledger", uri=URI))
    assert connected.timeout_ms == 60_000
    assert of.timeout is None


@pytest.mark.parametrize(("said", "concern"), [("majority", {"w": "majority"}), ("2", {"w": 2}), ("two", {"w": "two"})])
def test_a_write_concern_is_a_number_or_a_name(said: str, concern: dict[str, Any]) -> None:
    connected, _ = options(Target("ledger", uri=URI, write_concern=said))
    assert connected.write_concern.document == concern
    assert connected.collection("orders").write_concern.document == concern


def test_a_connection_string_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(BadUseError, match=r"^not a usable MongoDB connection string: \w+$") as failure:
        MongoSystem.connect(Target("ledger", uri="mongodb://user:sec/ret@a:b:c/"))
    assert "ret" not in str(failure.value).split(": ")[1]


@pytest.mark.usefixtures("_known")
@pytest.mark.parametrize("given", ["nothing", "uri", "uri_file", "no description"])
def test_the_members_are_known_only_of_the_cluster_in_the_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    file = tmp_path / "uri"
    file.write_text(URI)
    if given == "no description":
        (tmp_path / "cluster.json").unlink()
    monkeypatch.setenv("SHARDMART_URI", URI)  # where it is, without saying that it is another
    target = Target(
        "ledger",
        uri=URI if given == "uri" else None,
        uri_file=file if given == "uri_file" else None,
        state=tmp_path,
    )
    connected, _ = options(target)
    looked: list[Any] = []

    def check(*arguments: Any) -> Examination:
        looked.extend(arguments[-2:])
        return Examination(checked=["all of them"])

    monkeypatch.setattr(members, "check", check)
    if given == "nothing":
        assert connected.examine(None) == Examination(checked=["all of them"])
        assert connected.examine(0.5) == Examination(checked=["all of them"])
        assert looked == [["ledger"], members.WAIT_SECONDS, ["ledger"], 0.5]
    else:
        assert connected.examine(None) == Examination(notes=["the members behind the router were not looked at"])
        assert looked == []
