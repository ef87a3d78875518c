"""What each user of access.yml may do and may not, tried on a real cluster through a router and on its config server.

The router authorizes by itself, the config server is a mongod: both must say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from shardmart.cluster.observe import verification
from shardmart.cluster.observe.facts import gather
from shardmart.cluster.protocol.codes import UNAUTHORIZED
from shardmart.cluster.protocol.connection import Credentials
from shardmart.declare import data_model as model_of
from tests.support.clusters import EmbeddedCluster, collection_specs, known_access


class Try(NamedTuple):
    """A command on a database, by a user."""

    user: str
    database: str
    command: dict[str, Any]
    router_only: bool = False


def reads(collection: str) -> dict[str, Any]:
    return {"find": collection, "limit": 1}


def aggregate(collection: str | int, *stages: dict[str, Any]) -> dict[str, Any]:
    return {"aggregate": collection, "pipeline": list(stages), "cursor": {}}


COUNT = {"$collStats": {"count": {}}}
NEW_ROOT = {"createUser": "intruder", "pwd": "x", "roles": [{"role": "root", "db": "admin"}]}
MORE_FOR_ME = {"grantRolesToUser": "loader", "roles": [{"role": "root", "db": "admin"}]}

ALLOWED = [
    Try("monitor", "admin", {"serverStatus": 1}),
    Try("monitor", "admin", {"listShards": 1}, router_only=True),
    Try("monitor", "admin", {"balancerStatus": 1}, router_only=True),
    Try("monitor", "config", reads("chunks")),
    Try("monitor", "config", reads("collections")),
    Try("monitor", "ecommerce", aggregate("users", COUNT), router_only=True),
    Try("loader", "ecommerce", reads("users")),
    Try("loader", "ecommerce", {"update": "users", "updates": [{"q": {"_id": 0}, "u": {"$set": {"a": 1}}}]}, True),
    Try("loader", "ecommerce", {"delete": "users", "deletes": [{"q": {"_id": 0}, "limit": 0}]}, router_only=True),
    Try("loader", "ecommerce", aggregate("users", {"$collStats": {"storageStats": {}}}), router_only=True),
    Try("loader", "config", reads("shards")),
    Try("ledger", "ledger", {"insert": "notes", "documents": [{"a": 1}]}, router_only=True),
    Try("ledger", "ledger", reads("notes")),
    Try("ledger", "admin", {"shardCollection": "ledger.mine", "key": {"_id": "hashed"}}, router_only=True),
    Try("admin", "admin", {"usersInfo": 1}),
]
REFUSED = [
    # Customers, by every way there is to read them.
    *(
        Try("monitor", "ecommerce", command)
        for command in (
            reads("users"),
            {"count": "users"},
            {"distinct": "users", "key": "email"},
            aggregate("users"),
            aggregate("users", COUNT, {"$lookup": {"from": "users", "pipeline": [], "as": "all"}}),
            {"listCollections": 1},
            {"insert": "users", "documents": [{"a": 1}]},
        )
    ),
    # Where a server quotes what clients ask.
    Try("monitor", "admin", {"getLog": "global"}),
    Try("monitor", "admin", aggregate(1, {"$currentOp": {"allUsers": True}})),
    Try("monitor", "ecommerce", reads("system.profile")),
    Try("monitor", "admin", reads("system.users")),
    Try("monitor", "admin", {"usersInfo": 1}),
    Try("monitor", "admin", NEW_ROOT),
    Try("monitor", "config", {"update": "settings", "updates": [{"q": {}, "u": {"$set": {"mode": "off"}}}]}),
    Try("monitor", "admin", {"balancerStop": 1}, router_only=True),
    Try("loader", "admin", NEW_ROOT),
    Try("loader", "admin", MORE_FOR_ME),
    Try("loader", "admin", reads("system.users")),
    Try("loader", "ledger", reads("orders")),
    Try("loader", "config", reads("chunks")),
    Try("loader", "ecommerce", {"dropDatabase": 1}),
    Try("loader", "admin", {"shardCollection": "ecommerce.mine", "key": {"_id": 1}}, router_only=True),
    Try("loader", "admin", {"serverStatus": 1}),
    Try("ledger", "ecommerce", reads("users")),
    Try("ledger", "ecommerce", aggregate("orders", COUNT)),
    Try("ledger", "admin", {"shardCollection": "ecommerce.mine", "key": {"_id": 1}}, router_only=True),
    Try("ledger", "admin", NEW_ROOT),
    Try("ledger", "config", reads("shards")),
    Try(
        "ledger",
        "ledger",
        aggregate("notes", {"$lookup": {"from": {"db": "ecommerce", "coll": "users"}, "as": "u"}}),
        router_only=True,  # a mongod cannot parse it
    ),
]


@pytest.fixture(scope="module")
def places(cluster: EmbeddedCluster) -> Iterator[dict[tuple[str, str], MongoClient[dict[str, Any]]]]:
    """A client of every user, through the router and on the config server."""
    router, config = cluster.router, cluster.description.config_servers.members[0].address
    clients = {
        (place, user.name): MongoClient[dict[str, Any]](
            where, username=user.name, password=cluster.state.password(user.name), directConnection=True
        )
        for place, where in (("router", router), ("config server", config))
        for user in known_access().users
    }
    yield clients
    for client in clients.values():
        client.close()


def code(client: MongoClient[dict[str, Any]], attempt: Try) -> int:
    """The error code of the attempt, 0 when it was served."""
    try:
        client[attempt.database].command(attempt.command)
    except OperationFailure as error:
        return error.code or 0
    return 0


def described(attempt: Try) -> str:
    return f"{attempt.user} {attempt.database}.{'-'.join(map(str, next(iter(attempt.command.items()))))}"


@pytest.mark.parametrize("attempt", ALLOWED, ids=described)
def test_a_user_may_do_its_work(places: dict[tuple[str, str], Any], attempt: Try) -> None:
    assert code(places["router", attempt.user], attempt) == 0
    if not attempt.router_only:
        assert code(places["config server", attempt.user], attempt) == 0


@pytest.mark.parametrize("attempt", REFUSED, ids=described)
def test_a_user_may_do_no_more(places: dict[tuple[str, str], Any], attempt: Try) -> None:
    assert code(places["router", attempt.user], attempt) == UNAUTHORIZED
    if not attempt.router_only:
        assert code(places["config server", attempt.user], attempt) == UNAUTHORIZED


def test_status_needs_no_more_than_the_monitor_has(cluster: EmbeddedCluster) -> None:
    monitor = Credentials("monitor", cluster.folder / "secrets" / "monitor.password")
    facts = gather(cluster.description, router=monitor, members=cluster.members_credentials)
    assert facts["problems"] == []
    assert {entry["namespace"] for entry in facts["sharding"]["collections"]} >= {
        f"ecommerce.{collection.name}" for collection in model_of.load().collections
    }


def test_verification_says_who_may_not_read_customers_and_notices_who_may(cluster: EmbeddedCluster) -> None:
    def claims(*strangers: str) -> dict[str, str | None]:
        checks = verification.verify(
            cluster.description,
            model_of.load().database,
            collection_specs(model_of.load()),
            administrator=cluster.admin,
            members=cluster.members_credentials,
            strangers=[Credentials(name, cluster.folder / "secrets" / f"{name}.password") for name in strangers],
        )
        return {check.claim: check.failure for check in checks if "may not read" in check.claim}

    assert claims("monitor", "ledger", "loader") == {
        "monitor may not read ecommerce.{users, products, orders}": None,
        "ledger may not read ecommerce.{users, products, orders}": None,
        "loader may not read ecommerce.{users, products, orders}": "it reads users",
    }
