"""The newest cluster time the router has seen, which it gossips to members and clients.

Members that see the router as `__system` sign their times with a dummy signature and accept any; so a time that
a client brings is believed only when it is not ahead of this machine's clock by more than a minute.  Source:
MongoDB 6.0 driver specification "Causal Consistency".
"""

from __future__ import annotations

import time
from typing import Any

from bson import Int64, Timestamp
from bson.raw_bson import RawBSONDocument

from . import rawbson, wire

MAXIMUM_CLIENT_LEAD_SECONDS = 60


class ClusterClock:
    """Remembers the greatest cluster time of all replies: `latest`, None before the first reply of a member."""

    def __init__(self) -> None:
        self.latest: Timestamp | None = None

    def gossip(self) -> dict[str, Any]:
        """What to send as `$clusterTime` to members and clients; empty before the first reply of a member."""
        if not self.latest:
            return {}
        return {"$clusterTime": {"clusterTime": self.latest, "signature": {"hash": b"\x00" * 20, "keyId": Int64(0)}}}

    def observe(self, reply: wire.Message) -> None:
        """Learn from the reply of a member."""
        self._take(rawbson.get(reply.body, b"$clusterTime", b"clusterTime"))

    def observe_client(self, cluster_time: Any) -> None:
        """Learn from a client, which may have learned from another router; a time from the future is ignored."""
        told = rawbson.decode(cluster_time).get("clusterTime") if isinstance(cluster_time, RawBSONDocument) else None
        if isinstance(told, Timestamp) and told.time <= time.time() + MAXIMUM_CLIENT_LEAD_SECONDS:
            self._take(told)

    def _take(self, told: Any) -> None:
        if isinstance(told, Timestamp) and (self.latest is None or told > self.latest):
            self.latest = told
