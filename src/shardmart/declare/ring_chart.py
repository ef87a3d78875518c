"""Rings on Kubernetes: the values of helm/ring, a release for each ring.  Nothing here talks to a cluster."""

from __future__ import annotations

from typing import Any

from .release import DNS_LABEL
from .rings import Ring
from .topology import TopologyError

LAPTOP: dict[str, Any] = {
    "node": {
        "resources": {"requests": {"cpu": "20m", "memory": "128Mi"}},
        "storage": {"size": "1Gi"},
        # On a machine that does much else a slow answer is no reason to take a node out.
        "readinessProbe": {"timeoutSeconds": 10, "failureThreshold": 10},
    },
    "toolbox": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}},
}


def ring_values(ring: Ring, cluster_domain: str = "cluster.local", *, tls: bool = False) -> dict[str, Any]:
    """The values of helm/ring that a topology decides; ports of pods are the chart's.  `tls`: as the cluster has it."""
    return {
        "clusterDomain": cluster_domain,
        "ring": {
            "name": ring.name,
            "nodes": [{"weight": node.weight} for node in ring.nodes],
            "copies": ring.copies,
            "virtualNodes": ring.virtual_nodes,
        },
        "node": {"cacheMB": ring.cache_mb},
        "tls": {"enabled": tls},
    }


def release_of(cluster: str, ring: str) -> str:
    """Name of a ring's release beside the cluster's release `cluster`."""
    return f"{cluster}-{ring}"


def as_variable(ring: Ring, cluster: str, cluster_domain: str, *, tls: bool) -> dict[str, Any]:
    """As the inventory gives it to the role `ring`, sized for a laptop.  TopologyError for a name that no release may
    have, or of which the chart would keep the beginning alone."""
    if not DNS_LABEL.fullmatch(release_of(cluster, ring.name)):
        raise TopologyError(
            f"rings: {ring.name!r} makes the release {release_of(cluster, ring.name)!r} on Kubernetes, which takes 40 "
            "lower-case letters, digits and dashes, and no dash at the end"
        )
    values = ring_values(ring, cluster_domain, tls=tls)
    sized = {**values, **LAPTOP, "node": values["node"] | LAPTOP["node"]}
    return {"name": ring.name, "release": release_of(cluster, ring.name), "chart_values": sized}
