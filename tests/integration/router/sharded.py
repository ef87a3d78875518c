"""What the router's tests do with sharded collections."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient


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
    client.admin.command("moveChunk", namespace, bounds=[chunk["min"], chunk["max"]], to=to)
