"""The fragments on Kubernetes: the values of helm/fragments that a topology decides.

They are a release of their own in the cluster's namespace, with passwords of their own (docs/decisions/128).  Nothing
here talks to a cluster.
"""

from __future__ import annotations

from typing import Any

from . import data_model
from .release import FRAGMENTS_SUFFIX, PORT
from .shop_chart import ROUTERS
from .topology import Topology, TopologyError

FULLNAME = 40
"""Characters that the chart gives to the beginning of a name; a node's pod becomes a label with a hash behind it."""
LAPTOP_NODE: dict[str, Any] = {
    "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}},
    "storage": {"size": "1Gi"},
    # On a machine that does much else a slow answer is no reason to take a pod out.
    "readinessProbe": {"timeoutSeconds": 10, "failureThreshold": 10},
}


def fragments_values(topology: Topology, cluster: str, cluster_domain: str = "cluster.local") -> dict[str, Any]:
    """The values of helm/fragments beside the cluster's release `cluster`.  TopologyError for a name that is too
    long."""
    if len(release_of(cluster)) > FULLNAME:
        raise TopologyError(f"name: {cluster!r} is too long for a release beside it, {release_of(cluster)!r}")
    return {
        "clusterDomain": cluster_domain,
        "regions": list(data_model.load().regions),
        "catchAll": topology.fragments.catch_all,
        "tls": {"enabled": speaks_tls(topology)},
        "mongodb": {
            "enabled": True,
            "cluster": cluster,
            "port": PORT,
            "routers": {"name": ROUTERS, "replicas": topology.routers.count},
            "tls": {"enabled": topology.tls.mode != "disabled"},
        },
    }


def speaks_tls(topology: Topology) -> bool:
    """Whether the nodes speak TLS: as the cluster does, unless the topology says otherwise."""
    declared = topology.fragments.tls
    return topology.tls.mode != "disabled" if declared is None else declared


def sized_for_a_laptop(values: dict[str, Any]) -> dict[str, Any]:
    """`fragments_values` with requests that leave two cores to the rest, and patience."""
    return {**values, "node": LAPTOP_NODE}


def release_of(cluster: str) -> str:
    """Name of the release beside the cluster's release `cluster`."""
    return f"{cluster}{FRAGMENTS_SUFFIX}"
