"""The `mongodb_users` module on a real config server, where users live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from shardmart.cluster.converge import users
from shardmart.cluster.protocol.connection import Credentials, connect
from tests.support.clusters import EmbeddedCluster, known_access, small_topology
from tests.support.modules import run_module

ADMIN = {"name": "admin", "roles": [{"role": "root", "db": "admin"}]}


@pytest.fixture
def config_server(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """A config server set of one member, without any user."""
    cluster = EmbeddedCluster(tmp_path / "state", small_topology(shards=1))
    cluster.write_secrets()
    try:
        cluster.start("configsvr1")
        cluster.form(cluster.description.config_servers)
        yield cluster
    finally:
        cluster.destroy()


def arguments(cluster: EmbeddedCluster, *declared: dict[str, Any], **changes: Any) -> dict[str, Any]:
    secrets = cluster.folder / "secrets"
    return {
        "addresses": [cluster.description.config_servers.members[0].address],
        "users": [{"password_file": str(secrets / f"{u['name']}.password")} | u for u in declared],
        "keyfile": str(cluster.state.keyfile),
        "wait_seconds": 10,
    } | changes


def accepted(cluster: EmbeddedCluster, name: str) -> bool:
    login = Credentials(name, cluster.folder / "secrets" / f"{name}.password")
    return users.accepts(login, cluster.description.config_servers.members[0].address)


def user_info(cluster: EmbeddedCluster, name: str) -> dict[str, Any]:
    member = cluster.description.config_servers.members[0].address
    with connect(member, cluster.members_credentials) as client:
        found: dict[str, Any] = client.admin.command("usersInfo", name)["users"][0]
    return found


def test_nobody_is_let_in_before_the_first_user(config_server: EmbeddedCluster) -> None:
    """The localhost exception would make the first who comes administrator."""
    address = config_server.description.config_servers.members[0].address
    anonymous = config_server.members_credentials.anonymous()
    refusal = pytest.raises(OperationFailure, match=r"requires authentication|not authorized")
    with connect(address, anonymous) as client, refusal:
        client.admin.command("createUser", "stranger", pwd="any", roles=["root"])
    refused = run_module("mongodb_users", **arguments(config_server, ADMIN, keyfile=None))
    assert "neither the administrator's password nor the keyfile is accepted" in refused["msg"]


def test_administrator_is_made_by_the_keyfile_and_stays(config_server: EmbeddedCluster) -> None:
    planned = run_module("mongodb_users", check=True, **arguments(config_server, ADMIN))
    assert planned["changed"]
    assert not accepted(config_server, "admin")
    created = run_module("mongodb_users", **arguments(config_server, ADMIN))
    assert created["changes"] == ["create user admin"]
    assert accepted(config_server, "admin")
    assert not run_module("mongodb_users", **arguments(config_server, ADMIN))["changed"]
    assert user_info(config_server, "admin")["mechanisms"] == ["SCRAM-SHA-256"]


def test_changed_password_is_applied_once(config_server: EmbeddedCluster) -> None:
    run_module("mongodb_users", **arguments(config_server, ADMIN))
    (config_server.folder / "secrets" / "admin.password").write_text("another\n")
    assert not accepted(config_server, "admin")
    repaired = run_module("mongodb_users", **arguments(config_server, ADMIN))
    assert repaired["changes"] == ["admin: change the password"]
    assert accepted(config_server, "admin")
    assert not run_module("mongodb_users", **arguments(config_server, ADMIN))["changed"]
    assert "another" not in str(repaired)


def test_user_roles_and_privileges_are_repaired(config_server: EmbeddedCluster) -> None:
    run_module("mongodb_users", **arguments(config_server, ADMIN))
    login = {"login_password_file": str(config_server.folder / "secrets" / "admin.password"), "keyfile": None}
    loader = {
        "name": "loader",
        "roles": [{"role": "readWrite", "db": "ecommerce"}],
        "privileges": [{"resource": {"db": "config", "collection": "chunks"}, "actions": ["find"]}],
    }
    created = run_module("mongodb_users", **arguments(config_server, loader, **login))
    assert created["changes"] == ["create role loader", "create user loader"]
    assert not run_module("mongodb_users", **arguments(config_server, loader, **login))["changed"]

    fewer = loader | {"roles": [{"role": "read", "db": "ecommerce"}]}
    planned = run_module("mongodb_users", check=True, **arguments(config_server, fewer, **login))
    changed = run_module("mongodb_users", **arguments(config_server, fewer, **login))
    assert planned["changes"] == changed["changes"]
    assert changed["changes"] == [
        "loader: roles loader@admin, readWrite@ecommerce -> loader@admin, read@ecommerce",
    ]
    wider = fewer | {
        "privileges": [{"resource": {"db": "config", "collection": "chunks"}, "actions": ["find", "listIndexes"]}]
    }
    assert run_module("mongodb_users", **arguments(config_server, wider, **login))["changes"] == [
        "role loader: change the privileges"
    ]
    assert {role["role"] for role in user_info(config_server, "loader")["roles"]} == {"loader", "read"}


def test_a_user_that_may_do_less_is_converged_once(config_server: EmbeddedCluster) -> None:
    """As `monitor` was in clusters made before it had a role of its own."""
    run_module("mongodb_users", **arguments(config_server, ADMIN))
    reader = [{"role": "clusterMonitor", "db": "admin"}, {"role": "read", "db": "ecommerce"}]
    run_module("mongodb_users", **arguments(config_server, {"name": "monitor", "roles": reader}))
    declared = next(user.as_task_argument() for user in known_access().users if user.name == "monitor")
    secrets = {"secrets": str(config_server.folder / "secrets")}
    less = arguments(config_server, users=[declared], **secrets)
    assert run_module("mongodb_users", **less)["changes"] == [
        "create role monitor",
        "monitor: roles clusterMonitor@admin, read@ecommerce -> monitor@admin",
    ]
    assert not run_module("mongodb_users", **less)["changed"]
    assert [role["role"] for role in user_info(config_server, "monitor")["roles"]] == ["monitor"]

    without = arguments(config_server, users=[declared | {"privileges": []}], **secrets)
    assert run_module("mongodb_users", **without)["changes"] == [
        "monitor: roles monitor@admin -> none",
        "drop role monitor",
    ]
    assert not run_module("mongodb_users", **without)["changed"]


def test_a_user_without_a_password_file_is_refused(config_server: EmbeddedCluster) -> None:
    refused = run_module("mongodb_users", **arguments(config_server, users=[{"name": "loader"}]))
    assert refused["msg"] == "user loader: `password_file` is missing, and `secrets` names no folder to look in"


def test_nobody_who_may_change_users_is_said(config_server: EmbeddedCluster) -> None:
    run_module("mongodb_users", **arguments(config_server, ADMIN))
    wrong = config_server.folder / "secrets" / "wrong.password"
    wrong.write_text("wrong")
    refused = run_module(
        "mongodb_users",
        **arguments(config_server, {"name": "loader", "roles": []}, login_password_file=str(wrong), keyfile=None),
    )
    assert "neither the administrator's password nor the keyfile is accepted" in refused["msg"]


def test_silent_server_is_named_at_the_deadline(config_server: EmbeddedCluster) -> None:
    config_server.kill("configsvr1")
    refused = run_module("mongodb_users", **arguments(config_server, ADMIN, wait_seconds=1))
    assert refused["msg"].startswith("waited 1 s for " + arguments(config_server)["addresses"][0])


def test_user_that_is_declared_no_more_is_dropped_and_nobody_elses(config_server: EmbeddedCluster) -> None:
    run_module("mongodb_users", **arguments(config_server, ADMIN))
    loader = {
        "name": "loader",
        "privileges": [{"resource": {"db": "config", "collection": "chunks"}, "actions": ["find"]}],
    }
    run_module("mongodb_users", **arguments(config_server, loader, {"name": "ledger"}))
    member = config_server.description.config_servers.members[0].address
    with connect(member, config_server.members_credentials) as client:
        client.admin.command("createUser", "somebody", pwd="x", roles=[])  # by a person
        client.admin.command("updateUser", "ledger", customData={"team": "shop"})  # as before there was a mark
        fewer = arguments(config_server, {"name": "ledger"}, drop_others_but=["admin"])
        planned = run_module("mongodb_users", check=True, **fewer)
        assert planned["changes"] == ["ledger: mark as declared here", "drop user loader: it is declared no more"]
        assert run_module("mongodb_users", **fewer)["changes"] == planned["changes"]
        assert not run_module("mongodb_users", **fewer)["changed"]
        there = {user["user"]: user.get("customData") for user in client.admin.command("usersInfo", 1)["users"]}
        assert there == {
            "admin": users.MARK, "ledger": {"team": "shop"} | users.MARK, "somebody": None,
        }  # fmt: skip
        assert client.admin.command("rolesInfo", "loader")["roles"] == []
