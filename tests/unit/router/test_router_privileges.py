"""What each resource of a privilege covers, what a pipeline needs, and what is asked of whom before a command runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest

from shardmart.router import commands
from shardmart.router.operations import authorization
from shardmart.router.operations.authorization import Need, Privileges, Users, pipeline_needs
from shardmart.router.operations.context import COMMANDS
from shardmart.router.protocol.errors import RouterError

assert commands
ALL = {"db": "", "collection": ""}


def allows(resource: dict[str, Any], need: Need, *actions: str) -> bool:
    return Privileges([{"resource": resource, "actions": list(actions or (need.action,))}]).allow(need)


@pytest.mark.parametrize(
    ("resource", "need", "covered"),
    [
        ({"anyResource": True}, Need("find", "config", "shards"), True),
        ({"anyResource": True}, Need("shutdown"), True),
        ({"cluster": True}, Need("shutdown"), True),
        ({"cluster": True}, Need("find", "shop", "orders"), False),
        ({"cluster": False}, Need("shutdown"), False),
        (ALL, Need("shutdown"), False),
        (ALL, Need("find", "shop", "orders"), True),
        (ALL, Need("find", "shop"), True),
        (ALL, Need("find", "config", "shards"), False),
        (ALL, Need("find", "local", "oplog.rs"), False),
        (ALL, Need("find", "config"), False),
        (ALL, Need("find", "shop", "system.users"), False),
        (ALL, Need("find", "shop", "system.views"), True),
        ({"db": "config", "collection": ""}, Need("find", "config", "shards"), True),
        ({"db": "shop", "collection": ""}, Need("find", "shop", "orders"), True),
        ({"db": "shop", "collection": ""}, Need("find", "other", "orders"), False),
        ({"db": "shop", "collection": ""}, Need("find", "shop"), True),
        ({"db": "shop", "collection": "orders"}, Need("find", "shop"), False),
        ({"db": "shop", "collection": "orders"}, Need("find", "shop", "orders"), True),
        ({"db": "shop", "collection": "orders"}, Need("find", "shop", "users"), False),
        ({"db": "shop", "collection": "system.js"}, Need("find", "shop", "system.js"), True),
        ({"db": "", "collection": "orders"}, Need("find", "config", "orders"), True),
        ({"db": "", "collection": "orders"}, Need("find", "shop", "orders"), True),
    ],
)
def test_resource_covers(resource: dict[str, Any], need: Need, covered: bool) -> None:
    assert allows(resource, need) is covered


def test_action_has_to_be_named_or_any() -> None:
    need = Need("find", "shop", "orders")
    assert allows(ALL, need, "insert", "find")
    assert allows(ALL, need, "anyAction")
    assert not allows(ALL, need, "insert")


def test_one_privilege_that_covers_is_enough_and_none_is_made_of_two() -> None:
    two = [
        {"resource": {"db": "shop", "collection": "orders"}, "actions": ["find"]},
        {"resource": {"db": "other", "collection": ""}, "actions": ["insert"]},
    ]
    assert Privileges(two).allow(Need("insert", "other", "x"))
    assert not Privileges(two).allow(Need("insert", "shop", "orders"))


@pytest.mark.parametrize(
    ("resource", "shown"),
    [
        ({"anyResource": True}, True),
        (ALL, True),
        ({"db": "shop", "collection": "orders"}, True),
        ({"db": "other", "collection": ""}, False),
        ({"cluster": True}, False),
    ],
)
def test_database_is_shown_to_who_may_read_something_of_it(resource: dict[str, Any], shown: bool) -> None:
    privileges = Privileges([{"resource": resource, "actions": ["find"]}])
    assert bool(privileges.allow_somewhere("find", "shop")) is shown
    assert not privileges.allow_somewhere("insert", "shop")


FIND = Need("find", "shop", "a")


@pytest.mark.parametrize(
    ("pipeline", "needs"),
    [
        ([], [FIND]),
        ([{"$match": {}}], [FIND]),
        ([{"$currentOp": {}}], []),
        ([{"$currentOp": {"allUsers": False}}], []),
        ([{"$currentOp": {"allUsers": True}}], [Need("inprog")]),
        ([{"$listSessions": {}}], []),
        ([{"$listSessions": {"allUsers": True}}], [Need("listSessions")]),
        ([{"$listSessions": {"users": [{"user": "u", "db": "d"}]}}], [Need("listSessions")]),
        ([{"$documents": []}], []),
        ([{"$collStats": {}}], [Need("collStats", "shop", "a")]),
        ([{"$indexStats": {}}], [Need("indexStats", "shop", "a")]),
        ([{"$planCacheStats": {}}], [Need("planCacheRead", "shop", "a")]),
        ([{"$match": {}}, {"$collStats": {}}], [FIND, Need("collStats", "shop", "a")]),
        ([{"$changeStream": {}}], [FIND, Need("changeStream", "shop", "a")]),
        (
            [{"$changeStream": {"allChangesForCluster": True}}],
            [Need("find", ""), Need("changeStream", "")],
        ),
        ([{"$lookup": {"from": "b", "as": "x"}}], [FIND, Need("find", "shop", "b")]),
        ([{"$lookup": {"from": {"db": "other", "coll": "b"}}}], [FIND, Need("find", "other", "b")]),
        ([{"$lookup": {"from": {"coll": "b"}}}], [FIND, Need("find", "shop", "b")]),
        ([{"$lookup": {"pipeline": [{"$unionWith": "c"}]}}], [FIND, Need("find", "shop", "c")]),
        ([{"$graphLookup": {"from": "b"}}], [FIND, Need("find", "shop", "b")]),
        ([{"$unionWith": "b"}], [FIND, Need("find", "shop", "b")]),
        ([{"$unionWith": {"coll": "b", "pipeline": []}}], [FIND, Need("find", "shop", "b")]),
        ([{"$facet": {"x": [{"$unionWith": "b"}]}}], [FIND, Need("find", "shop", "b")]),
        ([{"$out": "b"}], [FIND, Need("insert", "shop", "b"), Need("remove", "shop", "b")]),
        (
            [{"$out": {"db": "other", "coll": "b"}}],
            [FIND, Need("insert", "other", "b"), Need("remove", "other", "b")],
        ),
        ([{"$merge": "b"}], [FIND, Need("insert", "shop", "b"), Need("update", "shop", "b")]),
        ([{"$merge": {"into": "b"}}], [FIND, Need("insert", "shop", "b"), Need("update", "shop", "b")]),
        ([{"$merge": {"into": "b", "whenMatched": "fail"}}], [FIND, Need("insert", "shop", "b")]),
        ([{"$merge": {"into": "b", "whenMatched": "keepExisting"}}], [FIND, Need("insert", "shop", "b")]),
        ([{"$merge": {"into": "b", "whenNotMatched": "discard"}}], [FIND, Need("update", "shop", "b")]),
        ([17, {"$facet": 3}, {"$unionWith": None}], [FIND]),
    ],
)  # fmt: skip
def test_pipeline_needs(pipeline: list[Any], needs: list[Need]) -> None:
    assert pipeline_needs("shop", "a", pipeline) == needs


def test_bypassing_validation_is_a_need_of_its_own() -> None:
    assert pipeline_needs("shop", "a", [{"$out": "b"}], bypass=True)[-1] == Need(
        "bypassDocumentValidation", "shop", "b"
    )
    assert all(need.action != "bypassDocumentValidation" for need in pipeline_needs("shop", "a", [{"$out": "b"}]))
    assert pipeline_needs("shop", "a", [{"$match": {}}], bypass=True) == [FIND]
    only_new = [{"$merge": {"into": "b", "whenMatched": "fail"}}]
    assert [need.action for need in pipeline_needs("shop", "a", only_new, bypass=True)] == [
        "find",
        "insert",
        "bypassDocumentValidation",
    ]


@pytest.mark.parametrize(
    "stage", ["$mergeCursors", "$_internalInhibitOptimization", "$_addX", "$setVariableFromSubPipeline"]
)
def test_stage_of_members_is_refused_inside_others_too(stage: str) -> None:
    for pipeline in ([{stage: {}}], [{"$facet": {"x": [{stage: {}}]}}], [{"$lookup": {"pipeline": [{stage: {}}]}}]):
        with pytest.raises(RouterError, match=f"stage .{stage[1:]} is not allowed"):
            pipeline_needs("shop", "a", pipeline)


@pytest.mark.parametrize(
    ("access", "needs"),
    [
        (authorization.public, []),
        (authorization.on_cluster("a", "b"), [Need("a"), Need("b")]),
        (authorization.on_database("a"), [Need("a", "shop")]),
        (authorization.on_collection("a"), [Need("a", "shop", "orders")]),
        (authorization.on_namespace("a"), [Need("a", "x", "y.z")]),
    ],
)
def test_command_needs(access: Any, needs: list[Need]) -> None:
    context = SimpleNamespace(db="shop", collection="orders", name="moveChunk", head={"moveChunk": "x.y.z"})
    assert access(context) == needs


class FakeConfig:
    """Config servers that know these users, count how often they are asked, and can be away."""

    def __init__(self, *users: dict[str, Any]) -> None:
        self.users, self.asked, self.away = list(users), 0, False

    async def read(self, command: dict[str, Any], _seconds: float) -> dict[str, Any]:
        self.asked += 1
        if self.away:
            raise RouterError(6, "away")
        return {"users": [user for user in self.users if user["user"] == command["usersInfo"]["user"]]}


SHOPPER = {"user": "shopper", "inheritedPrivileges": [{"resource": ALL, "actions": ["find"]}]}


def made(*users: dict[str, Any], enabled: bool = True) -> tuple[Users, FakeConfig]:
    config = FakeConfig(*users)
    return Users(config, enabled=enabled), config


def ran(work: Awaitable[Any]) -> Any:
    async def run() -> Any:
        return await work

    return asyncio.run(run())


def asks(name: str = "find", user: tuple[str, str] | None = ("shopper", "admin"), *, db: str = "shop") -> Any:
    return SimpleNamespace(name=name, db=db, client=SimpleNamespace(user=user))


def needing(*needs: Need) -> Any:
    return lambda _context: list(needs)


def refusal(users: Users, context: Any, *needs: Need) -> int | None:
    with pytest.raises(RouterError) as failure:
        ran(users.check(context, needing(*needs)))
    return failure.value.code


def test_privileges_are_read_once_until_they_are_forgotten_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    users, config = made(SHOPPER)
    now = 1000.0
    monkeypatch.setattr(authorization.time, "monotonic", lambda: now)
    for _ in range(2):
        document, privileges = ran(users.load("shopper", "admin"))
    assert (document, config.asked) == (SHOPPER, 1)
    assert privileges.allow(FIND)
    users.forget()
    ran(users.load("shopper", "admin"))
    assert config.asked == 2
    now += authorization.CACHE_SECONDS
    ran(users.load("shopper", "admin"))
    assert config.asked == 3


def test_known_are_those_who_were_loaded() -> None:
    users, _ = made(SHOPPER)
    assert users.known(("shopper", "admin")) is None
    assert users.known(None) is None
    _, privileges = ran(users.load("shopper", "admin"))
    assert users.known(("shopper", "admin")) is privileges
    assert users.known(("shopper", "shop")) is None


def test_user_keeps_working_while_the_config_servers_are_away(monkeypatch: pytest.MonkeyPatch) -> None:
    users, config = made(SHOPPER)
    now = 1000.0
    monkeypatch.setattr(authorization.time, "monotonic", lambda: now)
    first = ran(users.load("shopper", "admin"))
    now += 10 * authorization.CACHE_SECONDS
    config.away = True
    assert ran(users.load("shopper", "admin")) == first
    assert config.asked == 2
    with pytest.raises(RouterError, match="away"):
        ran(users.load("stranger", "admin"))


def test_dropped_user_is_refused_and_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    users, config = made(SHOPPER)
    now = 1000.0
    monkeypatch.setattr(authorization.time, "monotonic", lambda: now)
    ran(users.load("shopper", "admin"))
    config.users, now = [], now + 10 * authorization.CACHE_SECONDS
    with pytest.raises(RouterError, match="User shopper@admin was dropped") as failure:
        ran(users.load("shopper", "admin"))
    assert failure.value.code == 13
    config.away = True
    with pytest.raises(RouterError, match="away"):
        ran(users.load("shopper", "admin"))


def test_command_runs_when_every_need_is_allowed() -> None:
    users, _ = made(SHOPPER)
    ran(users.check(asks(), needing(FIND, Need("find", "other", "x"))))
    assert refusal(users, asks(), FIND, Need("insert", "shop", "a")) == 13
    ran(users.check(asks(), needing()))


def test_all_of_what_is_allowed_instead_has_to_be_allowed() -> None:
    users, _ = made(SHOPPER)
    other = Need("find", "other", "x")
    ran(users.check(asks(), needing(Need("listDatabases", instead=(FIND, other)))))
    assert refusal(users, asks(), Need("listDatabases", instead=(FIND, Need("insert", "shop")))) == 13
    assert refusal(users, asks(), Need("listDatabases")) == 13


def test_who_has_not_logged_in_may_not_even_make_the_first_user() -> None:
    users, config = made()
    assert refusal(users, asks("createUser", None, db="admin"), Need("createUser", "admin")) == 13
    assert config.asked == 0


def test_without_a_keyfile_everybody_may_everything() -> None:
    users, config = made(enabled=False)
    ran(users.check(asks(user=None), needing(Need("shutdown"))))
    assert config.asked == 0


@pytest.mark.parametrize(
    ("user", "head", "needs"),
    [
        ("shopper", {"pwd": "x"}, []),
        ("shopper", {"pwd": "x", "customData": {}}, [Need("changeCustomData", "admin")]),
        ("another", {"pwd": "x"}, [Need("changePassword", "admin")]),
        ("shopper", {}, [Need("changePassword", "admin")]),
    ],
)
def test_who_may_change_the_own_password_needs_no_other_right_for_it(
    user: str, head: dict[str, Any], needs: list[Need]
) -> None:
    may = Privileges([{"resource": {"db": "admin", "collection": ""}, "actions": ["changeOwnPassword"]}])
    service = SimpleNamespace(users=SimpleNamespace(known=lambda _: may))
    context: Any = SimpleNamespace(
        name="updateUser", db="admin", head={"updateUser": user, **head}, service=service,
        client=SimpleNamespace(user=("shopper", "admin")),
    )  # fmt: skip
    assert COMMANDS["updateUser"].access(context) == needs
