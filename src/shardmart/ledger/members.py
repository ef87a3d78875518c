"""The state of the members behind the router: one primary per set, equal data, no orphans, nothing draining.

Called by `ledger.cli` after the journal was checked, as `__system` with the keyfile; it reads only.  Secondaries
may still be applying what was acknowledged, so every question is asked again until the deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import PyMongoError

from shardmart.cluster.errors import DeadlineError
from shardmart.cluster.protocol.connection import Client, Credentials, Deadline, connect, describe

INTERNAL_DATABASES = {"admin", "config", "local"}
WAIT_SECONDS = 120.0
"""A transaction whose client or router vanished keeps its locks, and dbHash waits for them, until the server ends it:
when it is `transactionLifetimeLimitSeconds` (60) old, looked at every half of that (MongoDB 6.0, "Production
Considerations")."""
HASH_MILLISECONDS = 20_000
"""The server gives up too: a dbHash that waits for a lock holds up every writer behind it."""


@dataclass
class MembersReport:
    """What was found wrong, and what is worth saying."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)


def check(
    cluster: Mapping[str, Any],
    credentials: Credentials,
    router: Client | None,
    databases: Iterable[str],
    wait_seconds: float = WAIT_SECONDS,
) -> MembersReport:
    """Look at every member of `cluster` (the content of cluster.json).

    `router` is a client that may read `databases` through a router; without it orphans are not looked for.
    """
    report = MembersReport()
    deadline = Deadline(wait_seconds)
    sets = [cluster["config_servers"], *cluster["shards"]]
    primaries: dict[str, str] = {}
    for replica_set in sets:
        primaries[replica_set["name"]] = ""
        _until_quiet(lambda s=replica_set: _roles(s, credentials, primaries), deadline, report)  # type: ignore[misc]
    for shard in cluster["shards"]:
        _until_quiet(lambda s=shard: _hashes(s, credentials), deadline, report)  # type: ignore[misc]
    if not report.problems:
        members = sum(len(s["members"]) for s in sets)
        report.checked.append(f"members: one primary in each of {len(sets)} sets, {members} members hold equal data")
        _until_quiet(lambda: _draining(primaries[cluster["config_servers"]["name"]], credentials), deadline, report)
        if router is not None:
            shards = [primaries[shard["name"]] for shard in cluster["shards"]]
            _orphans(shards, credentials, router, databases, report)
    return report


def _until_quiet(look: Callable[[], list[str]], deadline: Deadline, report: MembersReport) -> None:
    while problems := look():
        try:
            deadline.pause("; ".join(problems))
        except DeadlineError as error:
            report.problems.append(str(error).replace("waited", "still so after", 1))
            return


def _addresses(replica_set: Mapping[str, Any]) -> list[str]:
    return [f"{member['host']}:{member['port']}" for member in replica_set["members"]]


def _roles(replica_set: Mapping[str, Any], credentials: Credentials, primaries: dict[str, str]) -> list[str]:
    states: dict[str, str] = {}
    for address in _addresses(replica_set):
        try:
            with connect(address, credentials, timeout_seconds=2) as client:
                hello = client.admin.command("hello")
        except PyMongoError as error:
            states[address] = describe(error)
            continue
        states[address] = (
            "primary" if hello.get("isWritablePrimary") else "secondary" if hello.get("secondary") else "neither"
        )
    found = [address for address, state in states.items() if state == "primary"]
    if len(found) == 1 and all(state in {"primary", "secondary"} for state in states.values()):
        primaries[replica_set["name"]] = found[0]
        return []
    return [f"{replica_set['name']} has {len(found)} primaries ({', '.join(f'{a} {s}' for a, s in states.items())})"]


def _hashes(replica_set: Mapping[str, Any], credentials: Credentials) -> list[str]:
    hashes: dict[str, dict[str, dict[str, str]]] = {}
    for address in _addresses(replica_set):
        try:
            with connect(address, credentials, timeout_seconds=15) as client:
                names = set(client.list_database_names()) - INTERNAL_DATABASES
                hashes[address] = {
                    name: client[name].command("dbHash", maxTimeMS=HASH_MILLISECONDS)["collections"]
                    for name in sorted(names)
                }
        except PyMongoError as error:
            return [f"no dbHash of {address}: {describe(error)}"]
    first, *others = hashes.items()
    problems = []
    for address, databases in others:
        if databases != first[1]:
            differing = sorted(
                f"{database}.{collection}"
                for database in set(databases) | set(first[1])
                for collection in set(databases.get(database, {})) | set(first[1].get(database, {}))
                if databases.get(database, {}).get(collection) != first[1].get(database, {}).get(collection)
            )
            problems.append(f"{address} and {first[0]} differ in {', '.join(differing) or 'their databases'}")
    return problems


def _draining(config_primary: str, credentials: Credentials) -> list[str]:
    with connect(config_primary, credentials, timeout_seconds=5) as client:
        return [f"shard {shard['_id']} is draining" for shard in client["config"]["shards"].find({"draining": True})]


def _orphans(
    shards: list[str], credentials: Credentials, router: Client, databases: Iterable[str], report: MembersReport
) -> None:
    """Documents a shard holds without owning them: what members count together, less what the router counts."""
    pending = 0
    direct: dict[tuple[str, str], int] = {}
    for address in shards:
        with connect(address, credentials, timeout_seconds=10) as client:
            pending += sum(1 for _ in client["config"]["rangeDeletions"].find({}, {"_id": 1}))
            for database in databases:
                for name in client[database].list_collection_names(filter={"type": "collection"}):
                    count = client[database][name].count_documents({})
                    direct[database, name] = direct.get((database, name), 0) + count
    orphans: dict[str, int] = {}
    for (database, name), count in direct.items():
        owned = next(router[database][name].aggregate([{"$count": "n"}]), {"n": 0})["n"]
        if owned != count:
            orphans[f"{database}.{name}"] = count - owned
    if not orphans:
        report.checked.append(f"members: no orphaned documents in {len(direct)} collections")
    elif pending:
        # After a chunk has moved its old copy stays for orphanCleanupDelaySecs (default 900); that is normal.
        report.notes.append(f"documents of {pending} moved ranges await their deletion: {orphans}")
    else:
        report.problems.append(f"orphaned documents that nothing is going to delete: {orphans}")
