"""The state of the members behind the router: one primary per set, equal data, no orphans, nothing draining.

It looks as `__system` with the keyfile, and reads only.  Secondaries
may still be applying what was acknowledged, so every question is asked again until the deadline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pymongo.errors import PyMongoError

from shardmart.cluster.description import Cluster, ReplicaSet, Role
from shardmart.cluster.errors import DeadlineError
from shardmart.cluster.protocol.connection import Client, Credentials, Deadline, connect, describe

from ..system import Examination

PRIMARY, SECONDARY = "primary", "secondary"
Hashes = dict[str, dict[str, str]]
"""What dbHash says of a member: database → collection → hash."""
INTERNAL_DATABASES = {"admin", "config", "local"}
COMPARED_ON_CONFIG_SERVERS = {
    "admin": ("system.roles", "system.users"),
    "config": ("chunks", "collections", "databases", "shards", "tags", "version"),
}
"""What config servers are there for; the rest of `config` is each member's own or changes all the time (sessions)."""
WAIT_SECONDS = 120.0
"""A transaction whose client or router vanished keeps its locks, and dbHash waits for them, until the server ends it:
when it is `transactionLifetimeLimitSeconds` (60) old, looked at every half of that (MongoDB 6.0, "Production
Considerations")."""
HASH_MILLISECONDS = 20_000
"""The server gives up too: a dbHash that waits for a lock holds up every writer behind it."""


def check(
    cluster: Cluster,
    credentials: Credentials,
    router: Client | None,
    databases: Iterable[str],
    wait_seconds: float = WAIT_SECONDS,
) -> Examination:
    """Look at every member of `cluster`.

    `router` is a client that may read `databases` through a router; without it orphans are not looked for.
    """
    report = Examination()
    deadline = Deadline(wait_seconds)
    primaries: dict[str, str] = {}

    def roles_of(replica_set: ReplicaSet) -> list[str]:
        states = {address: _state(address, credentials) for address in replica_set.addresses}
        problems = role_problems(replica_set.name, states)
        if not problems:
            primaries[replica_set.name] = next(address for address, state in states.items() if state == PRIMARY)
        return problems

    for replica_set in cluster.replica_sets:
        _until_quiet(partial(roles_of, replica_set), deadline, report)
    for replica_set in cluster.replica_sets:
        _until_quiet(partial(_hash_problems, replica_set, credentials), deadline, report)
    if not report.problems:
        sets, members = len(cluster.replica_sets), len(cluster.members)
        report.checked.append(
            f"members: one primary in each of {sets} sets, {members} members hold the same as the others of their set"
        )
        config_primary = primaries[cluster.config_servers.name]
        _until_quiet(lambda: _draining(config_primary, credentials), deadline, report)
        if router is not None:
            _look_for_orphans(
                [primaries[shard.name] for shard in cluster.shards], credentials, router, databases, report
            )
    return report


def role_problems(replica_set: str, states: Mapping[str, str]) -> list[str]:
    """What is wrong with a set whose members (by address) are primary, secondary, or something else in words."""
    found = [address for address, state in states.items() if state == PRIMARY]
    if len(found) == 1 and all(state in {PRIMARY, SECONDARY} for state in states.values()):
        return []
    return [f"{replica_set} has {len(found)} primaries ({', '.join(f'{a} {s}' for a, s in states.items())})"]


def hash_problems(hashes: Mapping[str, Hashes]) -> list[str]:
    """Where members (by address) hold other data than the first of them."""
    (first, expected), *others = hashes.items()
    problems = []
    for address, found in others:
        if found != expected:
            differing = sorted(
                f"{database}.{collection}"
                for database in set(found) | set(expected)
                for collection in set(found.get(database, {})) | set(expected.get(database, {}))
                if found.get(database, {}).get(collection) != expected.get(database, {}).get(collection)
            )
            problems.append(f"{address} and {first} differ in {', '.join(differing) or 'their databases'}")
    return problems


def judge_orphans(direct: Mapping[str, int], owned: Mapping[str, int], pending: int, report: Examination) -> None:
    """Documents a shard holds without owning them: what members count together, less what the router counts.

    `direct` and `owned` are documents by collection, `pending` is how many moved ranges await their deletion.
    """
    orphans = {name: count - owned[name] for name, count in direct.items() if count != owned[name]}
    if not orphans:
        report.checked.append(f"members: no orphaned documents in {len(direct)} collections")
    elif pending:
        # After a chunk has moved its old copy stays for orphanCleanupDelaySecs (900 s, from 8.2 3600 s): normal.
        report.notes.append(f"documents of {pending} moved ranges await their deletion: {orphans}")
    else:
        report.problems.append(f"orphaned documents that nothing is going to delete: {orphans}")


def _until_quiet(look: Callable[[], list[str]], deadline: Deadline, report: Examination) -> None:
    while problems := look():
        try:
            deadline.pause("; ".join(problems))
        except DeadlineError as error:
            report.problems.append(str(error).replace("waited", "still so after", 1))
            return


def _state(address: str, credentials: Credentials) -> str:
    try:
        with connect(address, credentials, timeout_seconds=2) as client:
            hello = client.admin.command("hello")
    except PyMongoError as error:
        return describe(error)
    return PRIMARY if hello.get("isWritablePrimary") else SECONDARY if hello.get("secondary") else "neither"


def _hash_problems(replica_set: ReplicaSet, credentials: Credentials) -> list[str]:
    hashes: dict[str, Hashes] = {}
    for address in replica_set.addresses:
        try:
            with connect(address, credentials, timeout_seconds=15) as client:
                hashes[address] = _hashes(client, replica_set.role)
        except PyMongoError as error:
            return [f"no dbHash of {address}: {describe(error)}"]
    return hash_problems(hashes)


def _hashes(client: Client, role: Role) -> Hashes:
    """What a member holds of what its set is there for."""
    wanted: dict[str, tuple[str, ...] | None] = dict.fromkeys(
        sorted(set(client.list_database_names()) - INTERNAL_DATABASES)
    )
    if role is Role.CONFIG:
        wanted |= COMPARED_ON_CONFIG_SERVERS
    found = {}
    for name, names in wanted.items():
        some: dict[str, Any] = {"collections": list(names)} if names else {}
        found[name] = client[name].command({"dbHash": 1, "maxTimeMS": HASH_MILLISECONDS} | some)["collections"]
    return found


def _draining(config_primary: str, credentials: Credentials) -> list[str]:
    with connect(config_primary, credentials, timeout_seconds=5) as client:
        return [f"shard {shard['_id']} is draining" for shard in client["config"]["shards"].find({"draining": True})]


def _look_for_orphans(
    shards: Iterable[str], credentials: Credentials, router: Client, databases: Iterable[str], report: Examination
) -> None:
    pending = 0
    direct: Counter[str] = Counter()
    for address in shards:
        with connect(address, credentials, timeout_seconds=10) as client:
            pending += sum(1 for _ in client["config"]["rangeDeletions"].find({}, {"_id": 1}))
            for database in databases:
                for name in client[database].list_collection_names(filter={"type": "collection"}):
                    direct[f"{database}.{name}"] += client[database][name].count_documents({})
    owned = {}
    for namespace in direct:
        database, name = namespace.split(".", 1)
        owned[namespace] = next(router[database][name].aggregate([{"$count": "n"}]), {"n": 0})["n"]
    judge_orphans(direct, owned, pending, report)
