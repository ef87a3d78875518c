"""What a command needs, what a user may do, and whether the one covers the other.

A user's privileges are read from the config servers (`usersInfo` with `showPrivileges`) and kept for some
seconds, as mongos does.  The router acts as `__system` towards the members, so nothing that is not allowed here
may reach them.  Source: MongoDB 6.0 manual, "Resource Document" and "Privilege Actions".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..protocol import rawbson
from ..protocol.errors import Code, RouterError

if TYPE_CHECKING:
    from ..routing.replica_set import ReplicaSet
    from .context import Context

CACHE_SECONDS = 10.0


@dataclass(frozen=True)
class Need:
    """`action` on a resource: the cluster (database None), a whole database (collection None), or a collection."""

    action: str
    database: str | None = None
    collection: str | None = None
    instead: tuple[Need, ...] = field(default=(), kw_only=True)  # allowed as well when all of these are


Access = Callable[["Context"], list[Need]]


def public(_: Context) -> list[Need]:
    """Needs nothing; together with `Command.public` it is served before authentication."""
    return []


def _on(resource: Callable[[Context], tuple[str, ...]]) -> Callable[..., Access]:
    """Needs the actions it is called with on `resource` of the command: no name, a database, or a collection too."""
    return lambda *actions: lambda context: [Need(action, *resource(context)) for action in actions]


on_cluster = _on(lambda _: ())
on_database = _on(lambda context: (context.db,))
on_collection = _on(lambda context: (context.db, context.collection))
on_namespace = _on(lambda context: str(context.head[context.name]).partition(".")[::2])  # named by the first field


class Privileges:
    """The privileges of one authenticated user."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._entries = [(dict(entry["resource"]), frozenset(entry["actions"])) for entry in entries]

    def allow(self, need: Need) -> bool:
        """Whether some privilege covers `need`."""
        return any(
            actions & {need.action, "anyAction"} and _covers(resource, need) for resource, actions in self._entries
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
            raise RouterError(Code.Unauthorized, f"User {user}@{database} was dropped; authenticate again")
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

    async def check(self, context: Context, access: Access) -> None:
        """Raise RouterError 13 unless the client behind `context` may run its command."""
        if not self.enabled:
            return
        client = context.client
        if client.user is None:
            raise RouterError(Code.Unauthorized, f"command {context.name} requires authentication")
        _, privileges = await self.load(*client.user)
        for need in access(context):
            if not privileges.allow(need) and not (need.instead and all(map(privileges.allow, need.instead))):
                message = f"not authorized on {context.db} to execute command {context.name}"
                raise RouterError(Code.Unauthorized, message)


# Every stage that a client may use; any other is refused, since members would do it as `__system`.
_PLAIN_STAGES = frozenset({
    "$addFields", "$bucket", "$bucketAuto", "$count", "$densify", "$documents", "$facet", "$fill", "$geoNear", "$group",
    "$limit", "$match", "$project", "$redact", "$replaceRoot", "$replaceWith", "$sample", "$set", "$setWindowFields",
    "$skip", "$sort", "$sortByCount", "$unset", "$unwind", "$out", "$merge", "$lookup", "$graphLookup", "$unionWith",
})  # fmt: skip
# Stages that begin a pipeline and read something else than a collection: the actions they need on it.
_ON_COLLECTION = {
    "$collStats": ("collStats",),
    "$indexStats": ("indexStats",),
    "$listCatalog": ("listCollections", "listIndexes"),
    "$planCacheStats": ("planCacheRead",),
}
_ON_CLUSTER = {
    "$currentOp": "inprog",
    "$listSessions": "listSessions",
    "$shardedDataDistribution": "shardedDataDistribution",
}
_OF_MEMBERS = ("$mergeCursors", "$listLocalSessions", "$backupCursor", "$setVariableFromSubPipeline")
_OF_OTHERS = {"$lookup": "from", "$graphLookup": "from", "$unionWith": "coll"}
_OTHER_SOURCES = frozenset({*_ON_COLLECTION, *_ON_CLUSTER, "$documents", "$changeStream"})


def pipeline_needs(database: str, collection: str | None, pipeline: list[Any], *, bypass: bool = False) -> list[Need]:
    """What an aggregation pipeline needs; raises RouterError 40324 or 13 for stages a client may not use.

    `$currentOp` and `$listSessions` about the user alone need nothing here: `aggregation` makes them be about the user.
    """
    stages = [rawbson.decode(stage) if hasattr(stage, "raw") else stage for stage in pipeline]
    first = next(iter(stages[0]), "") if stages and isinstance(stages[0], dict) else ""
    needs = [] if first in _OTHER_SOURCES else [Need("find", database, collection)]
    return needs + _stages_needs(database, collection, stages, bypass)


def _stages_needs(database: str, collection: str | None, stages: Any, bypass: bool) -> list[Need]:
    known = [stage for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []
    return [  # another type is refused by the member
        need
        for stage in known
        for name, argument in stage.items()
        for need in _stage_needs(database, collection, name, argument, bypass)
    ]


def _stage_needs(database: str, collection: str | None, name: str, argument: Any, bypass: bool) -> list[Need]:
    if name in _ON_COLLECTION:
        return [Need(action, database, collection) for action in _ON_COLLECTION[name]]
    if name in _ON_CLUSTER:
        everybody = name == "$shardedDataDistribution" or _option(argument, "allUsers") or _option(argument, "users")
        return [Need(_ON_CLUSTER[name])] if everybody else []
    if name == "$changeStream":
        if _option(argument, "allChangesForCluster"):  # on every database, or whoever has it on one would see them all
            database, collection = "", None
        return [Need(action, database, collection) for action in ("find", "changeStream")]
    if name not in _PLAIN_STAGES:
        if name.startswith("$_") or name in _OF_MEMBERS:
            raise RouterError(Code.Unauthorized, f"stage {name} is not allowed from a client")
        raise RouterError(Code.UnknownStage, f"Unrecognized pipeline stage name: '{name}'")
    if name in _OF_OTHERS:
        source = argument if isinstance(argument, str) else _option(argument, _OF_OTHERS[name])
        inner = _option(argument, "pipeline")
        if source is None:  # $documents, or a mistake that the member finds
            return _stages_needs(database, None, inner, bypass)
        return pipeline_needs(*named_by(database, source), inner if isinstance(inner, list) else [])
    if name == "$facet" and isinstance(argument, dict):
        return [need for inner in argument.values() for need in _stages_needs(database, collection, inner, bypass)]
    if name in ("$out", "$merge"):
        actions = ["insert", "remove"] if name == "$out" else _actions_of_merge(argument)
        bypassing = ("bypassDocumentValidation",) if bypass else ()
        return [Need(action, *named_by(database, argument)) for action in (*actions, *bypassing)]
    return []


def named_by(database: str, argument: Any) -> tuple[str, str]:
    """Database and collection that a stage names by a string, as {db, coll}, or as either under `into`."""
    named = argument.get("into", argument) if isinstance(argument, dict) else argument
    if isinstance(named, dict):
        return str(named.get("db", database)), str(named.get("coll"))
    return database, str(named)


def _actions_of_merge(argument: Any) -> list[str]:
    found = ["insert"] if (_option(argument, "whenNotMatched") or "insert") == "insert" else []
    return found if _option(argument, "whenMatched") in ("fail", "keepExisting") else [*found, "update"]


def _option(argument: Any, name: str) -> Any:
    return argument.get(name) if isinstance(argument, dict) else None
