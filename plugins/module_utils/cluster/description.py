"""What cluster.json, the description of a cluster, says about how to speak to its servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REQUIRE_TLS = "requireTLS"
"""`net.tls.mode` of a server that answers nothing but TLS."""


def speaks_tls(cluster: Mapping[str, Any]) -> bool:
    """Whether every server of this cluster (the content of cluster.json) speaks TLS and nothing else."""
    return bool(cluster.get("tls", {}).get("mode") == REQUIRE_TLS)
