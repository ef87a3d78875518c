"""Users and roles, which live on the config servers: these commands are carried out there.  And users' sessions."""

from __future__ import annotations

from typing import Any

from bson import Binary

from ..operations.authorization import Access, Need, on_cluster, on_database, public
from ..operations.context import Context, Reply, command
from ..operations.send import ask, everywhere
from ..protocol import rawbson
from ..protocol.errors import Code, RouterError
from .collections import MAJORITY
from .sharding import on_config_primary


def _granting(*actions: str) -> Access:
    """`actions` on the database, and the right to grant each role and privilege that is handed out or taken away."""

    def needs(context: Context) -> list[Need]:
        found = [Need(action, context.db) for action in actions]
        change = "revokeRole" if context.name.startswith("revoke") else "grantRole"
        for role in context.array("roles", object) if context.head.get("roles") else []:
            database = rawbson.decode(role).get("db", context.db) if hasattr(role, "raw") else context.db
            found.append(Need(change, str(database)))
        for privilege in context.array("privileges") if context.head.get("privileges") else []:
            resource = rawbson.decode(privilege).get("resource")
            database = resource.get("db") if isinstance(resource, dict) else None
            found.append(Need(change, str(database or "admin")))
        return found

    return needs


def _changing_a_user(context: Context) -> list[Need]:
    privileges = context.service.users.known(context.client.user)
    own = context.client.user == (context.head[context.name], context.db)
    may_own = bool(own and privileges and privileges.allow(Need("changeOwnPassword", context.db)))
    password = [] if may_own else [Need("changePassword", context.db)]
    needed = {
        "pwd": password,
        "mechanisms": password,
        "customData": [Need("changeCustomData", context.db)],
        "roles": [Need("revokeRole", context.db), *_granting()(context)],
        "authenticationRestrictions": [Need("setAuthenticationRestriction", context.db)],
    }
    asked = [need for name, needs in needed.items() if name in context.head for need in needs]
    return asked if needed.keys() & context.head.keys() else [Need("changePassword", context.db)]


def _info(context: Context) -> list[Need]:
    """The right to see each user or role that is asked for, where it is; a user sees itself without one."""
    action = "viewUser" if context.name == "usersInfo" else "viewRole"
    asked = context.head[context.name]
    needs = []
    for one in asked if isinstance(asked, list) and asked else [asked]:
        named = {"user": one, "db": context.db} if isinstance(one, str) else {}
        document = rawbson.decode(one) if hasattr(one, "raw") else named
        if "forAllDBs" in document:  # whatever else it says: a member reads nothing else then
            needs.append(Need(action, "", instead=(Need(action),)))
        elif action != "viewUser" or context.client.user != (document.get("user"), document.get("db")):
            needs.append(Need(action, str(document.get("db", context.db))))
    return needs


def _change(name: str, access: Access) -> None:
    @command(name, access=access)
    async def handler(context: Context) -> Reply:
        fields = {name: context.head[name], **context.options(), **MAJORITY}
        try:
            return await on_config_primary(context, fields, retryable=False)
        finally:
            context.service.users.forget()


_change("createUser", _granting("createUser"))
_change("updateUser", _changing_a_user)
_change("dropUser", on_database("dropUser"))
_change("dropAllUsersFromDatabase", on_database("dropUser"))
_change("grantRolesToUser", _granting())
_change("revokeRolesFromUser", _granting())
_change("createRole", _granting("createRole"))
_change("updateRole", _granting("grantRole"))
_change("dropRole", on_database("dropRole"))
_change("dropAllRolesFromDatabase", on_database("dropRole"))
_change("grantRolesToRole", _granting())
_change("revokeRolesFromRole", _granting())
_change("grantPrivilegesToRole", _granting("grantRole"))
_change("revokePrivilegesFromRole", _granting("revokeRole"))


def _read(name: str, access: Access) -> None:
    @command(name, access=access)
    async def handler(context: Context) -> Reply:
        return (await ask(context, "config", {name: context.head[name], **context.options()}))[1].body


_read("usersInfo", _info)
_read("rolesInfo", _info)


def _ids(context: Context) -> list[Binary]:
    found = [rawbson.decode(session).get("id") for session in context.array(context.name)]
    if not all(isinstance(identity, bytes) for identity in found):
        raise RouterError(Code.TypeMismatch, f"BSON field '{context.name}.id' must be a UUID")
    return [Binary(bytes(identity), 4) for identity in found if identity is not None]


@command("endSessions", access=public)
async def end_sessions(context: Context) -> Reply:
    """Close the cursors and abort the transactions of sessions the client is done with."""
    service, client = context.service, context.client
    for identity in _ids(context):
        # A session is an id and a user: nobody ends another's.
        service.in_background(service.cursors.end_session(bytes(identity), client.user))
        service.transactions.end_session((bytes(identity), bytes(client.digest)))
    return {"ok": 1.0}


async def _on_all_shards(context: Context, fields: dict[str, Any]) -> Reply:
    shards = (await context.service.catalog.load_shards()).values()
    await everywhere(shard.command({**fields, "$db": "admin"}, seconds=5.0) for shard in shards)
    return {"ok": 1.0}


@command("killSessions", access=public)
async def kill_sessions(context: Context) -> Reply:
    """Kill the client's own sessions on every shard."""
    patterns = [{"lsid": {"id": identity, "uid": context.client.digest}} for identity in _ids(context)]
    return await _on_all_shards(context, {"killAllSessionsByPattern": patterns})


@command("killAllSessions", access=on_cluster("killAnySession"))
async def kill_all_sessions(context: Context) -> Reply:
    """Kill the sessions of some users, or of all."""
    return await _on_all_shards(context, {"killAllSessions": context.head["killAllSessions"]})
