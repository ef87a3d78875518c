"""What the router's tests do with sharded collections, and how they expect a refusal."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError


def shard(client: MongoClient[dict[str, Any]], namespace: str, key: dict[str, Any], **options: Any) -> None:
    """shardCollection."""
    client.admin.command("shardCollection", namespace, key=key, **options)


def chunks(client: MongoClient[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """The chunks of a collection in the order of their bounds."""
    entry = client.config.collections.find_one({"_id": namespace})
    assert entry
    return list(client.config.chunks.find({"uuid": entry["uuid"]}).sort("min", 1))


def move_chunk(client: MongoClient[dict[str, Any]], namespace: str, index: int = 0) -> None:
    """Move a chunk to the other of two shards."""
    chunk = chunks(client, namespace)[index]
    names = [entry["_id"] for entry in client.config.shards.find()]
    to = next(name for name in names if name != chunk["shard"])
    # Orphans go at once: a chunk cannot come back where some are left, and they would be kept for 15 minutes.
    client.admin.command("moveChunk", namespace, bounds=[chunk["min"], chunk["max"]], to=to, _waitForDelete=True)


def failing(code: int, work: Any) -> PyMongoError:
    """Run `work`, which has to fail with `code`."""
    with pytest.raises(PyMongoError) as failure:
        work()
    assert getattr(failure.value, "code", None) == code, failure.value
    return failure.value
