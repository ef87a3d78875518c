"""The topology on Kubernetes: the values of the Helm chart, and what the chart then knows of its release.

`document` is what the chart writes when it is installed with `chart_values`, so `release.describe` describes the same
cluster on a laptop and in the chart's pods.  Nothing here talks to a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..cluster.description import REQUIRE_TLS
from . import shop_chart
from .release import DNS_LABEL, FRAGMENTS_SUFFIX, PORT, SHOP_SUFFIX, VERSION, Release
from .replica_sets import ReplicaSet, Shard
from .topology import Topology, TopologyError

ROUTERS = shop_chart.ROUTERS
CONFIG_SERVERS = "configsvr"
SETTINGS = ("clusterName", "zones", "election", "tls")
"""Values that the document has as they are."""
FILES = ("auth", "tls", "cluster", "scripts", "mongod")
TAKEN = {ROUTERS, "toolbox", "bootstrap", "rotation", "secrets", "chaos", "loader", "test", *FILES}
"""What the chart itself calls NAME-… (helm/sharded-mongodb/templates/_validate.tpl refuses the same)."""
POD_NAME = 52
"""Characters of a pod's name, which becomes a label with a hash behind it."""
MEMORY_FLOOR_MB = 768
"""A member's memory limit is at least this: what mongod takes beside the smallest cache, on a laptop."""


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
    refuse_taken_names(topology)
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
    } | shop_chart.in_cluster_chart(topology)


def sized_for_a_laptop(values: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """`chart_values` with a memory limit for every member's own cache; the chart's default is a server's."""

    def memory_for(cache_mb: int) -> dict[str, Any]:
        return {"resources": {"limits": {"memory": f"{max(MEMORY_FLOOR_MB, 2 * cache_mb)}Mi"}}}

    def sized(declared: Mapping[str, Any]) -> dict[str, Any]:
        member = declared["member"]
        # Only what differs, so that `member` in the inventory's own values goes on deciding for all others.
        more = memory_for(member["cacheSizeMB"]) if member["cacheSizeMB"] != topology.cache_mb else {}
        return {**declared, "member": member | more}

    return {
        **values,
        "member": memory_for(topology.cache_mb),
        "configServers": sized(values["configServers"]),
        "shards": [sized(shard) for shard in values["shards"]],
    }


def refuse_taken_names(topology: Topology) -> None:
    """TopologyError for sets and rings whose objects would have one name, or that of another part of the chart."""
    users: dict[str, str] = {}
    for key, replica_set in topology.replica_sets():
        component = component_of(key, replica_set)
        if component in TAKEN or component in users:
            other = users.get(component, "another part of the chart")
            raise TopologyError(
                f"{key}.name: {replica_set.name!r} becomes {component!r} on Kubernetes, as {other} does"
            )
        users[component] = f"{key}.name"
    beside = {suffix.removeprefix("-"): "the release of another part" for suffix in (SHOP_SUFFIX, FRAGMENTS_SUFFIX)}
    taken = dict.fromkeys(TAKEN, "another part of the chart") | beside | users
    for i, ring in enumerate(topology.rings):
        if ring.name in taken:
            raise TopologyError(
                f"rings[{i}].name: {ring.name!r} names the ring's release on Kubernetes, as {taken[ring.name]} does"
            )


def refuse_names_of_pods(values: Mapping[str, Any], release: Release) -> None:
    """TopologyError for a release whose Services or pods Kubernetes would refuse."""
    if not DNS_LABEL.fullmatch(release.fullname):
        raise TopologyError(
            f"release: {release.fullname!r} names Services: use lower-case letters and digits, a letter first"
        )
    for key, declared in [("config_servers", values["configServers"])] + [
        (f"shards[{i}]", shard) for i, shard in enumerate(values["shards"])
    ]:
        longest = f"{release.fullname}-{declared['name']}-{len(declared['members'])}"
        if len(longest) > POD_NAME:
            raise TopologyError(
                f"{key}.name: the pod's name {longest} is longer than {POD_NAME} characters, shorten it"
            )


def document(values: Mapping[str, Any], release: Release) -> dict[str, Any]:
    """What the chart writes to its ConfigMap when a release is installed with these `chart_values`; TopologyError."""
    refuse_names_of_pods(values, release)
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
    } | ({"shop": values["shop"]} if "shop" in values else {})
