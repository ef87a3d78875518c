"""Users, roles and defaults: they live on the config servers, and so these commands are carried out there."""

from __future__ import annotations

from typing import Any

from ..operations.authorization import Access, Need, on_cluster, on_database
from ..operations.context import Context, Reply, command
from ..operations.send import ask, checked
from ..protocol import rawbson, wire
from ..protocol.errors import Code, RouterError


def _items(context: Context, name: str) -> list[Any]:
    values = context.head.get(name) or []
    if not isinstance(values, list):
        raise RouterError(Code.TypeMismatch, f"BSON field '{context.name}.{name}' must be an array")
    return values


def _of_role_targets(action: str) -> Access:
    """`action` on the database, and the right to grant each role the command hands out or takes away."""

    def needs(context: Context) -> list[Need]:
        found = [Need(action, context.db)] if action else []
        change = "revokeRole" if context.name.startswith("revoke") else "grantRole"
        for role in _items(context, "roles"):
            database = rawbson.decode(role).get("db", context.db) if hasattr(role, "raw") else context.db
            found.append(Need(change, str(database)))
        for privilege in _items(context, "privileges"):
            resource = rawbson.decode(privilege).get("resource") if hasattr(privilege, "raw") else {}
            database = resource.get("db") if isinstance(resource, dict) else None
            found.append(Need(change, str(database or "admin")))
        return found

    return needs


def _change_user(context: Context) -> list[Need]:
    own = context.client.user == (context.head[context.name], context.db)
    needs = []
    if "pwd" in context.head or "mechanisms" in context.head:
        needs += (
            []
            if own and context.service.users.enabled and _may_change_own(context)
            else [Need("changePassword", context.db)]
        )
    if "customData" in context.head:
        needs.append(Need("changeCustomData", context.db))
    if "roles" in context.head:
        needs += [Need("revokeRole", context.db), *_of_role_targets("")(context)]
    if "authenticationRestrictions" in context.head:
        needs.append(Need("setAuthenticationRestriction", context.db))
    return needs or [Need("changePassword", context.db)]


def _may_change_own(context: Context) -> bool:
    privileges = context.service.users.known(context.client.user)
    return bool(privileges and privileges.allow(Need("changeOwnPassword", context.db)))


async def _on_config(context: Context, *, write: bool) -> Reply:
    fields: dict[str, Any] = {context.name: context.head[context.name], **context.options()}
    if not write:
        return (await ask(context, "config", fields))[1].body
    fields |= {"writeConcern": {"w": "majority"}, "$db": context.db, **context.service.clock.gossip()}
    try:
        _, reply = await context.service.config.call_primary(wire.command(fields), retryable=False)
        return checked(reply).body
    finally:
        context.service.users.forget()
        context.service.forget_concerns()


def _serve(name: str, access: Access, *, write: bool) -> None:
    @command(name, access=access)
    async def handler(context: Context) -> Reply:
        return await _on_config(context, write=write)


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


for _name, _access in {
    "createUser": _of_role_targets("createUser"),
    "updateUser": _change_user,
    "dropUser": on_database("dropUser"),
    "dropAllUsersFromDatabase": on_database("dropUser"),
    "grantRolesToUser": _of_role_targets(""),
    "revokeRolesFromUser": _of_role_targets(""),
    "createRole": _of_role_targets("createRole"),
    "updateRole": _of_role_targets("grantRole"),
    "dropRole": on_database("dropRole"),
    "dropAllRolesFromDatabase": on_database("dropRole"),
    "grantRolesToRole": _of_role_targets(""),
    "revokeRolesFromRole": _of_role_targets(""),
    "grantPrivilegesToRole": _of_role_targets("grantRole"),
    "revokePrivilegesFromRole": _of_role_targets("revokeRole"),
    "setDefaultRWConcern": on_cluster("setDefaultRWConcern"),
}.items():
    _serve(_name, _access, write=True)
_serve("usersInfo", _info, write=False)
_serve("rolesInfo", _info, write=False)
_serve("getDefaultRWConcern", on_cluster("getDefaultRWConcern"), write=False)
