"""A client may do what its roles allow, and nothing else, on every command the router serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bson import Int64
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from shardmart.router import commands
from shardmart.router.operations.context import COMMANDS
from tests.support.clusters import EmbeddedCluster

assert commands
NAMESPACE = "secrets.things"
USER = {"user": "admin", "db": "admin"}
ROLES = [{"role": "root", "db": "admin"}]
# Commands that need arguments to be themselves; all others are sent with the collection's name.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "aggregate": {"pipeline": [], "cursor": {}},
    "collMod": {"validator": {}},
    "create": {},
    "createIndexes": {"indexes": [{"key": {"a": 1}, "name": "a"}]},
    "createRole": {"privileges": [], "roles": ROLES},
    "createUser": {"pwd": "x", "roles": ROLES},
    "delete": {"deletes": [{"q": {}, "limit": 0}]},
    "distinct": {"key": "a"},
    "dropIndexes": {"index": "*"},
    "findAndModify": {"query": {}, "update": {"$set": {"a": 1}}},
    "findandmodify": {"query": {}, "remove": True},
    "grantPrivilegesToRole": {"privileges": [{"resource": {"cluster": True}, "actions": ["shutdown"]}]},
    "grantRolesToRole": {"roles": ROLES},
    "grantRolesToUser": {"roles": ROLES},
    "insert": {"documents": [{"a": 1}]},
    "killOp": {"op": "shard1ReplSet:1"},
    "moveChunk": {"find": {"a": 1}, "to": "shard1ReplSet"},
    "movePrimary": {"to": "shard1ReplSet"},
    "renameCollection": {"to": "secrets.others"},
    "revokePrivilegesFromRole": {"privileges": [{"resource": {"cluster": True}, "actions": ["shutdown"]}]},
    "revokeRolesFromRole": {"roles": ROLES},
    "revokeRolesFromUser": {"roles": ROLES},
    "shardCollection": {"key": {"a": 1}},
    "update": {"updates": [{"q": {}, "u": {"$set": {"a": 1}}}]},
    "updateRole": {"roles": ROLES},
    "updateUser": {"pwd": "x"},
}  # fmt: skip
ON_ADMIN = {
    "addShard", "addShardToZone", "balancerCollectionStatus", "balancerStart", "balancerStatus", "balancerStop",
    "clearJumboFlag", "configureCollectionBalancing", "enableSharding", "getShardVersion", "listShards", "moveChunk",
    "movePrimary", "moveRange", "refineCollectionShardKey", "removeShard", "removeShardFromZone", "renameCollection",
    "reshardCollection", "shardCollection", "split", "updateZoneKeyRange",
}  # fmt: skip
# Open to everybody who has logged in: they say nothing about data, or only about the client's own sessions and cursors.
OPEN = {
    "abortTransaction", "buildInfo", "buildinfo", "commitTransaction", "connectionStatus", "endSessions",
    "killSessions", "listCommands", "listDatabases", "ping", "whatsmyuri",
}  # fmt: skip
BEFORE_LOGIN = {"buildInfo", "buildinfo", "connectionStatus", "ping", "whatsmyuri"}


def attempt(client: MongoClient[dict[str, Any]], name: str) -> int:
    """The error code of a command about somebody else's data; 0 when it is served."""
    namespace = name in {"split", "clearJumboFlag", "balancerCollectionStatus"} or (name in ON_ADMIN)
    first: Any = NAMESPACE if namespace else "things"
    if name in {"getMore"}:
        first, extra = Int64(123), {"collection": "things"}
    elif name == "killCursors":
        first, extra = "things", {"cursors": [Int64(123)]}
    elif name == "explain":
        first, extra = {"find": "things"}, {}
    elif name in {"usersInfo", "rolesInfo", "endSessions", "killSessions", "killAllSessions"}:
        first, extra = (1 if name.endswith("Info") else []), {}
    else:
        extra = ARGUMENTS.get(name, {})
    try:
        client["admin" if name in ON_ADMIN or name == "killOp" else "secrets"].command(name, first, **extra)
    except OperationFailure as error:
        return error.code or 0
    return 0


