"""The newest cluster time the router has seen, which it gossips to members and clients.

Members that see the router as `__system` sign their times with a dummy signature and accept any; so a time that
a client brings is believed only when it is not ahead of this machine's clock by more than a minute.  Source:
MongoDB 6.0 driver specification "Causal Consistency".
"""

from __future__ import annotations

import time
from typing import Any

from bson import Int64, Timestamp

from . import rawbson, wire

_INNER = frozenset({b"clusterTime"})
MAXIMUM_CLIENT_LEAD_SECONDS = 60


class ClusterClock:
    """Remembers the greatest cluster time of all replies."""

    def __init__(self) -> None:
        self._latest = 0  # seconds << 32 | increment

    @property
    def latest(self) -> Timestamp | None:
        """The newest cluster time seen; None before the first reply of a member."""
        return Timestamp(self._latest >> 32, self._latest & 0xFFFFFFFF) if self._latest else None

    def gossip(self) -> dict[str, Any]:
        """What to send as `$clusterTime` to members and clients; empty before the first reply of a member."""
        if not self._latest:
            return {}
        return {"$clusterTime": {"clusterTime": self.latest, "signature": {"hash": b"\x00" * 20, "keyId": Int64(0)}}}

    def observe(self, reply: wire.Message) -> None:
        """Learn from the reply of a member."""
        found = reply.elements.get(b"$clusterTime")
        if found and found[0] == 0x03:
            self._advance(reply.body, found[1])

    def observe_client(self, cluster_time: Any) -> None:
        """Learn from a client, which may have learned from another router; a time from the future is ignored."""
        told = rawbson.get(cluster_time.raw, b"clusterTime") if hasattr(cluster_time, "raw") else None
        if isinstance(told, Timestamp) and told.time <= time.time() + MAXIMUM_CLIENT_LEAD_SECONDS:
            self._advance(cluster_time.raw, 0)

    def _advance(self, data: bytes, start: int) -> None:
        element = rawbson.find(data, _INNER, start).get(b"clusterTime")
        if element and element[0] == 0x11:
            self._latest = max(self._latest, int.from_bytes(data[element[1] : element[2]], "little"))
