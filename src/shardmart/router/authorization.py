"""What a command needs, what a user may do, and whether the one covers the other.

A user's privileges are read from the config servers (`usersInfo` with `showPrivileges`) and kept for some
seconds, as mongos does.  The router acts as `__system` towards the members, so nothing that is not allowed here
may reach them.  Source: MongoDB 6.0 manual, "Resource Document" and "Privilege Actions".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import rawbson
from .errors import RouterError, unauthorized

if TYPE_CHECKING:
    from .context import Context
    from .replica_set import ReplicaSet

CACHE_SECONDS = 10.0


@dataclass(frozen=True)
class Need:
    """`action` on a resource: the cluster (database None), a whole database (collection None), or a collection."""

    action: str
    database: str | None = None
    collection: str | None = None
    instead: tuple[Need, ...] = ()  # allowed as well when all of these are


Access = Callable[["Context"], list[Need]]


def public(_: Context) -> list[Need]:
    """Needs nothing; together with `Command.public` it is served before authentication."""
    return []


def on_cluster(*actions: str) -> Access:
    """Needs `actions` on the cluster resource."""
    return lambda _: [Need(action) for action in actions]


def on_database(*actions: str) -> Access:
    """Needs `actions` on the database the command runs in."""
    return lambda context: [Need(action, context.db) for action in actions]


def on_collection(*actions: str) -> Access:
    """Needs `actions` on the collection the command's first field names."""
    return lambda context: [Need(action, context.db, context.collection) for action in actions]


def on_namespace(*actions: str) -> Access:
    """Needs `actions` on the namespace ("db.collection") the command's first field names."""

    def needs(context: Context) -> list[Need]:
        database, _, collection = str(context.head[context.name]).partition(".")
        return [Need(action, database, collection) for action in actions]

    return needs


class Privileges:
    """The privileges of one authenticated user."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._entries = [(dict(entry["resource"]), frozenset(entry["actions"])) for entry in entries]

    def allow(self, need: Need) -> bool:
        """Whether some privilege covers `need`."""
        return any(
            (need.action in actions or "anyAction" in actions) and _covers(resource, need)
            for resource, actions in self._entries
        )

    def allow_somewhere(self, action: str, database: str) -> bool:
        """Whether `action` is allowed on some collection of `database` (listDatabases shows such a database)."""
        return any(
            action in actions and (resource.get("anyResource") or resource.get("db") in ("", database))
            for resource, actions in self._entries
        )


def _covers(resource: dict[str, Any], need: Need) -> bool:
    if resource.get("anyResource"):
        return True
    if need.database is None:
        return bool(resource.get("cluster"))
    if "db" not in resource:
        return False
    database, collection = resource["db"], resource["collection"]
    if database == "" and need.database in ("config", "local") and collection == "":
        return False  # "any database" means none of the internal ones
    if database not in ("", need.database):
        return False
    if need.collection is None:
        return bool(collection == "")
    if collection == "":
        return not need.collection.startswith("system.") or need.collection == "system.views"
    return bool(collection == need.collection)


class Users:
    """Privileges of authenticated users, kept for `CACHE_SECONDS`."""

    def __init__(self, config: ReplicaSet, *, enabled: bool) -> None:
        self._config = config
        self.enabled = enabled
        self._cache: dict[tuple[str, str], tuple[float, dict[str, Any], Privileges]] = {}
        self._exist = False

    async def load(self, user: str, database: str) -> tuple[dict[str, Any], Privileges]:
        """The user's document and privileges; raises RouterError 13 when the user is gone."""
        key = (user, database)
        cached = self._cache.get(key)
        if cached and time.monotonic() - cached[0] < CACHE_SECONDS:
            return cached[1], cached[2]
        command = {"usersInfo": {"user": user, "db": database}, "showPrivileges": True, "$db": database}
        try:
            users = (await self._config.read(command, 5.0))["users"]
        except RouterError:
            if cached:  # the config servers are away: what was known keeps its holder working
                return cached[1], cached[2]
            raise
        if not users:
            self._cache.pop(key, None)
            raise RouterError(13, f"User {user}@{database} was dropped; authenticate again")
        document = dict(users[0])
        privileges = Privileges(document.get("inheritedPrivileges", []))
        self._cache[key] = (time.monotonic(), document, privileges)
        return document, privileges

    def known(self, user: tuple[str, str] | None) -> Privileges | None:
        """The privileges of a user that were loaded before."""
        cached = self._cache.get(user) if user else None
        return cached[2] if cached else None

    def forget(self) -> None:
        """A user or role was changed."""
        self._cache.clear()

    async def none_exist(self) -> bool:
        """Whether the cluster has no user yet, which opens the localhost exception."""
        if not self._exist:
            reply = await self._config.command(
                {"find": "system.users", "limit": 1, "projection": {"_id": 1}, "$db": "admin"}, seconds=5.0
            )
            self._exist = bool(reply["cursor"]["firstBatch"])
        return not self._exist

    async def check(self, context: Context, access: Access) -> None:
        """Raise RouterError 13 unless the client behind `context` may run its command."""
        if not self.enabled:
            return
        client = context.client
        if client.user is None:
            first_user = context.name == "createUser" and context.db == "admin" and client.loopback
            if first_user and await self.none_exist():
                return
            raise RouterError(13, f"command {context.name} requires authentication")
        _, privileges = await self.load(*client.user)
        for need in access(context):
            if not privileges.allow(need) and not (need.instead and all(map(privileges.allow, need.instead))):
                raise unauthorized(context.db, context.name)