@pytest.fixture(scope="module")
def nobody(cluster: EmbeddedCluster) -> Iterator[MongoClient[dict[str, Any]]]:
    with cluster.client() as admin:
        admin.secrets.things.insert_one({"_id": 1})
        admin.admin.command("createUser", "nobody", pwd="nothing", roles=[])
        with MongoClient(f"mongodb://nobody:nothing@{cluster.router}/") as client:
            yield client
        admin.admin.command("dropUser", "nobody")
        admin.drop_database("secrets")


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - OPEN - {"getMore", "killCursors"}))
def test_a_user_without_roles_may_not_run(nobody: MongoClient[dict[str, Any]], name: str) -> None:
    assert attempt(nobody, name) == 13


OWN, ANOTHER = {"user": "nobody", "db": "admin"}, {"user": "admin", "db": "admin"}


@pytest.mark.parametrize(
    "asked", [OWN | {"forAllDBs": True}, {"forAllDBs": True}, ANOTHER, [ANOTHER], [OWN, ANOTHER], "admin", 1, []]
)
@pytest.mark.parametrize("database", ["admin", "secrets"])
def test_a_user_without_roles_sees_nobody_but_itself(
    nobody: MongoClient[dict[str, Any]], asked: Any, database: str
) -> None:
    """A member that sees `forAllDBs` shows every user, whoever is named beside it; to it the caller is the router."""
    with pytest.raises(OperationFailure) as refused:
        nobody[database].command("usersInfo", asked, showCredentials=True)
    assert refused.value.code == 13
    for own in (OWN, [OWN]):
        assert [user["user"] for user in nobody[database].command("usersInfo", own)["users"]] == ["nobody"]


def test_who_sees_the_users_of_one_database_does_not_see_those_of_another(cluster: EmbeddedCluster) -> None:
    with cluster.client() as admin:
        admin.secrets.command("createUser", "clerk", pwd="nothing", roles=[{"role": "userAdmin", "db": "secrets"}])
        try:
            with MongoClient(f"mongodb://clerk:nothing@{cluster.router}/secrets") as clerk:
                assert len(clerk.secrets.command("usersInfo", 1)["users"]) == 1
                role = {"role": "r", "db": "admin"}
                for command, asked in (("usersInfo", ANOTHER), ("usersInfo", [ANOTHER]), ("rolesInfo", role)):
                    with pytest.raises(OperationFailure) as refused:
                        clerk.secrets.command(command, asked)
                    assert refused.value.code == 13
                assert len(admin.admin.command("usersInfo", {"forAllDBs": True})["users"]) > 1
        finally:
            admin.secrets.command("dropUser", "clerk")


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - BEFORE_LOGIN))
def test_nobody_who_has_not_logged_in_may_run(cluster: EmbeddedCluster, name: str) -> None:
    with MongoClient(f"mongodb://{cluster.router}/") as anonymous:
        assert attempt(anonymous, name) == 13


def test_a_user_without_roles_sees_no_database_and_no_cursor(nobody: MongoClient[dict[str, Any]]) -> None:
    assert nobody.admin.command("listDatabases")["databases"] == []
    assert attempt(nobody, "getMore") == 43
    assert nobody.secrets.command("killCursors", "things", cursors=[Int64(1)])["cursorsNotFound"] == [1]


def test_a_cursor_belongs_to_the_user_who_opened_it(
    cluster: EmbeddedCluster, nobody: MongoClient[dict[str, Any]]
) -> None:
    with cluster.client() as admin:
        admin.secrets.many.insert_many([{"_id": i} for i in range(50)])
        cursor = admin.secrets.command("find", "many", batchSize=2)["cursor"]["id"]
        with pytest.raises(OperationFailure) as failure:
            nobody.secrets.command("getMore", cursor, collection="many")
        assert failure.value.code == 13
        assert nobody.secrets.command("killCursors", "many", cursors=[cursor])["cursorsNotFound"] == [cursor]
        assert len(admin.secrets.command("getMore", cursor, collection="many")["cursor"]["nextBatch"]) == 48


