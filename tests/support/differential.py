"""Random commands on a sharded database and on an unsharded copy: what the one answers, the other has to answer.

`generate` makes a case (a list of commands) from a seed and nothing else; `Pair` runs it on both sides and compares
replies and contents; `shrink` finds the fewest commands that still differ.  What may differ is written in `ALLOWED`.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import bson
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

Command = dict[str, Any]
# Codes of the router that a plain server has no reason for; the command is then left out on the other side.
ALLOWED = {
    20: "a shard key changes outside a transaction and without a retryable write",
    61: "a statement that changes one document does not name the whole shard key",
    72: "the same, of an update by something else than _id",
    168: "an option that a view's aggregation does not know",
}
COLLECTIONS = {"hashed": {"_id": "hashed"}, "ranged": {"k": 1}, "both": {"r": 1, "u": "hashed"}}
_WORDS = ("a", "A", "b", "B", "ab", "z", "")


def key_of(number: int) -> dict[str, Any]:
    """The shard key fields of document `number`, so that an `_id` is on one shard only."""
    return {"_id": number, "k": number * 7 % 20 - 10, "r": "ABCD"[number % 4], "u": number % 6}


class Generator:
    """Commands from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._fresh = 1000

    def case(self, length: int) -> list[Command]:
        """Documents to begin with, and `length` commands."""
        begin = [{"insert": name, "documents": [self.document(i) for i in range(20)]} for name in COLLECTIONS]
        return [*begin, *(self.command() for _ in range(length))]

    def pick(self, *choices: Any) -> Any:
        """One of the choices; a function among them is called."""
        choice = self.random.choice(choices)
        return choice() if callable(choice) else choice

    def maybe(self, chance: float) -> bool:
        """True with this chance."""
        return self.random.random() < chance

    def scalar(self) -> Any:
        """A value; numbers are multiples of a half, so that sums do not depend on their order."""
        number = self.random.randint(-4, 8)
        return self.pick(number, number, number / 2, bson.Int64(number), self.random.choice(_WORDS), None, True)

    def value(self) -> Any:
        """A value, sometimes an array or a document."""
        many = [self.scalar() for _ in range(self.random.randint(0, 3))]
        return self.pick(self.scalar, self.scalar, self.scalar, many, {"p": self.scalar(), "q": self.scalar()})

    def number(self) -> int:
        """Of a document that is there, or is not."""
        return self.random.randint(0, 24)

    def document(self, number: int) -> dict[str, Any]:
        """A document with some of the fields x, y, n, tags."""
        fields = {"x": self.value(), "y": self.scalar(), "n": self.random.randint(-9, 9)}
        fields["tags"] = [self.scalar() for _ in range(self.random.randint(0, 4))]
        return {**key_of(number), **{k: v for k, v in fields.items() if self.maybe(0.85)}}

    def collection(self) -> str:
        """Any of the sharded ones."""
        return str(self.random.choice([*COLLECTIONS]))

    def readable(self) -> str:
        """A sharded collection, or the view of one."""
        return str(self.pick(self.collection, self.collection, self.collection, "view"))

    def exact(self, number: int) -> dict[str, Any]:
        """A query that names `_id` and every shard key."""
        return key_of(number)

    def filter(self) -> dict[str, Any]:
        """A query."""
        name = self.pick("_id", "k", "r", "u", "x", "y", "n", "tags", "x.p")
        simple = lambda: {name: self.scalar()}  # noqa: E731
        operator = lambda: {name: {self.pick("$gt", "$gte", "$lt", "$lte", "$ne", "$eq"): self.scalar()}}  # noqa: E731
        several = lambda: {name: {self.pick("$in", "$nin", "$all"): [self.scalar(), self.scalar()]}}  # noqa: E731
        other = lambda: {  # noqa: E731
            name: self.pick({"$exists": self.maybe(0.5)}, {"$type": "number"}, {"$size": 2}, {"$not": {"$gt": 1}},
                            {"$elemMatch": {"$gt": 0}}, {"$regex": "^a"}, {"$mod": [2, 0]}, {"$nope": 1})
        }  # fmt: skip
        joined = lambda: {self.pick("$and", "$or", "$nor"): [self.filter(), self.filter()]}  # noqa: E731
        expression = lambda: {"$expr": {"$gt": ["$n", self.random.randint(-5, 5)]}}  # noqa: E731
        found: dict[str, Any] = self.pick(
            {}, lambda: self.exact(self.number()), lambda: {"k": self.random.randint(-10, 9)},
            simple, operator, operator, several, other, joined, expression,
        )  # fmt: skip
        return found

    def sort(self) -> dict[str, int]:
        """A total order: `_id` decides at the end."""
        names = self.random.sample(["x", "y", "n", "tags", "k", "r", "x.p"], self.random.randint(0, 2))
        return {**{name: self.random.choice([1, -1]) for name in names}, "_id": self.random.choice([1, -1])}

    def projection(self) -> dict[str, Any]:
        """Fields in or out."""
        found: dict[str, Any] = self.pick(
            {"x": 1}, {"x": 0, "tags": 0}, {"_id": 0, "n": 1, "y": 1}, {"x.p": 1}, {"tags": {"$slice": 1}},
            {"sum": {"$add": ["$n", 1]}}, {"tags": {"$elemMatch": {"$gt": 0}}}, {"x": 1, "y": 0},
        )  # fmt: skip
        return found

    def collation(self) -> dict[str, Any]:
        """{"collation": ...}, seldom."""
        return {"collation": {"locale": "en", "strength": self.pick(1, 2)}} if self.maybe(0.12) else {}

    def command(self) -> Command:
        """Any command; a transaction is {"transaction": [commands], "commit": whether}."""
        found: Command = self.pick(
            self.find, self.find, self.find, self.aggregate, self.aggregate, self.count, self.distinct, self.update,
            self.update, self.bulk, self.bulk, self.insert, self.delete, self.modify, self.modify, self.wrong,
            self.transaction,
        )  # fmt: skip
        return found

    def find(self) -> Command:
        """find."""
        found: Command = {"find": self.readable(), "filter": self.filter(), **self.collation()}
        if self.maybe(0.7):
            found["sort"] = self.sort()
            found |= {"skip": self.random.randint(0, 8)} if self.maybe(0.3) else {}
            found |= {"limit": self.random.randint(0, 8)} if self.maybe(0.4) else {}
            found |= {"singleBatch": True} if self.maybe(0.05) else {}
        found |= {"projection": self.projection()} if self.maybe(0.4) else {}
        return found | ({"batchSize": self.random.randint(0, 7)} if self.maybe(0.6) else {})

    def count(self) -> Command:
        """count."""
        found: Command = {"count": self.readable(), "query": self.filter(), **self.collation()}
        found |= {"skip": self.random.randint(0, 8)} if self.maybe(0.3) else {}
        return found | ({"limit": self.random.randint(0, 8)} if self.maybe(0.3) else {})

    def distinct(self) -> Command:
        """distinct."""
        key = self.pick("x", "y", "n", "tags", "k", "x.p", "missing")
        return {"distinct": self.readable(), "key": key, "query": self.filter()}

    def aggregate(self) -> Command:
        """aggregate."""
        stages = [self.stage() for _ in range(self.random.randint(1, 3))]
        flat = [stage for group in stages for stage in group]
        cursor = {"batchSize": self.random.randint(0, 7)} if self.maybe(0.5) else {}
        return {"aggregate": self.readable(), "pipeline": flat, "cursor": cursor, **self.collation()}

    def stage(self) -> list[dict[str, Any]]:
        """A stage, or a sort and what follows it."""
        any_of = self.random.randint
        lookup = {"from": self.collection(), "localField": "n", "foreignField": "k", "as": "found"}
        sums = {"n": {"$sum": "$n"}, "low": {"$min": "$y"}, "high": {"$max": "$n"}, "mean": {"$avg": "$n"}}
        some = dict(self.random.sample(sorted(sums.items()), 2))
        inner = {"from": self.collection(), "let": {"n": "$n"}, "as": "found", "pipeline": [
            {"$match": {"$expr": {"$eq": ["$k", "$$n"]}}}, {"$group": {"_id": None, "s": {"$sum": "$n"}}}]}  # fmt: skip
        found: list[dict[str, Any]] = self.pick(
            lambda: [{"$match": self.filter()}],
            lambda: [{"$sort": self.sort()}, {"$skip": any_of(0, 5)}, {"$limit": any_of(1, 9)}],
            lambda: [{"$group": {"_id": self.pick("$r", "$y", None, {"r": "$r", "u": "$u"}), **some}}],
            [{"$project": {"x": 1, "n": 1, "double": {"$multiply": ["$n", 2]}}}],
            [{"$unwind": {"path": "$tags", "preserveNullAndEmptyArrays": self.maybe(0.5)}}],
            [{"$addFields": {"t": {"$type": "$x"}}}],
            [{"$count": "count"}],
            [{"$sortByCount": "$r"}],
            [{"$facet": {"a": [{"$count": "n"}], "b": [{"$group": {"_id": None, **some}}]}}],
            [{"$lookup": lookup}, {"$addFields": {"found": {"$size": "$found"}}}],
            [{"$lookup": inner}],
            [{"$unionWith": self.readable()}],
            [{"$bucket": {"groupBy": "$k", "boundaries": [-10, -3, 4, 20], "default": "none"}}],
            [{"$replaceRoot": {"newRoot": {"_id": "$_id", "x": "$x"}}}],
            [{"$unset": "tags"}],
            [{"$setWindowFields": {"partitionBy": "$r", "sortBy": {"_id": 1}, "output": {"rank": {"$rank": {}}}}}],
        )  # fmt: skip
        return found

    def modification(self) -> Any:
        """The `u` of an update."""
        name = self.pick("x", "y", "n", "tags", "new", "x.p")
        number = self.random.randint(-3, 3)
        return self.pick(
            lambda: {"$set": {name: self.value()}}, lambda: {"$unset": {name: 1}}, {"$inc": {name: number}},
            {"$mul": {name: 2}}, {"$min": {name: number}}, {"$max": {name: number}}, {"$rename": {"x": "w"}},
            lambda: {"$push": {"tags": self.scalar()}}, lambda: {"$addToSet": {"tags": self.scalar()}},
            lambda: {"$push": {"tags": {"$each": [self.scalar()], "$slice": 3}}},
            lambda: {"$pull": {"tags": self.scalar()}}, {"$pop": {"tags": 1}}, {"$bit": {"n": {"or": 3}}},
            lambda: {"$setOnInsert": {"s": 1}, "$set": {"y": self.scalar()}}, {"$set": {"tags.$[]": number}},
            [{"$set": {"z": {"$concat": ["$r", "!"]}}}, {"$unset": "y"}], {"$frob": {"x": 1}}, {"$set": {"_id": 99}},
            {"$set": {"n": number}, "$inc": {"n": 1}},
        )  # fmt: skip

    def statement(self) -> dict[str, Any]:
        """One of an update command."""
        if self.maybe(0.25):
            return {"q": self.filter(), "u": self.modification(), "multi": True}
        number = self.pick(self.number, self.number, self.number, lambda: self.random.randint(40, 60))
        query = self.exact(number)
        if self.maybe(0.2):
            document = self.document(number)
            return {"q": query, "u": document, **({"upsert": True} if self.maybe(0.5) else {})}
        found: dict[str, Any] = {"q": query, "u": self.modification()}
        if self.maybe(0.1):
            found |= {"u": {"$set": {"tags.$[e]": 5}}, "arrayFilters": [{"e": {"$gt": 0}}]}
        return found | ({"upsert": True} if self.maybe(0.3) else {})

    def update(self) -> Command:
        """An update of one statement."""
        return {"update": self.collection(), "updates": [self.statement()]}

    def insert(self) -> Command:
        """An insert, some of it of documents that are there; duplicates only where `_id` decides the shard."""
        numbers = [
            self.pick(self.number, lambda: self.random.randint(60, 90)) for _ in range(self.random.randint(1, 6))
        ]
        documents = [self.document(number) for number in numbers]
        return {"insert": self.collection(), "documents": documents, "ordered": self.maybe(0.5)}

    def delete(self) -> Command:
        """A delete of several statements."""
        one = lambda: {"q": self.exact(self.number()), "limit": 1}  # noqa: E731
        statements = [
            self.pick(one, lambda: {"q": self.filter(), "limit": 0}) for _ in range(self.random.randint(1, 3))
        ]
        return {"delete": self.collection(), "deletes": statements, "ordered": self.maybe(0.5)}

    def bulk(self) -> Command:
        """An update of several statements."""
        statements = [self.statement() for _ in range(self.random.randint(2, 8))]
        return {"update": self.collection(), "updates": statements, "ordered": self.maybe(0.5)}

    def modify(self) -> Command:
        """findAndModify."""
        found: Command = {"findAndModify": self.collection(), "query": self.exact(self.number())}
        found |= {"remove": True} if self.maybe(0.2) else {"update": self.modification()}
        if "update" in found:
            found |= {"new": self.maybe(0.5)} | ({"upsert": True} if self.maybe(0.3) else {})
        return found | ({"fields": {"x": 1, "n": 1}} if self.maybe(0.3) else {})

    def wrong(self) -> Command:
        """A command no server accepts."""
        name = self.collection()
        found: Command = self.pick(
            {"find": name, "skip": -1}, {"find": name, "frob": 1}, {"find": name, "sort": {"x": "up"}},
            {"count": name, "query": {"$frob": 1}}, {"distinct": name}, {"distinct": name, "key": 5},
            {"aggregate": name, "pipeline": [{"$frob": {}}], "cursor": {}}, {"aggregate": name, "pipeline": {}},
            {"aggregate": name, "pipeline": [{"$group": {"x": 1}}], "cursor": {}}, {"find": name, "limit": -2},
            {"update": name, "updates": [{"q": {"k": 1}, "u": {"$set": {"x": 1}}, "frob": 1}]},
            {"update": name, "updates": []}, {"delete": name, "deletes": [{"q": {}, "limit": 3}]},
            {"delete": name, "deletes": [{"q": {}}]}, {"insert": name, "documents": []}, {"frobnicate": 1},
            {"findAndModify": name, "query": key_of(1)},
            {"findAndModify": name, "query": key_of(1), "remove": True, "new": True},
            {"find": name, "filter": {"x": {"$in": 5}}}, {"find": name, "projection": {"x": 1, "y": 0}},
            {"insert": "view", "documents": [{"_id": 1}]}, {"find": name, "batchSize": -1},
            {"insert": name, "documents": [key_of(70), {**key_of(71), "$x": 1}, key_of(72)]},
            {"aggregate": name, "pipeline": [{"$match": {}}, {"$limit": 0}], "cursor": {}},
        )  # fmt: skip
        return found

    def transaction(self) -> Command:
        """Some commands in a transaction."""
        commands = [self.pick(self.find, self.update, self.insert, self.delete, self.modify, self.group)
                    for _ in range(self.random.randint(1, 4))]  # fmt: skip
        commands = [c | {"ordered": True} if {"insert", "delete"} & c.keys() else c for c in commands]
        return {"transaction": commands, "commit": self.maybe(0.7)}

    def group(self) -> Command:
        """An aggregation that a transaction may run."""
        pipeline = [{"$match": self.filter()}, {"$group": {"_id": "$r", "n": {"$sum": "$n"}}}]
        return {"aggregate": self.collection(), "pipeline": pipeline, "cursor": {}}


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
        if ours == theirs:
            return None
        return f"router {ours}\n  one server {theirs}"

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


def shrink(pair: Pair, difference: Difference) -> Difference:
    """The same difference with as few commands as can be had by leaving some out."""
    best = difference
    step = max(1, len(best.commands) // 2)
    while True:
        at = 0
        while at < len(best.commands) - 1:
            fewer = best.commands[:at] + best.commands[at + step :]
            if fewer and (found := pair.run(best.seed, fewer)):
                best = found
            else:
                at += step
        if step == 1:
            return best
        step //= 2


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


def search(
    pair: Pair, seeds: Any, length: int, done: Callable[[], bool], log: Callable[[str], None]
) -> list[Difference]:
    """Run a case for each seed until `done`; differences, shrunk."""
    found = []
    for seed in seeds:
        if done():
            break
        if difference := pair.run(seed, Generator(seed).case(length)):
            difference = shrink(pair, difference)
            log(str(difference))
            found.append(difference)
    return found
