"""Regions: customers are inserted, changed and deleted on any region node, one on several at a time; all end equal.

The rule is the store's own: of two writes of a row the one with the greater version (time, node) stays.  So no
acknowledged version may be greater than what is there in the end, and what is there must be what its write said.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from ..checks import keyed
from ..checks.staging import Row, Staging
from ..journal import Operation
from ..regions import RegionSystem
from ..regions.connections import Connection
from ..system import Document, NoEffectError
from .workload import Checker, Client, Generator, Rotation, Seen, Workload

KEYS, USES = 12, 60
NODES = 3
INSERT, UPDATE, DELETE, READ = "insert", "update", "delete", "read"
WRITES = frozenset({INSERT, UPDATE, DELETE})
Version = tuple[int, str]
"""When (microseconds since 1970) and on which node; the greater one stays."""
COLLECTION = "customers"
HERE = """SELECT version_time, version_node, deleted, customer_name FROM Customer_Region
    WHERE region = %s AND customer_id = %s"""


class RegionsGenerator(Generator):
    """Half updates, a fifth deletions, the rest insertions of what was deleted, and reads; each on a node by chance."""

    def __init__(self) -> None:
        self._rotation = Rotation(KEYS, USES)

    def next(self, client: int, token: int, dice: random.Random) -> tuple[str, Document]:
        """A function with {key, node}: the number of a node, and for an insertion that of the key's home."""
        key, new = self._rotation.pick(dice)
        chance = dice.random()
        home, anywhere = key % NODES, dice.randrange(NODES)
        if new or chance < 0.15:
            return INSERT, {"key": key, "node": home}
        function = UPDATE if chance < 0.65 else DELETE if chance < 0.8 else READ
        return function, {"key": key, "node": anywhere}


class RegionsClient(Client[RegionSystem]):
    """A write leaves its token as the customer's name (a deletion has none), and learns the version that it made."""

    def invoke(self, function: str, value: Document, token: int) -> Any:
        """{version} of a write, {version, deleted, name} of a read (version None: no row); 0 where nothing was to do.

        What goes wrong before the commit is sent has certainly no effect.
        """
        names = self.system.connections.names
        sent = False
        try:
            with self.system.connections.on(names[value["node"] % len(names)]) as connection:
                region = names[value["key"] % len(names)]
                done = _do(connection, function, region, self.system.key(self.run, value["key"]), str(token))
                sent = True
                connection.commit()
        except psycopg.Error as error:
            if sent:
                raise
            raise NoEffectError(
                f"before commit: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
            ) from None
        return done


def _do(connection: Connection, function: str, region: str, key: str, name: str) -> Any:
    if function == INSERT:
        connection.execute(
            "INSERT INTO Customer_Region (region, customer_id, customer_name, email, city, country)"
            " VALUES (%s, %s, %s, 'ledger', 'ledger', 'XX')",
            (region, key, name),
        )
    elif function == UPDATE:
        statement = (
            "UPDATE Customer_Region SET customer_name = %s WHERE region = %s AND customer_id = %s AND NOT deleted"
        )
        if not connection.execute(statement, (name, region, key)).rowcount:
            return 0
    elif function == DELETE:
        # A deletion becomes a tombstone, so its own count of rows is 0.
        living = "SELECT 1 FROM Customer_Region WHERE region = %s AND customer_id = %s AND NOT deleted FOR UPDATE"
        if not connection.execute(living, (region, key)).fetchone():
            return 0
        connection.execute("DELETE FROM Customer_Region WHERE region = %s AND customer_id = %s", (region, key))
    found = connection.execute(HERE, (region, key)).fetchone()
    if function == READ:
        return {"version": None} if found is None else {"version": found[:2], "deleted": found[2], "name": found[3]}
    assert found is not None, key
    return {"version": found[:2]}


