"""A router that remembers which commands it was given: enough of PyMongo's client for the converging of shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pymongo.errors import OperationFailure

Document = dict[str, Any]


class FakeCollection:
    """What converging asks of a collection."""

    def __init__(self, documents: Sequence[Document] = (), indexes: Sequence[Document] | None = None) -> None:
        self.documents, self.indexes = list(documents), indexes
        self.catalog: list[Document] | None = None
        """What $listCatalog says of each shard that holds a part; None for a router that does not know it."""

    def find(self, query: Document) -> list[Document]:
        return [d for d in self.documents if all(d.get(key) == value for key, value in query.items())]

    def find_one(self, query: Document, _projection: Document | None = None) -> Document | None:
        return next(iter(self.find(query)), None)

    def aggregate(self, pipeline: list[Document]) -> list[Document]:
        if pipeline != [{"$listCatalog": {}}] or self.catalog is None:
            raise OperationFailure("Unrecognized pipeline stage name", 40324)
        return [{"md": {"options": options}} for options in self.catalog]

    def list_indexes(self) -> list[Document]:
        if self.indexes is None:
            raise OperationFailure("no such namespace", 26)
        return list(self.indexes)


class FakeDatabase:
    """A database: its collections, the options of those that exist, and the commands it is given."""

    def __init__(self, router: FakeRouter, name: str) -> None:
        self.router, self.name = router, name
        self.held: dict[str, FakeCollection] = {}
        self.options: dict[str, Document] = {}

    def __getitem__(self, name: str) -> FakeCollection:
        return self.held.setdefault(name, FakeCollection())

    __getattr__ = __getitem__

    def list_collections(self, filter: Document) -> list[Document]:  # noqa: A002  PyMongo's name
        return [{"options": self.options[filter["name"]]}] if filter["name"] in self.options else []

    def command(self, command: str | Document) -> Document:
        return self.router.answer(self.name, command if isinstance(command, dict) else {command: 1})


class FakeRouter:
    """Shards as config.shards has them; each answer in `answers` is given once, in order, before the usual one."""

    def __init__(self, *shards: Document, balancer: str = "full") -> None:
        self.shards, self.balancer = shards, balancer
        self.commands: list[tuple[str, Document]] = []
        self.failures: list[Exception] = []
        self._databases: dict[str, FakeDatabase] = {}

    def __getitem__(self, name: str) -> FakeDatabase:
        return self._databases.setdefault(name, FakeDatabase(self, name))

    __getattr__ = __getitem__

    def answer(self, database: str, command: Document) -> Document:
        if "listShards" in command:
            return {"shards": list(self.shards)}
        if "balancerStatus" in command:
            return {"mode": self.balancer}
        self.commands.append((database, command))
        if self.failures:
            raise self.failures.pop(0)
        return {"ok": 1}

    @property
    def said(self) -> list[Document]:
        """The commands that change something, without their databases."""
        return [command for _, command in self.commands]
