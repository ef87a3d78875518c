"""Users, roles and defaults: they live on the config servers, and so these commands are carried out there."""

from __future__ import annotations

from ..operations.authorization import Access, Need, on_database
from ..operations.context import Context, Reply, command
from ..operations.send import ask
from ..protocol import rawbson
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
