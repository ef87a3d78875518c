"""What cannot change on a cluster that is there: members' addresses, the names of sets, that a shard is part of it, and
where its shop keeps orders.

A replica set's configuration holds "host:port" of every member, `config.shards` does too, and a member that is started
under another one finds itself in no set.  Routers are in no such list: their ports may change.  Nothing here talks to a
server.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..description import Cluster, ReplicaSet
from ..errors import ClusterError
from ..shop import Shop


def refuse_changes(before: Cluster, after: Cluster, *, moves_store: bool = False) -> None:
    """ClusterError, a line for each key of the topology, when `after` cannot be reached from the cluster that is there.

    Both are of one cluster: `host.occupant` refuses another one.  `moves_store`: the shop's store is to be moved.
    """
    if faults := [*_faults(before, after), *_of_the_store(before, after, moves_store=moves_store)]:
        raise ClusterError("\n".join(faults))


def _of_the_store(before: Cluster, after: Cluster, *, moves_store: bool) -> Iterator[str]:
    there, wanted = before.shop, after.shop
    if not there or not wanted:
        if moves_store:
            yield "backends.store: there is no shop whose store could be moved: leave `move_store` out"
        return
    now, then = there.backends.store, wanted.backends.store
    if now == then:
        if moves_store and then != "postgres":
            yield f"backends.store: the topology says {then}, and a store is moved to postgres: leave `move_store` out"
        if then == "postgres":
            yield from _other_servers(there, wanted)
        return
    if not moves_store or then != "postgres":
        in_pods = before.kubernetes is not None
        moves = now == "mongodb" and not in_pods
        how = "`-e move_store=true` moves them there; or" if moves else "they are not moved,"
        yield (
            f"backends.store: the shop's orders are in {now}, the topology says {then}: {how} put it back; or begin "
            "anew there, with what was ordered left behind where it is: first a topology without `services` "
            f"({'`site.yml`' if in_pods else '`make up`'}), then this one"
        )
    elif before.kubernetes is not None:
        yield "backends.store: a store is moved on this machine only, and this shop runs in pods: put it back"
    elif there.backends.event_log == "kafka":
        yield (
            "backends.store: the shop's events are followed on Kafka: first the topology that there is with "
            "`event_log: mongodb`, then this one"
        )
    elif wanted.backends.postgres_flavour != "plain":
        yield (
            "backends.postgres_flavour: a store is moved to plain PostgreSQL, and nobody ever moved one to "
            f"{wanted.backends.postgres_flavour}: put `store` back, or say `plain`"
        )


def _faults(before: Cluster, after: Cluster) -> Iterator[str]:
    declared = {"config_servers": after.config_servers}
    declared |= {f"shards[{i}]": shard for i, shard in enumerate(after.shards)}
    there = {replica_set.name: replica_set for replica_set in before.replica_sets}
    if before.config_servers.name != after.config_servers.name:
        yield (
            f"config_servers.name: the cluster's config servers are {before.config_servers.name}, the topology says "
            f"{after.config_servers.name}: a replica set cannot be renamed, put it back"
        )
    if before.kubernetes is None:  # there the chart refuses it, unless the shard was drained by hand
        for gone in sorted({shard.name for shard in before.shards} - {shard.name for shard in after.shards}):
            yield (
                f"shards: {gone} is a shard of the cluster, with documents, and the topology has it no more: nothing "
                "here drains a shard, put it back, or remove the cluster with its data"
            )
    for key, replica_set in declared.items():
        if known := there.get(replica_set.name):
            yield from _moved(key, known, replica_set)


def _other_servers(before: Shop, after: Shop) -> Iterator[str]:
    """Whether one server would become three under Patroni, or three one, or ours another: each has its own data."""
    counts = len(before.postgres_servers), len(after.postgres_servers)
    if min(counts) and counts[0] != counts[1]:
        yield (
            f"backends.postgres_nodes: the shop's orders are on {counts[0]} of PostgreSQL's servers, the topology says "
            f"{counts[1]}: they are not moved, put it back; or begin anew there, with what was ordered left behind "
            "where it is: first a topology without `services` (`make up`), then this one"
        )
    elif min(counts):
        here, there = (shop.postgres_servers[0].address for shop in (before, after))
        # Of two that are given nobody knows whether they are one, under another name.
        if before.backends.postgres_is_ours != after.backends.postgres_is_ours:
            yield (
                f"backends.postgres_host: the shop's orders are on {here}, the topology says {there}: they are not "
                "moved, put it back; or begin anew there, with what was ordered left behind where it is: first a "
                "topology without `services`, then this one"
            )
        elif before.backends.tls != after.backends.tls and after.postgres and after.postgres.pod:
            yield (
                "backends.tls: services run whose PostgreSQL speaks "
                f"{'TLS' if before.backends.tls else 'no TLS'}, and would lose it until each is restarted: put it "
                "back; or first a topology without `services`, then this one: the orders stay on its volume"
            )


def _moved(key: str, before: ReplicaSet, after: ReplicaSet) -> Iterator[str]:
    """The first member of a set that would have another address, or another name at its address."""
    known = {member.name: member for member in before.members}
    names = {member.address: member.name for member in before.members}
    for member in after.members:
        if names.get(member.address, member.name) != member.name:
            yield (
                f"{key}.member_name: {names[member.address]} runs at {member.address} with its data, the topology "
                f"calls it {member.name}: put it back"
            )
            return
        old = known.get(member.name)
        if old is None or old.address == member.address:
            continue
        what = "port" if old.host == member.host else "members"
        yield (
            f"{key}.{what}: {member.name} runs at {old.address} and its set knows it by that, the topology says "
            f"{member.address}: put it back (only routers may move), or remove the cluster with its data"
        )
        return