class RegionsChecker(Checker):
    """The same row on every node; it is the one with the greatest version; on no node a version ever goes back."""

    keeps_histories = True
    kinds = {  # noqa: RUF012 - ClassVar in the base
        "diverged": "the nodes do not hold the same row",
        "returned": "a row lives whose last write deleted it",
    }

    def seen(self, staging: Staging) -> Iterator[Seen]:
        """The rows of every node; they are staged for `judge`."""
        rows: list[Row] = [(row["key"], json.dumps(row)) for row in self.documents(COLLECTION)]
        staging.fill("document", rows)
        self._nodes = sorted({json.loads(body)["node"] for _, body in rows})
        return iter(())

    def judge(self, staging: Staging) -> str:
        """Check every key: its rows on the nodes, and what its operations were told."""
        checked = equal = 0
        known = set()
        for key, operations in keyed.histories(staging):
            bodies = staging.ask("SELECT body FROM document WHERE key = ?", key)
            rows = {row["node"]: row for (body,) in bodies for row in (json.loads(body),)}
            known.add(key)
            checked += 1
            equal += self._same_on_every_node(key, rows)
            self._check_end(key, operations, rows.values())
            self._check_versions(key, operations)
        for (key,) in staging.ask("SELECT DISTINCT key FROM document"):
            if key not in known:
                self.found("phantom", f"customer {key} is there although no client journaled it")
        return f"{checked:,} customers, {equal:,} of them the same on {', '.join(self._nodes) or 'no node'}"

    def _same_on_every_node(self, key: int, rows: dict[str, Document]) -> bool:
        told = {node: f"{_words(rows[node])}" if node in rows else "nothing" for node in self._nodes}
        if len(set(told.values())) <= 1:
            return True
        self.found("diverged", f"customer {key}: {'; '.join(f'{node} has {said}' for node, said in told.items())}")
        return False

    def _check_end(self, key: int, operations: list[Operation], rows: Iterable[Document]) -> None:
        """What is there in the end against what was acknowledged."""
        writes = {version: o for o in operations if o.function in WRITES and (version := _version(o))}
        last = max(rows, key=_of_row, default=None)
        lost = [o for version, o in writes.items() if last is None or version > _of_row(last)]
        for operation in lost:
            end = "nothing is there" if last is None else f"the end is {_words(last)}"
            self.found(
                "lost", f"customer {key}: a write was acknowledged with a greater version, {end}", operation.describe()
            )
        if last is None or lost:
            return
        deciding = writes.get(_of_row(last))
        if deciding is None:
            maybe = [o for o in operations if o.function in WRITES and o.outcome == "unknown"]
            if not any(o.function == DELETE if last["deleted"] else last["name"] == str(o.token) for o in maybe):
                self.found("phantom", f"customer {key}: no write that may have happened left {_words(last)}")
        elif deciding.function == DELETE and not last["deleted"]:
            self.found("returned", f"customer {key}: the end is {_words(last)}", deciding.describe())
        elif deciding.function != DELETE and (last["deleted"] or last["name"] != str(deciding.token)):
            self.found("tampered", f"customer {key}: the end is {_words(last)}", deciding.describe())

    def _check_versions(self, key: int, operations: list[Operation]) -> None:
        """No two writes with one version; and on each node what was seen once is never older again."""
        made: dict[Version, Operation] = {}
        newest: dict[int, list[Operation]] = {}
        for operation in sorted((o for o in operations if o.end is not None), key=lambda o: o.end or 0):
            version = _version(operation)
            if version is None:
                continue
            if operation.function in WRITES and (twin := made.setdefault(version, operation)) is not operation:
                self.found(
                    "doubled", f"customer {key}: two writes have one version", twin.describe(), operation.describe()
                )
            before = newest.setdefault(operation.value["node"], [])
            for earlier in reversed(before):
                if (earlier.end or 0) < operation.start and (_version(earlier) or version) > version:
                    words = f"customer {key}: its node answered with an older version than before"
                    self.found("stale", words, earlier.describe(), operation.describe())
                    break
            before.append(operation)


def _version(operation: Operation) -> Version | None:
    """The version that an acknowledged operation was told."""
    if operation.outcome != "ok" or not operation.result or operation.result["version"] is None:
        return None
    moment, node = operation.result["version"]
    return moment, node


def _of_row(row: Document) -> Version:
    moment, node = row["version"]
    return moment, node


def _words(row: Document) -> str:
    moment, node = row["version"]
    return f"{'a deletion' if row['deleted'] else 'name ' + row['name']} of {node} at {moment}"


WORKLOAD = Workload(
    name="regions",
    system=RegionSystem,
    collections={COLLECTION: None},
    generator=RegionsGenerator,
    client=RegionsClient,
    checker=RegionsChecker,
    writes=WRITES,
    by_name_only=True,
)