_STAGES_WITH_COLLECTION = {"$lookup": "from", "$graphLookup": "from", "$unionWith": "coll"}
_INTERNAL = ("$mergeCursors", "$_internal", "$_add", "$listLocalSessions", "$setVariableFromSubPipeline")


def pipeline_needs(database: str, collection: str | None, pipeline: list[Any], *, bypass: bool = False) -> list[Need]:
    """What an aggregation pipeline needs; raises RouterError 13 for stages only members may send each other."""
    needs: list[Need] = []
    stages = [rawbson.decode(stage) if hasattr(stage, "raw") else stage for stage in pipeline]
    first = next(iter(stages[0]), "") if stages and isinstance(stages[0], dict) else ""
    initial = {"$currentOp": "inprog", "$listSessions": "listSessions", "$documents": "", "$listLocalSessions": ""}
    by_collection = {"$collStats": "collStats", "$indexStats": "indexStats", "$planCacheStats": "planCacheRead"}
    if first in initial:
        own = first == "$currentOp" and not _option(stages[0][first], "allUsers")
        needs += [Need(initial[first])] if initial[first] and not own else []
    elif first == "$changeStream":
        whole = bool(_option(stages[0][first], "allChangesForCluster"))
        needs += [Need(a, "" if whole else database, collection) for a in ("find", "changeStream")]
    elif first in by_collection:
        needs.append(Need(by_collection[first], database, collection))
    else:
        needs.append(Need("find", database, collection))
    _stage_needs(database, stages, needs, bypass)
    return needs


def _option(argument: Any, name: str) -> Any:
    return argument.get(name) if isinstance(argument, dict) else None


def _stage_needs(database: str, stages: Any, needs: list[Need], bypass: bool) -> None:
    for stage in stages if isinstance(stages, list) else []:
        if not isinstance(stage, dict):
            continue
        for name, argument in stage.items():
            if name.startswith(_INTERNAL):
                raise RouterError(13, f"stage {name} is not allowed from a client")
            if name in _STAGES_WITH_COLLECTION:
                source = argument if isinstance(argument, str) else _option(argument, _STAGES_WITH_COLLECTION[name])
                if isinstance(source, dict):
                    needs.append(Need("find", str(source.get("db", database)), str(source.get("coll"))))
                elif source:
                    needs.append(Need("find", database, str(source)))
            if name == "$facet" and isinstance(argument, dict):
                for inner in argument.values():
                    _stage_needs(database, inner, needs, bypass)
            if isinstance(argument, dict) and isinstance(argument.get("pipeline"), list):
                _stage_needs(database, argument["pipeline"], needs, bypass)
            if name in ("$out", "$merge"):
                needs += _write_needs(database, name, argument)
                if bypass:
                    needs += [Need("bypassDocumentValidation", n.database, n.collection) for n in needs[-1:]]


def _write_needs(database: str, stage: str, argument: Any) -> list[Need]:
    target = argument.get("into", argument) if stage == "$merge" and isinstance(argument, dict) else argument
    if isinstance(target, dict):
        where = (str(target.get("db", database)), str(target.get("coll")))
    else:
        where = (database, str(target))
    if stage == "$out":
        return [Need("insert", *where), Need("remove", *where)]
    matched = argument.get("whenMatched", "merge") if isinstance(argument, dict) else "merge"
    unmatched = argument.get("whenNotMatched", "insert") if isinstance(argument, dict) else "insert"
    actions = ({"insert"} if unmatched == "insert" else set()) | (
        set() if matched in ("fail", "keepExisting") else {"update"}
    )
    return [Need(action, *where) for action in sorted(actions)]
