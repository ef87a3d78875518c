"""The two databases: run a command on both, and compare replies and contents."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import bson
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from .commands import COLLECTIONS, Command

# Codes of the router that a plain server has no reason for; the command is then left out on the other side.
ALLOWED = {
    20: "a shard key changes outside a transaction and without a retryable write",
    61: "a statement that changes one document does not name the whole shard key",
    72: "the same, of an update by something else than _id",
    168: "an option that a view's aggregation does not know",
}


@dataclass
class Difference:
    """A command whose two answers differ."""

    seed: int
    commands: list[Command]
    index: int
    what: str

    def __str__(self) -> str:
        shown = "\n".join(f"  {command}" for command in self.commands)
        return f"seed {self.seed}: {self.what}\n{shown}"


def _order(pipeline: list[dict[str, Any]]) -> bool:
    names = [next(iter(stage), "") for stage in pipeline]
    while names and names[-1] in ("$skip", "$limit", "$project", "$addFields", "$unset"):
        names.pop()
    return bool(names) and names[-1] == "$sort"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _bytes(documents: list[Any], *, ordered: bool) -> list[bytes]:
    encoded = [bson.encode({"v": document}) for document in documents]
    return encoded if ordered else sorted(encoded)


@dataclass
class Pair:
    """The two databases. `tried` counts commands, `allowed` the differences that are on the list."""

    sharded: Any
    plain: Any
    tried: int = 0
    allowed: dict[int, int] = field(default_factory=dict)

    def reset(self) -> None:
        """Empty collections on both sides."""
        for database in (self.sharded, self.plain):
            for name in COLLECTIONS:
                database[name].delete_many({})

    def run(self, seed: int, commands: list[Command]) -> Difference | None:
        """Run a case; the first difference, if there is one."""
        self.reset()
        for index, command in enumerate(commands):
            self.tried += 1
            what = self._transaction(command) if "transaction" in command else self._compare(command)
            if what is None and not {"find", "count", "distinct", "aggregate"} & command.keys():
                what = self._contents()
            if what:
                return Difference(seed, commands[: index + 1], index, what)
        return None

    def _compare(self, command: Command, sessions: tuple[Any, Any] = (None, None)) -> str | None:
        ours = answer(self.sharded, command, sessions[0])
        if ours.get("code") in ALLOWED:
            self.allowed[ours["code"]] = self.allowed.get(ours["code"], 0) + 1
            return None
        theirs = answer(self.plain, command, sessions[1])
        if _partly_done(command, ours, theirs):
            if sessions[0] is None:
                self.copy()
            return None
        if ours == theirs or self._of_a_document_not_asked_for(command, ours, sessions[1]):
            return None
        if sessions[1] and "code" in theirs and self._of_another_mistake(command, ours):
            return None
        return f"router {ours}\n  one server {theirs}"

    def _of_a_document_not_asked_for(self, command: Command, ours: dict[str, Any], session: Any) -> bool:
        """Whether a read failed on a document that it skips, or has no more place for.

        Each shard projects all that the merge may need, with mongos too, and one server only what it returns.
        """
        whole = {key: value for key, value in command.items() if key not in ("skip", "limit", "singleBatch")}
        if "pipeline" in whole:
            whole["pipeline"] = [stage for stage in whole["pipeline"] if not {"$skip", "$limit"} & stage.keys()]
        return "code" in ours and whole != command and ours == answer(self.plain, whole, session)

    def _of_another_mistake(self, command: Command, ours: dict[str, Any]) -> bool:
        """Whether a read in a transaction has two mistakes, and the router tells of the one that a document shows.

        Its stages for the merge are read when the shards have done theirs.  One server reads all of them first, and
        without the last ones (a find's projection, of a view) it finds the same.  Asked outside the transaction, which
        its own mistake has ended.
        """
        pipeline = command.get("pipeline", ())
        shorter = [{**command, "pipeline": pipeline[:length]} for length in range(len(pipeline))]
        without = {key: value for key, value in command.items() if key != "projection"}
        return "code" in ours and any(ours == answer(self.plain, one) for one in (*shorter, without))

    def _transaction(self, command: Command) -> str | None:
        with self.sharded.client.start_session() as one, self.plain.client.start_session() as two:
            one.start_transaction()
            two.start_transaction()
            for inner in command["transaction"]:
                self.tried += 1
                before = sum(self.allowed.values())
                what = self._compare(inner, (one, two))
                failed = answer.failed or sum(self.allowed.values()) > before  # type: ignore[attr-defined]
                if what or failed:
                    _end(one), _end(two)
                    return what
            for session in (one, two):
                session.commit_transaction() if command["commit"] else session.abort_transaction()
        return None

    def _contents(self) -> str | None:
        for name in COLLECTIONS:
            ours = _bytes(list(self.sharded[name].find().sort("_id", 1)), ordered=True)
            theirs = _bytes(list(self.plain[name].find().sort("_id", 1)), ordered=True)
            if ours != theirs:
                mine, other = ([bson.decode(d)["v"] for d in side] for side in (ours, theirs))
                missing, wrong = ([d for d in a if d not in b] for a, b in ((other, mine), (mine, other)))
                return f"{name} holds\n   {wrong}\n  one server\n   {missing}"
        return None

    def copy(self) -> None:
        """Make the plain side what the sharded side is."""
        for name in COLLECTIONS:
            self.plain[name].delete_many({})
            if documents := list(self.sharded[name].find()):
                self.plain[name].insert_many(documents)


def _end(session: Any) -> None:
    if session.in_transaction:
        with contextlib.suppress(PyMongoError):
            session.abort_transaction()


def _partly_done(command: Command, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether a statement for many documents failed on both sides: how many it changed before is chance."""
    if not {"update", "delete"} & command.keys():
        return False
    statements = command.get("updates", command.get("deletes", []))
    many = {i for i, s in enumerate(statements) if s.get("multi") or s.get("limit") == 0}
    errors = [{(e[0], e[1]) for e in side.get("errors", [])} for side in (ours, theirs)]
    return bool(many & {e[0] for e in errors[0]}) and {e[0] for e in errors[0]} == {e[0] for e in errors[1]}


def answer(database: Any, command: Command, session: Any = None) -> dict[str, Any]:
    """What a client learns from a command, in a form that can be compared."""
    found = _answer(database, command, session)
    answer.failed = "code" in found or bool(found.get("errors"))  # type: ignore[attr-defined]
    return found


def _answer(database: Any, command: Command, session: Any) -> dict[str, Any]:
    name = next(iter(command))
    try:
        reply = database.command(command, session=session)
        if "cursor" in reply:
            documents = list(reply["cursor"]["firstBatch"])
            while identity := reply["cursor"]["id"]:
                more = {"getMore": identity, "collection": command[name], "batchSize": command.get("batchSize", 0) or 5}
                reply = database.command(more, session=session)
                documents += reply["cursor"]["nextBatch"]
            if name == "find":
                return {"documents": _bytes(documents, ordered=bool(command.get("sort")))}
            # Which of equal numbers of different types a group shows is chance: 4, 4.0 and a 64-bit 4 are one.
            return {"documents": _bytes([_plain(d) for d in documents], ordered=_order(command["pipeline"]))}
    except OperationFailure as error:
        details = error.details or {}
        if not details.get("writeErrors"):
            return {"code": error.code}
        reply = details
    if "values" in reply:
        return {"values": _bytes([_plain(value) for value in reply["values"]], ordered=False)}
    found: dict[str, Any] = {k: reply[k] for k in ("n", "nModified", "upserted", "value") if k in reply}
    if "value" in found:
        found = {"value": found["value"] and bson.encode(found["value"])}
        found["last"] = dict(reply.get("lastErrorObject", {}))
    if reply.get("writeErrors"):
        found["errors"] = [(e["index"], e["code"]) for e in reply["writeErrors"]]
    return found


def prepare(router: MongoClient[Any], member: MongoClient[Any], name: str = "differential") -> Pair:
    """Sharded collections over two shards behind `router`, their copies on `member`, and a view on both sides."""
    router.drop_database(name)
    member.drop_database(f"{name}_plain")
    shards = sorted(entry["_id"] for entry in router.config.shards.find())
    for collection, key in COLLECTIONS.items():
        router.admin.command("shardCollection", f"{name}.{collection}", key=key)
    _spread(router, f"{name}.ranged", shards, [{"k": -5}, {"k": 0}, {"k": 5}])
    _spread(router, f"{name}.both", shards, [{"r": region, "u": bson.MinKey()} for region in "BCD"])
    pair = Pair(router[name], member[f"{name}_plain"])
    for database in (pair.sharded, pair.plain):
        pipeline = [{"$match": {"n": {"$gte": -6}}}, {"$addFields": {"w": {"$add": ["$n", "$k"]}}}]
        database.create_collection("view", viewOn="ranged", pipeline=pipeline)
    return pair


def _spread(router: MongoClient[Any], namespace: str, shards: list[str], middles: list[dict[str, Any]]) -> None:
    """Split a collection, its chunks on the one shard and the other in turns; each moves once, if at all."""
    for middle in middles:
        router.admin.command("split", namespace, middle=middle)
    uuid = router.config.collections.find_one({"_id": namespace})["uuid"]  # type: ignore[index]
    for number, chunk in enumerate(router.config.chunks.find({"uuid": uuid}).sort("min", 1)):
        if chunk["shard"] != shards[number % 2]:
            bounds = [chunk["min"], chunk["max"]]
            router.admin.command("moveChunk", namespace, bounds=bounds, to=shards[number % 2], _waitForDelete=True)
