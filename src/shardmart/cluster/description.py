"""What cluster.json, the description of a cluster, says about how to speak to its servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DISABLED, REQUIRE_TLS = "disabled", "requireTLS"
"""Of `net.tls.mode`; the chart also has `allowTLS` and `preferTLS`, whose servers answer both ways."""


def speaks_tls(cluster: Mapping[str, Any]) -> bool:
    """Whether the servers of this cluster (the content of cluster.json) are to be spoken to by TLS."""
    return bool(cluster.get("tls", {}).get("mode", DISABLED) != DISABLED)


def requires_tls(cluster: Mapping[str, Any]) -> bool:
    """Whether every server of this cluster speaks TLS and nothing else."""
    return bool(cluster.get("tls", {}).get("mode") == REQUIRE_TLS)
