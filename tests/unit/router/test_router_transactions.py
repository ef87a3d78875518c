"""What the router remembers of a transaction."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64, Timestamp

from shardmart.router.client import Client
from shardmart.router.operations.context import Context
from shardmart.router.operations.service import Service
from shardmart.router.protocol import rawbson, wire
from shardmart.router.protocol.errors import RouterError
from shardmart.router.routing.catalog import Database, Routing
from shardmart.router.routing.member import Credentials
from shardmart.router.routing.replica_set import ReplicaSet

LSID = {"id": Binary(bytes(16), 4)}


def heard(seconds: int) -> wire.Message:
    return wire.Message(1, 0, rawbson.encode({"$clusterTime": {"clusterTime": Timestamp(seconds, 0)}}))


@pytest.fixture
def service() -> Service:
    """A service that has heard of cluster time 100, and never talks to anybody here."""
    credentials = Credentials(None)
    found = Service(ReplicaSet("none", ["127.0.0.1:9"], credentials), credentials, {})
    found.clock.observe(heard(100))
    return found


def statement(service: Service, number: int, *, first: bool = False, **fields: Any) -> Context:
    body = {"find": "things", "lsid": LSID, "txnNumber": Int64(number), "autocommit": False, "$db": "shop", **fields}
    if first:
        body["startTransaction"] = True
    context = Context(service, Client(service), wire.Message(1, 0, rawbson.encode(body)))
    service.transactions.begin(context)
    return context


def routing(moved: Timestamp) -> Routing:
    table = Routing("shop.things", Database("shop", "one", {}))
    table.newest_move = moved
    return table


def test_a_transaction_keeps_its_routing_table(service: Service) -> None:
    # A shard whose snapshot is older than a move does not show what moved there: looking for a document at its new
    # owner would find nothing, change nothing, and commit the other half of a transfer.
    old, new = routing(Timestamp(90, 0)), routing(Timestamp(110, 0))
    assert service.transactions.pin(statement(service, 1, first=True), old) is old
    assert service.transactions.pin(statement(service, 1), new) is old


def test_a_move_after_the_begin_makes_the_transaction_run_again(service: Service) -> None:
    first = statement(service, 1, first=True)
    other = Routing("shop.others", Database("shop", "one", {}))
    service.transactions.pin(first, other)
    with pytest.raises(RouterError) as failure:
        service.transactions.pin(statement(service, 1), routing(Timestamp(110, 0)))
    assert failure.value.code == 246


def test_a_snapshot_has_one_time_for_all_shards(service: Service) -> None:
    context = statement(service, 1, first=True, readConcern={"level": "snapshot"})
    service.clock.observe(heard(120))
    service.transactions.pin(context, routing(Timestamp(115, 0)))
    transaction = service.transactions.known(context)
    assert transaction
    assert transaction.read_concern == {"level": "snapshot", "atClusterTime": Timestamp(120, 0)}


def test_numbers_only_grow_and_unknown_transactions_may_be_run_again(service: Service) -> None:
    statement(service, 5, first=True)
    with pytest.raises(RouterError) as failure:
        statement(service, 4, first=True)
    assert failure.value.code == 225
    with pytest.raises(RouterError) as failure:
        statement(service, 6)
    assert failure.value.code == 251
    assert "TransientTransactionError" in failure.value.labels


def test_the_first_shard_that_wrote_tells_the_outcome(service: Service) -> None:
    context = statement(service, 1, first=True)
    transaction = service.transactions.known(context)
    assert transaction
    transaction.participants += ["one", "two", "three"]
    assert service.transactions.recovery_token(context) == {"recoveryToken": {}}
    transaction.wrote |= {"three", "two"}
    assert service.transactions.recovery_token(context) == {"recoveryToken": {"recoveryShardId": "two"}}
