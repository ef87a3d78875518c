"""The topology on Kubernetes: the values of the Helm chart, and what the chart then knows of its release.

`document` is what the chart writes when it is installed with `chart_values`, so `release.describe` describes the same
cluster on a laptop and in the chart's pods.  Nothing here talks to a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..cluster.description import REQUIRE_TLS
from .release import PORT, VERSION, Release
from .topology import ReplicaSet, Shard, Topology, TopologyError

ROUTERS = "mongos"
CONFIG_SERVERS = "configsvr"
DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
SETTINGS = ("clusterName", "zones", "election", "tls")
"""Values that the document has as they are."""


def component_of(key: str, replica_set: ReplicaSet) -> str:
    """Name of a set's StatefulSet after the release's: `configsvr`, `shard1` for shard1ReplSet."""
    if key == "config_servers":
        return CONFIG_SERVERS
    return replica_set.name.removesuffix("ReplSet").lower().replace("_", "-")


def chart_values(topology: Topology, cluster_domain: str = "cluster.local") -> dict[str, Any]:
    """The chart's values that the topology decides. Raises TopologyError for what pods cannot have."""

    def declared(key: str, replica_set: ReplicaSet) -> dict[str, Any]:
        if any(member.cache_mb for member in replica_set.members):
            raise TopologyError(f"{key}.members: pods of one set have one size, set `cache_mb` for {key}")
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
    if topology.services is not None:
        raise TopologyError("services: the shop runs on the embedded platform only; leave the key out on Kubernetes")
    (config_key, config_servers), *shards = topology.replica_sets()
    return {
        "clusterName": topology.name,
        "clusterDomain": cluster_domain,
        "port": PORT,
        "image": {"tag": topology.mongodb.version},
        "tls": {
            "enabled": topology.tls.mode != "disabled",
            "mode": REQUIRE_TLS,
            "names": list(topology.tls.names),
            "validityDays": topology.tls.validity_days,
            "renewDays": topology.tls.renew_days,
        },
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


def document(values: Mapping[str, Any], release: Release) -> dict[str, Any]:
    """What the chart writes to its ConfigMap when a release is installed with these `chart_values`."""
    sets = [values["configServers"], *values["shards"]]
    return {
        "version": VERSION,
        "release": asdict(release),
        **{key: values[key] for key in SETTINGS},
        "sets": [
            {key: declared[key] for key in ("name", "replicaSet", "memberName", "members")}
            | {"zones": declared.get("zones", []), "cacheMB": declared["member"]["cacheSizeMB"]}
            for declared in sets
        ],
        "routers": {key: values["routers"][key] for key in ("name", "memberName", "replicas")},
    }
