"""What a running cluster is: sets, members, lag, shards, balancer, chunks and documents.

`shardmart status`, the `cluster_facts` Ansible module and `verify` read it here.  Reading never changes anything; a
server that does not answer is a fact, not an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import PyMongoError

from ..description import Cluster, Node
from ..protocol.connection import Client, Credentials, Document, connect, describe

TIMEOUT_SECONDS = 3
"""Of a connection; and of what a router is asked of a shard that has no primary, which it would wait for, for 20 s."""
CHUNKS_PER_SHARD = [
    {"$group": {"_id": {"uuid": "$uuid", "shard": "$shard"}, "chunks": {"$sum": 1}}},
]


def gather(cluster: Cluster, *, router: Credentials, members: Credentials) -> Document:
    """The facts of `cluster`.

    `router` logs in at the routers (needs clusterMonitor and reading the data), `members` at each member (the
    keyfile). Returns {"sets", "routers", "sharding" or None, "problems": [line, ...]}; lag and uptime in seconds.
    """
    with ThreadPoolExecutor(max_workers=16) as pool:
        member_jobs = {m.name: pool.submit(member_facts, m.address, members) for m in cluster.members}
        router_jobs = [(r, pool.submit(router_facts, r.address, router)) for r in cluster.routers]
        sets = [
            set_facts(replica_set.name, [(m, member_jobs[m.name].result()) for m in replica_set.members])
            for replica_set in cluster.replica_sets
        ]
        routers = [_place(r) | job.result() for r, job in router_jobs]
    problems = [problem for facts in sets for problem in facts["problems"]]
    problems += [f"router {r['name']} ({r['address']}): {r['error']}" for r in routers if "error" in r]
    servers = [member for facts in sets for member in facts["members"]] + routers
    problems += certificate_problems(servers, cluster.tls.renew_days)
    sharding = None
    for answer in routers:
        if "error" in answer:
            continue
        with connect(answer["address"], router, timeout_seconds=TIMEOUT_SECONDS) as client:
            try:
                sharding = sharding_facts(client, whole=all(facts["primary"] for facts in sets))
                break
            except PyMongoError as error:
                problems.append(f"router {answer['name']}: {describe(error)}")
    if sharding is not None:
        problems += _sharding_problems(cluster, sharding)
    return {"name": cluster.name, "sets": sets, "routers": routers, "sharding": sharding, "problems": problems}


def member_facts(address: str, credentials: Credentials) -> Document:
    """What one member says: replSetGetStatus, uptime, version; {"error"} when it does not answer."""
    with connect(address, credentials, timeout_seconds=TIMEOUT_SECONDS) as client:
        try:
            status = client.admin.command("replSetGetStatus")
            server = client.admin.command({"serverStatus": 1, "metrics": 0, "wiredTiger": 0, "locks": 0})
        except PyMongoError as error:
            return {"error": describe(error)}
    return {"status": status, "uptime_seconds": float(server["uptime"]), "version": server["version"]} | _tls(server)


def router_facts(address: str, credentials: Credentials) -> Document:
    """What one router says: version and uptime; {"error"} when it does not answer."""
    with connect(address, credentials, timeout_seconds=TIMEOUT_SECONDS) as client:
        try:
            server = client.admin.command("serverStatus")
        except PyMongoError as error:
            return {"error": describe(error)}
    facts = {"state": "ROUTER", "uptime_seconds": float(server["uptime"]), "version": str(server["version"])}
    return facts | _tls(server)


def _tls(server: Mapping[str, Any]) -> Document:
    """When the certificate ends that a server shows, UTC, as its serverStatus says; nothing without TLS."""
    end = server.get("security", {}).get("SSLServerCertificateExpirationDate")
    return {"certificate_ends": end.replace(tzinfo=UTC)} if end else {}


def certificate_problems(servers: Iterable[Mapping[str, Any]], renew_days: float) -> list[str]:
    """The servers whose certificate should have been renewed long ago: half of `renew_days` is over."""
    problems = []
    for server in servers:
        left = server["certificate_ends"] - datetime.now(UTC) if "certificate_ends" in server else None
        if left is not None and left < timedelta(days=renew_days / 2):
            when = f"ends in {left.days} days" if left > timedelta(0) else "has ended"
            problems.append(f"the certificate of {server['name']} {when}: run playbooks/rotate-certificates.yml")
    return problems


def set_facts(name: str, answers: Sequence[tuple[Node, Document]]) -> Document:
    """One replica set from its members' answers: each member's state, lag behind the primary, uptime and version."""
    # Each member's own view of itself: what another one knows of it is as old as the last heartbeat.
    own = {member.name: _own_view(answer) for member, answer in answers}
    newest = max((view["optimeDate"] for view in own.values() if "optimeDate" in view), default=None)
    members, problems = [], []
    for member, answer in answers:
        view = own[member.name]
        facts: Document = _place(member) | {"state": "DOWN"}
        if "error" in answer:
            facts["error"] = answer["error"]
            problems.append(f"{member.name} ({member.address}): {answer['error']}")
        else:
            facts |= {"state": view.get("stateStr", "UNKNOWN"), "uptime_seconds": answer["uptime_seconds"]}
            facts["version"] = answer["version"]
            if "certificate_ends" in answer:
                facts["certificate_ends"] = answer["certificate_ends"]
            if facts["state"] not in {"PRIMARY", "SECONDARY"}:
                problems.append(f"{member.name} ({member.address}) is {facts['state']}")
        if newest and "optimeDate" in view and facts["state"] in {"PRIMARY", "SECONDARY"}:
            facts["lag_seconds"] = max(0.0, (newest - view["optimeDate"]).total_seconds())
        members.append(facts)
    primaries = [m["name"] for m in members if m["state"] == "PRIMARY"]
    if len(primaries) != 1:
        problems.append(f"{name} has {len(primaries)} primaries" if primaries else f"{name} has no primary")
    return {"name": name, "primary": primaries[0] if primaries else None, "members": members, "problems": problems}


def _own_view(answer: Mapping[str, Any]) -> Document:
    """The entry of replSetGetStatus that a member has for itself; empty when it did not answer."""
    members = answer["status"]["members"] if "status" in answer else []
    return next((dict(member) for member in members if member.get("self")), {})


def sharding_facts(client: Client, *, whole: bool = True) -> Document:
    """Shards with zones, balancer, and for each sharded collection its key and chunks and documents per shard.

    Documents are the shards' own counts: exact at rest, and while chunks move they include what is being moved.
    Unless the cluster is `whole` a shard is known to have no primary: then a count is given up after TIMEOUT_SECONDS.
    """
    patience: Document = {} if whole else {"maxTimeMS": TIMEOUT_SECONDS * 1000}
    shards = client.admin.command("listShards")["shards"]
    balancer = client.admin.command("balancerStatus")["mode"] != "off"
    chunks: dict[Any, dict[str, int]] = {}
    for row in client.config.chunks.aggregate(CHUNKS_PER_SHARD):
        chunks.setdefault(row["_id"]["uuid"], {})[row["_id"]["shard"]] = row["chunks"]
    collections = []
    # From 8.0 collections that are not sharded are listed, too, once they were moved whole (moveCollection).
    sharded = {"_id": {"$not": {"$regex": r"^config\."}}, "unsplittable": {"$ne": True}}
    for entry in client.config.collections.find(sharded).sort("_id", 1):
        database, name = entry["_id"].split(".", 1)
        documents: dict[str, int] = {shard["_id"]: 0 for shard in shards}
        for row in client[database][name].aggregate([{"$collStats": {"count": {}}}], **patience):
            documents[row["shard"]] = row["count"]
        collections.append(
            {
                "namespace": entry["_id"],
                "key": dict(entry["key"]),
                "chunks": {shard["_id"]: chunks.get(entry["uuid"], {}).get(shard["_id"], 0) for shard in shards},
                "documents": documents,
            }
        )
    return {
        "shards": [
            {"name": s["_id"], "zones": sorted(s.get("tags", [])), "draining": bool(s.get("draining"))} for s in shards
        ],
        "balancer": balancer,
        "collections": collections,
    }


def _sharding_problems(cluster: Cluster, sharding: Document) -> list[str]:
    present = {shard["name"] for shard in sharding["shards"]}
    problems = [f"shard {s.name} is not in the cluster" for s in cluster.shards if s.name not in present]
    problems += [f"shard {s['name']} is draining" for s in sharding["shards"] if s["draining"]]
    if not sharding["balancer"]:
        problems.append("the balancer is off")
    return problems


def _place(node: Node) -> Document:
    """What is said of every server: its name, its address and, where it is one, its pod."""
    return {"name": node.name, "address": node.address} | ({"pod": node.pod.name} if node.pod else {})
