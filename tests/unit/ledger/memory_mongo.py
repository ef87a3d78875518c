"""A MongoDB of one process, as far as the ledger's clients need one: documents, conditions, changes, transactions.

It stands in for a server only where a test asks what a client does, never for what a server does.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from pymongo.errors import CollectionInvalid, DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

Document = dict[str, Any]
COMPARISONS = {"$gte": lambda a, b: a >= b, "$lt": lambda a, b: a < b}


def matches(document: Document, where: Document) -> bool:
    """Whether a document is found by equality and by the comparisons that the ledger uses."""
    for field, wanted in where.items():
        if isinstance(wanted, dict):
            if field not in document or not all(COMPARISONS[k](document[field], v) for k, v in wanted.items()):
                return False
        elif document.get(field) != wanted:
            return False
    return True


class MemoryCollection:
    """`read_concern` and `write_concern` are those that it was asked for with."""

    def __init__(self, mongo: MemoryMongo, database: str, name: str) -> None:
        self.mongo, self.database, self.name = mongo, database, name
        self.read_concern = self.write_concern = ""

    @property
    def documents(self) -> dict[str, Document]:
        return self.mongo.documents[self.database][self.name]

    def find(self, where: Document, projection: Any = None, session: Any = None) -> Iterator[Document]:
        self.mongo.note("find", self, session)
        return iter([copy.deepcopy(one) for one in self.documents.values() if matches(one, where)])

    def find_one(self, where: Document, max_time_ms: int | None = None) -> Document | None:
        self.mongo.note("find_one", self, None)
        self.mongo.bounds.append(max_time_ms)
        return next((copy.deepcopy(one) for one in self.documents.values() if matches(one, where)), None)

    def insert_one(self, document: Document, session: Any = None) -> None:
        self.mongo.note("insert_one", self, session)
        if document["_id"] in self.documents:
            raise DuplicateKeyError("E11000 duplicate key", 11000)
        self.documents[document["_id"]] = copy.deepcopy(document)

    def insert_many(self, documents: list[Document]) -> None:
        for document in documents:
            self.insert_one(document)

    def update_one(self, where: Document, change: Document, *, upsert: bool = False, session: Any = None) -> Any:
        self.mongo.note("update_one", self, session)
        found = next((one for one in self.documents.values() if matches(one, where)), None)
        if found is None and upsert:
            found = self.documents.setdefault(where["_id"], dict(where))
        elif found is None:
            return SimpleNamespace(modified_count=0)
        found.update(change.get("$set", {}))
        for field, more in change.get("$inc", {}).items():
            found[field] += more
        for field, item in change.get("$push", {}).items():
            found.setdefault(field, []).append(item)
        return SimpleNamespace(modified_count=1)

    def delete_many(self, where: Document) -> Any:
        gone = [key for key, one in self.documents.items() if matches(one, where)]
        for key in gone:
            del self.documents[key]
        return SimpleNamespace(deleted_count=len(gone))

    def count_documents(self, where: Document) -> int:
        return sum(matches(one, where) for one in self.documents.values())

    def aggregate(self, pipeline: list[Document]) -> Iterator[Document]:
        assert pipeline == [{"$count": "n"}]
        return iter([{"n": len(self.documents)}] if self.documents else [])


class MemoryDatabase:
    def __init__(self, mongo: MemoryMongo, name: str) -> None:
        self.mongo, self.name = mongo, name

    def __getitem__(self, name: str) -> MemoryCollection:
        return MemoryCollection(self.mongo, self.name, name)

    def get_collection(
        self, name: str, write_concern: WriteConcern, read_concern: ReadConcern, read_preference: Any
    ) -> MemoryCollection:
        found = self[name]
        found.write_concern, found.read_concern = str(write_concern.document["w"]), str(read_concern.level)
        self.mongo.preferences.append(read_preference)
        return found

    def list_collection_names(self, filter: Any = None) -> list[str]:  # noqa: A002 - PyMongo's name for it
        return [name for name in self.mongo.documents[self.name] if name not in self.mongo.views or filter is None]

    def create_collection(self, name: str) -> None:
        if name in self.mongo.documents[self.name]:
            raise CollectionInvalid(f"collection {name} already exists")
        self.mongo.created.append(name)

    def command(self, command: str | Document, *arguments: Any, **options: Any) -> Document:
        if isinstance(command, dict):  # dbHash: the documents themselves are the hash
            self.mongo.commands.append(command)
            wanted = command.get("collections") or list(self.mongo.documents[self.name])
            return {"collections": {name: str(self[name].documents) for name in wanted}}
        return self.mongo.answer(command, *arguments, **options)


class MemoryMongo:
    """The client.  `fail` says which operation raises what; `done` is what was done, in order."""

    def __init__(self, hello: Document | None = None) -> None:
        self.hello = hello or {}
        self.documents: defaultdict[str, defaultdict[str, dict[str, Document]]]
        self.documents = defaultdict(lambda: defaultdict(dict))
        self.fail: dict[str, Exception] = {}
        self.done: list[str] = []
        self.bounds: list[int | None] = []
        self.preferences: list[Any] = []
        self.created: list[str] = []
        self.sharded: dict[str, Document] = {}
        self.commands: list[Document] = []
        self.views: set[str] = set()
        self.admin = MemoryDatabase(self, "admin")

    def __getitem__(self, name: str) -> MemoryDatabase:
        return MemoryDatabase(self, name)

    def list_database_names(self) -> list[str]:
        return list(self.documents)

    def answer(self, command: str, *arguments: Any, **options: Any) -> Document:
        if error := self.fail.get(command):
            raise error
        if command == "hello":
            return self.hello
        assert command == "shardCollection"
        self.sharded[arguments[0]] = options["key"]
        return {"ok": 1.0}

    def note(self, operation: str, collection: MemoryCollection, session: Any) -> None:
        if error := self.fail.get(f"{operation} {collection.name}"):
            raise error
        concern = f" {collection.read_concern}" if operation.startswith("find") and session is None else ""
        self.done.append(f"{operation} {collection.name}{concern}{' in the transaction' if session else ''}")

    def start_session(self, *, causal_consistency: bool) -> MemorySession:
        assert not causal_consistency
        return MemorySession(self)


class MemorySession:
    """One transaction; its end takes back what it did, unless it is a commit."""

    def __init__(self, mongo: MemoryMongo) -> None:
        self.mongo = mongo

    def __enter__(self) -> MemorySession:
        return self

    def __exit__(self, *_: object) -> None:
        self.mongo.done.append("end of the session")

    def start_transaction(
        self, read_concern: ReadConcern, write_concern: WriteConcern, read_preference: Any, max_commit_time_ms: int
    ) -> None:
        self._before = copy.deepcopy(self.mongo.documents)
        words = f"{read_concern.level}, w {write_concern.document['w']}, {max_commit_time_ms} ms"
        self.mongo.done.append(f"begin with {words}")
        self.mongo.preferences.append(read_preference)

    def commit_transaction(self) -> None:
        if error := self.mongo.fail.get("commit"):
            raise error
        self.mongo.done.append("commit")

    def abort_transaction(self) -> None:
        self.mongo.documents = self._before
        if error := self.mongo.fail.get("abort"):
            raise error
        self.mongo.done.append("abort")
