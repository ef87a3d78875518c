"""Check what a user of the cluster relies on, one claim at a time.

Its one write goes to a collection of its own and is deleted again; everything else only reads.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pymongo import WriteConcern
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from ..converge.sharding import CollectionSpec, converge_collections
from ..description import Cluster
from ..errors import ClusterError
from ..protocol import codes
from ..protocol.connection import Credentials, Deadline, answers_without_tls, connect, describe, is_code
from .facts import gather

DATABASE = "shardmart"
COLLECTION = "verification"
WRITE_TIMEOUT_MILLISECONDS = 10_000


@dataclass(frozen=True)
class Check:
    """One claim and, when it does not hold, why."""

    claim: str
    failure: str | None = None


def verify(
    cluster: Cluster,
    database: str,
    collections: Sequence[CollectionSpec],
    *,
    administrator: Credentials,
    members: Credentials,
    strangers: Sequence[Credentials] = (),
) -> list[Check]:
    """Every check of the cluster, in the order a person would ask. Nothing is raised for a cluster that is ill.

    `strangers` are users that must not be able to read the collections.
    """
    facts = gather(cluster, router=administrator, members=members)
    checks = []
    for replica_set in facts["sets"]:
        names = ", ".join(member["name"] for member in replica_set["members"])
        problems = "; ".join(replica_set["problems"]) or None
        checks.append(Check(f"{replica_set['name']} has one primary and healthy members ({names})", problems))
    sharding = facts["sharding"]
    unreachable = None if sharding else "no router answers: " + "; ".join(r.get("error", "") for r in facts["routers"])
    names = ", ".join(shard.name for shard in cluster.shards)
    not_there = "; ".join(problem for problem in facts["problems"] if problem.startswith("shard "))
    checks.append(Check(f"every shard is in the cluster ({names})", unreachable or not_there or None))
    balancer_off = "it is off" if sharding and not sharding["balancer"] else None
    checks.append(Check("the balancer is on", unreachable or balancer_off))
    for router in cluster.routers:
        checks += [
            _check(
                f"{router.name} acknowledges a majority write and reads it back",
                partial(_write_and_read_back, router.address, administrator),
            ),
            _check(
                f"{router.name} refuses unauthenticated access",
                partial(_refuse_anonymous, router.address, administrator),
            ),
        ]
    for spec in collections:
        key = ", ".join(f"{field}: {way}" for field, way in spec.shard_key.items())
        checks.append(
            _check(
                f"{database}.{spec.name} is sharded by {{{key}}}, zoned, validated and indexed as declared",
                partial(_as_declared, cluster.routers[0].address, database, spec, administrator),
            )
        )
    names = ", ".join(spec.name for spec in collections)
    checks += [
        _check(
            f"{stranger.username} may not read {database}.{{{names}}}",
            partial(
                _refuse_reading, cluster.routers[0].address, stranger, database, [spec.name for spec in collections]
            ),
        )
        for stranger in strangers
    ]
    leaders = [replica_set.members[0] for replica_set in cluster.replica_sets]
    checks += [
        _check(f"{member.name} refuses unauthenticated access", partial(_refuse_anonymous, member.address, members))
        for member in leaders
    ]
    if cluster.tls.required:
        checks += [
            _check(f"{node.name} refuses a connection without TLS", partial(_refuse_plaintext, node.address))
            for node in (*leaders, *cluster.routers)
        ]
    return checks


def _check(claim: str, proof: Callable[[], str | None]) -> Check:
    try:
        return Check(claim, proof())
    except ClusterError as error:
        return Check(claim, str(error))
    except PyMongoError as error:
        return Check(claim, describe(error))


def _write_and_read_back(address: str, credentials: Credentials) -> str | None:
    written = {"_id": uuid.uuid4().hex}
    with connect(address, credentials) as client:
        concern = WriteConcern("majority", wtimeout=WRITE_TIMEOUT_MILLISECONDS)
        collection = client[DATABASE].get_collection(
            COLLECTION, write_concern=concern, read_concern=ReadConcern("majority")
        )
        collection.insert_one(dict(written))
        found = collection.find_one(written)
        collection.delete_one(written)
    return None if found == written else f"wrote {written}, read {found}"


def _refuse_anonymous(address: str, credentials: Credentials) -> str | None:
    with connect(address, credentials.anonymous()) as client:
        try:
            client.admin.command("listDatabases")
        except PyMongoError as error:
            return None if is_code(error, codes.UNAUTHORIZED) else describe(error)
    return "an unauthenticated client may list the databases"


def _refuse_reading(address: str, stranger: Credentials, database: str, collections: Sequence[str]) -> str | None:
    with connect(address, stranger) as client:
        for name in collections:
            try:
                client[database][name].find_one({}, {"_id": 1})
            except PyMongoError as error:
                if not is_code(error, codes.UNAUTHORIZED):
                    return describe(error)
            else:
                return f"it reads {name}"
    return None


def _refuse_plaintext(address: str) -> str | None:
    return "a client without TLS is answered" if answers_without_tls(address) else None


def _as_declared(address: str, database: str, spec: CollectionSpec, credentials: Credentials) -> str | None:
    with connect(address, credentials) as client:
        difference = converge_collections(database, [spec], client, Deadline(0), check_mode=True)
    return "; ".join(difference.changes) or None
