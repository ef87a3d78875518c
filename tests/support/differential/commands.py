"""Random commands for the sharded collections of a case, from a seed and nothing else."""

from __future__ import annotations

import random
from typing import Any

import bson

Command = dict[str, Any]
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
        """aggregate, with an answer that is the only right one.

        After $unionWith or $unwind an `_id` may be there twice, and no sort says which comes first.  Under a collation
        a group of texts that are equal has any of them as its `_id`, or as the least of them.  A pipeline that sorts by
        two lists and, under a collation, unites with a view has two mistakes, and either may be told.
        """
        stages = [self.stage() for _ in range(self.random.randint(1, 3))]
        flat: list[dict[str, Any]] = []
        for group in stages:
            if "$sort" not in group[0] or not any(stage.keys() & {"$unionWith", "$unwind"} for stage in flat):
                flat += group
        collation = self.collation()
        if any("$sort" in stage for stage in flat) and {"$unionWith": "view"} in flat:
            collation = {}
        facets = [stage["$facet"]["b"] for stage in flat if "$facet" in stage]
        for group in [stage["$group"] for stage in sum(facets, flat) if collation and "$group" in stage]:
            group |= {"_id": "$r"} if group["_id"] == "$y" else {}
            group.pop("low", None)
        cursor = {"batchSize": self.random.randint(0, 7)} if self.maybe(0.5) else {}
        return {"aggregate": self.readable(), "pipeline": flat, "cursor": cursor, **collation}

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
