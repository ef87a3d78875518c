"""Claims of what is said of a server that does not answer."""

from __future__ import annotations

from pymongo.errors import ServerSelectionTimeoutError

from shardmart.cluster.protocol.connection import NO_ADDRESS, describe

HOST = "shardmart-shard1-2.shardmart-shard1.shop.svc.cluster.local:27017"
CONFIGURED = "(configured timeouts: socketTimeoutMS: 3000.0ms)"


def test_a_pod_that_has_no_node_yet_is_told_from_a_server_that_is_down() -> None:
    """In the words of PyMongo 4 on Debian, where the first is a pod that is Pending."""
    pending = ServerSelectionTimeoutError(f"{HOST}: [Errno -2] Name or service not known {CONFIGURED}, Timeout: 3s")
    assert describe(pending) == f"{HOST}: [Errno -2] Name or service not known ({NO_ADDRESS})"
    down = ServerSelectionTimeoutError(f"{HOST}: [Errno 111] Connection refused {CONFIGURED}, Timeout: 3s")
    assert describe(down) == f"{HOST}: [Errno 111] Connection refused"
