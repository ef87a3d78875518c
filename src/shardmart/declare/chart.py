"""The topology on Kubernetes: pod names, addresses, and the values of the Helm chart.

The inventory plugin calls it for `platform: kind`.  Names follow helm/sharded-mongodb: a StatefulSet of each replica
set, pods counted from 1, one headless Service per StatefulSet.  Nothing here talks to a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .topology import ReplicaSet, Shard, Topology, TopologyError

PORT = 27_017
"""Every pod has an address of its own, so every server listens at MongoDB's default port."""
ROUTERS = "mongos"
CONFIG_SERVERS = "configsvr"
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Release:
    """Where a Helm release of the chart lives."""

    name: str
    namespace: str
    cluster_domain: str = "cluster.local"

    def host(self, component: str, ordinal: int) -> str:
        """DNS name of pod `ordinal` (from 1) of a component's StatefulSet."""
        workload = f"{self.name}-{component}"
        return f"{workload}-{ordinal}.{workload}.{self.namespace}.svc.{self.cluster_domain}"

    def addresses(self, topology: Topology) -> Callable[[str, str], tuple[str, int]]:
        """Host and port of a member, by the name of its set (or "routers") and its own; for `Topology.resolve`."""
        hosts: dict[tuple[str, str], str] = {}
        for key, replica_set in topology.replica_sets():
            component = component_of(key, replica_set)
            for n, name in enumerate(replica_set.member_names(), start=1):
                hosts[replica_set.name, name] = self.host(component, n)
        for n, name in enumerate(topology.routers.member_names(), start=1):
            hosts["routers", name] = self.host(ROUTERS, n)
        return lambda group, member: (hosts[group, member], PORT)

    def server_names(self, topology: Topology) -> list[str]:
        """What a server certificate is for: a wildcard per StatefulSet, so that more members need no new one, and the
        names of the Service that clients use."""
        components = [component_of(key, replica_set) for key, replica_set in topology.replica_sets()]
        domain = f"{self.namespace}.svc.{self.cluster_domain}"
        wildcards = [f"*.{self.name}-{component}.{domain}" for component in [*components, ROUTERS]]
        services = [f"{self.name}-{ROUTERS}.{domain}", f"{self.name}.{domain}"]
        return [*wildcards, *services, f"{self.name}.{self.namespace}.svc", f"{self.name}.{self.namespace}", self.name]


def component_of(key: str, replica_set: ReplicaSet) -> str:
    """Name of a set's StatefulSet after the release's: `configsvr`, `shard1` for shard1ReplSet."""
    if key == "config_servers":
        return CONFIG_SERVERS
    return replica_set.name.removesuffix("ReplSet").lower().replace("_", "-")


def chart_values(topology: Topology) -> dict[str, Any]:
    """The chart's values that the topology decides. Raises TopologyError for what pods cannot have."""

    def declared(key: str, replica_set: ReplicaSet) -> dict[str, Any]:
        if any(member.cache_mb for member in replica_set.members):
            raise TopologyError(f"{key}.members: `cache_mb` of one member cannot be had on kind, set it for {key}")
        values: dict[str, Any] = {
            "name": component_of(key, replica_set),
            "replicaSet": replica_set.name,
            "memberName": replica_set.member_name or f"{replica_set.name.removesuffix('ReplSet')}-{{n}}",
            "members": [member.model_dump(exclude={"cache_mb"}) for member in replica_set.members],
            "member": {"cacheSizeMB": replica_set.cache_mb or topology.cache_mb},
        }
        if isinstance(replica_set, Shard):
            values["zones"] = list(replica_set.zones)
        return values

    if not DNS_LABEL.fullmatch(topology.name):
        raise TopologyError(f"name: {topology.name!r} names a namespace: use lower-case letters and digits")
    (config_key, config_servers), *shards = topology.replica_sets()
    tls = {
        "enabled": topology.tls.mode != "disabled",
        "validityDays": topology.tls.validity_days,
        "renewDays": topology.tls.renew_days,
    }
    return {
        "image": {"tag": topology.mongodb.version},
        "tls": tls,
        "zones": list(topology.zones),
        "election": {"timeoutMs": topology.election.timeout_ms, "heartbeatMs": topology.election.heartbeat_ms},
        "configServers": declared(config_key, config_servers),
        "shards": [declared(key, shard) for key, shard in shards],
        "routers": {
            "name": ROUTERS,
            "replicas": topology.routers.count,
            "memberName": topology.routers.member_name,
        },
    }