def test_wrong_passwords_and_unknown_users_fail_alike(cluster: EmbeddedCluster) -> None:
    for user in ("admin:wrong", "stranger:wrong", "__system:wrong"):
        with MongoClient(f"mongodb://{user}@{cluster.router}/?authSource=admin") as client:
            with pytest.raises(OperationFailure) as failure:
                client.admin.command("listDatabases")
            assert failure.value.code == 18


def test_the_internal_user_cannot_log_in_through_the_router(cluster: EmbeddedCluster) -> None:
    options = cluster.members_credentials.options()
    with MongoClient(cluster.router, **options) as client, pytest.raises(OperationFailure) as failure:
        client.admin.command("listDatabases")
    assert failure.value.code == 18


@pytest.fixture(scope="module")
def shopkeeper(cluster: EmbeddedCluster) -> Iterator[MongoClient[dict[str, Any]]]:
    """readWrite on `counter`, nothing on `vault`."""
    with cluster.client() as admin:
        admin.counter.things.insert_one({"_id": 1})
        admin.vault.gold.insert_one({"_id": 1})
        admin.admin.command("createUser", "keeper", pwd="keys", roles=[{"role": "readWrite", "db": "counter"}])
        with MongoClient(f"mongodb://keeper:keys@{cluster.router}/") as client:
            yield client
        admin.admin.command("dropUser", "keeper")
        for name in ("counter", "vault"):
            admin.drop_database(name)


@pytest.mark.parametrize(
    "pipeline",
    [
        [{"$out": {"db": "vault", "coll": "copy"}}],
        [{"$merge": {"into": {"db": "vault", "coll": "gold"}}}],
        [{"$lookup": {"from": {"db": "vault", "coll": "gold"}, "pipeline": [], "as": "x"}}],
        [{"$facet": {"a": [{"$lookup": {"from": "system.profile", "pipeline": [], "as": "x"}}]}}],
        [{"$unionWith": {"coll": "system.profile", "pipeline": []}}],
        [{"$indexStats": {}}, {"$lookup": {"from": "system.profile", "pipeline": [], "as": "x"}}],
        [{"$mergeCursors": {}}],
        [{"$_internalInhibitOptimization": {}}],
    ],
    ids=lambda pipeline: next(iter(pipeline[-1])),
)
def test_a_pipeline_reaches_no_further_than_its_user(
    shopkeeper: MongoClient[dict[str, Any]], pipeline: list[Any]
) -> None:
    with pytest.raises(OperationFailure) as failure:
        list(shopkeeper.counter.things.aggregate(pipeline))
    assert failure.value.code in (13, 40324, 5491300, 9), failure.value


def test_a_role_reaches_its_own_database_only(shopkeeper: MongoClient[dict[str, Any]]) -> None:
    shopkeeper.counter.things.insert_one({"_id": 2})
    assert shopkeeper.counter.things.find_one({"_id": 2})
    assert shopkeeper.list_database_names() == ["counter"]
    for forbidden in (
        lambda: shopkeeper.vault.gold.find_one(),
        lambda: shopkeeper.vault.gold.insert_one({}),
        lambda: shopkeeper.config.shards.find_one(),
        lambda: shopkeeper.admin["system.users"].find_one(),
        lambda: shopkeeper.counter["system.profile"].find_one(),
        lambda: shopkeeper.drop_database("vault"),
    ):
        with pytest.raises(OperationFailure) as failure:
            forbidden()
        assert failure.value.code == 13


def test_a_granted_role_counts_at_once(cluster: EmbeddedCluster, shopkeeper: MongoClient[dict[str, Any]]) -> None:
    with cluster.client() as admin:
        admin.admin.command("grantRolesToUser", "keeper", roles=[{"role": "read", "db": "vault"}])
        assert shopkeeper.vault.gold.find_one({"_id": 1})
        admin.admin.command("revokeRolesFromUser", "keeper", roles=[{"role": "read", "db": "vault"}])
        with pytest.raises(OperationFailure):
            shopkeeper.vault.gold.find_one({"_id": 1})
