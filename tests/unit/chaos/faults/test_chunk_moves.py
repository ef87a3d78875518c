"""Which chunks the fault `chunkmoves` may move, and what it says of a collection that has none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo
import pytest

from shardmart.chaos.errors import ChaosError
from shardmart.chaos.faults.database import ChunkMoves
from shardmart.chaos.targets.selectors import Targets


class Collection(list[dict[str, Any]]):
    def find(self, query: dict[str, Any] | None = None) -> Collection:
        return Collection(one for one in self if all(one.get(k) == v for k, v in (query or {}).items()))

    def find_one(self, query: dict[str, Any]) -> dict[str, Any] | None:
        return next(iter(self.find(query)), None)

    def sort(self, *_: Any) -> Collection:  # type: ignore[override]
        return self


class Router:
    """A router with two shards, one of them with a chunk of shop.things; `moved` are the commands it was given."""

    def __init__(self, **mark: Any) -> None:
        self.moved: list[tuple[Any, ...]] = []
        self.stop = threading.Event()
        self.admin = self
        self.config = {
            "shards": Collection([{"_id": "shard1ReplSet"}, {"_id": "shard2ReplSet"}]),
            "collections": Collection([{"_id": "shop.things", "uuid": 7} | mark]),
            "chunks": Collection([{"uuid": 7, "min": {"a": 1}, "max": {"a": 9}, "shard": "shard1ReplSet"}]),
        }

    def __getitem__(self, name: str) -> dict[str, Collection]:
        assert name == "config"
        return self.config

    def command(self, name: str, namespace: str, **options: Any) -> None:
        self.moved.append((name, namespace, options))
        self.stop.set()


def hold(router: Router, targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def client(*_: Any, **__: Any) -> Iterator[Router]:
        yield router

    class Client:
        def __class_getitem__(cls, _: Any) -> Any:
            return client

    monkeypatch.setattr(pymongo, "MongoClient", Client)
    monkeypatch.setattr(type(targets.state), "uri", lambda *_: "mongodb://nowhere")
    monkeypatch.setattr(targets, "command", lambda *_: {"cursor": {"firstBatch": []}})
    fault = ChunkMoves(targets, [], 5, {"namespace": "shop.things", "interval_s": 0})
    fault.hold(router.stop, deadline=float("inf"))


def test_chunk_is_moved_by_its_bounds_to_the_next_shard(targets: Targets, monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()
    hold(router, targets, monkeypatch)
    assert router.moved == [("moveChunk", "shop.things", {"bounds": [{"a": 1}, {"a": 9}], "to": "shard2ReplSet"})]


def test_collection_that_8_0_lists_without_being_sharded_has_no_chunks_to_move(
    targets: Targets, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = Router(unsplittable=True)
    with pytest.raises(ChaosError, match=r"shop\.things is not sharded: nothing to move"):
        hold(router, targets, monkeypatch)
    assert router.moved == []
